"""Vision-language judges: what is loaded, what is refused, and that their answers are read as votes.

Their loading path alone is tested, with a tiny random model: what a real one's judgement is worth was not measured.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import sys
import types

import numpy as np
import pytest
import safetensors
import torch

from rgsud_fast.distillation.generalists import Generalist, load_generalist, load_generalists
from rgsud_fast.errors import UserError

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers, the extra vlm, is not installed"
)
WORDS = ["<unk>", "<pad>", "<image>", "yes", "no", "image", "rain", "1", "2", "?", "."]
IMAGE = np.zeros((40, 60, 3), np.uint8)


class Words:
    """A tokenizer of whole words."""

    unk_token_id = 0
    known = ("<unk>", "yes", "no")

    def __call__(self, text, add_special_tokens=False):
        word = text.strip().lower()
        return {"input_ids": [self.known.index(word) if word in self.known else 0]}


class Inputs(dict):
    def to(self, device):
        return self


class Processor:
    tokenizer, chat_template = Words(), None

    def __init__(self):
        self.seen = []

    def __call__(self, text, images, return_tensors):
        self.seen.append((text[0], [image.size for image in images]))
        return Inputs(number=len(self.seen))


class Model:
    device = "cpu"

    def __init__(self, *chances):
        self.chances = chances

    def __call__(self, number):
        yes = self.chances[(number - 1) % len(self.chances)]
        chances = torch.tensor([0.2, 0.8 * yes, 0.8 * (1 - yes)]).clamp_min(1e-9)
        return type("Output", (), {"logits": chances.log()[None, None]})


def test_the_score_is_the_mean_chance_of_yes_over_four_questions():
    processor = Processor()
    judge = Generalist("it", Model(0.9, 0.5, 0.1, 0.7), processor)
    assert judge.score(IMAGE, IMAGE, [IMAGE] * 2) == pytest.approx(0.55, abs=1e-6)
    assert len(processor.seen) == 4 and all(text.count("<image>") == len(sizes) == 4 for text, sizes in processor.seen)


def test_images_are_at_most_512_pixels_long():
    processor = Processor()
    Generalist("it", Model(1.0), processor).score(np.zeros((700, 1400, 3), np.uint8), IMAGE, [])
    assert processor.seen[0][1] == [(512, 256), (60, 40)]


def test_a_tokenizer_without_yes_and_no_is_refused():
    processor = Processor()
    processor.tokenizer = type("Mute", (Words,), {"known": ("<unk>",)})()
    with pytest.raises(UserError, match="does not tell yes from no"):
        Generalist("it", Model(1.0), processor)


def folder_with(path, **files):
    path.mkdir()
    for name, content in files.items():
        (path / name.replace("_DOT_", ".")).write_text(content)
    return path


@pytest.mark.parametrize(
    "files, told",
    [
        ({}, "has no config.json: give the folder of a vision-language model"),
        (
            {"config_DOT_json": '{"auto_map": {"AutoModel": "model.Own"}}'},
            r"code of its own \(auto_map\), which is never",
        ),
        (
            {"config_DOT_json": "{}", "processor_config_DOT_json": '{"auto_map": {}}'},
            "processor_config.json asks for code",
        ),
        ({"config_DOT_json": "{}", "modeling_own_DOT_py": "1 / 0"}, "modeling_own.py is code, which is never run"),
        (
            {"config_DOT_json": "{}", "pytorch_model_DOT_bin": ""},
            "has no .safetensors: weights are read in that format",
        ),
        ({"config_DOT_json": "{}", "adapter_config_DOT_json": "{}"}, "is an adapter to another model"),
        ({"config_DOT_json": "[1]"}, "no configuration"),
        ({"config_DOT_json": "{"}, "cannot be read"),
    ],
    ids=["empty", "code", "code of the processor", "python", "pickle", "adapter", "list", "damaged"],
)
def test_folders_that_are_refused(tmp_path, files, told):
    with pytest.raises(UserError, match=told) as caught:
        load_generalist(folder_with(tmp_path / "model", **files))
    assert "\n" not in str(caught.value)


def test_without_transformers_the_extra_is_named(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "transformers" else found(name)
    )
    with pytest.raises(UserError, match=r"need transformers: pip install -e '\.\[vlm\]'"):
        load_generalist(folder_with(tmp_path / "model", config_DOT_json="{}", model_DOT_safetensors=""))


@pytest.mark.parametrize("name", ["gpt", "vlm:", "clip:x"])
def test_other_names_are_refused(name):
    with pytest.raises(UserError, match="give vlm:FOLDER"):
        load_generalists([name])


@needs_transformers
def test_an_unknown_architecture_is_one_line(tmp_path):
    folder = folder_with(tmp_path / "model", config_DOT_json='{"model_type": "nothing"}', model_DOT_safetensors="")
    with pytest.raises(UserError, match="transformers cannot load it") as caught:
        load_generalist(folder)
    assert "\n" not in str(caught.value)


@pytest.fixture
def tiny(tmp_path):
    """A LLaVA of some thousand random weights, as transformers saves it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    words = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "additional_special_tokens": ["<image>"]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **special)
    images = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    select = {"vision_feature_select_strategy": "default"}  # all but the class token, which is the additional one
    processor = LlavaProcessor(images, tokenizer, patch_size=14, num_additional_image_tokens=1, **select)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = CLIPVisionConfig(image_size=28, patch_size=14, projection_dim=8, **sizes)
    language = LlamaConfig(vocab_size=len(WORDS), **sizes)
    config = LlavaConfig(vision_config=vision, text_config=language, image_token_index=2)
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(tmp_path / "tiny")
    processor.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@needs_transformers
def test_a_tiny_model_of_a_native_architecture_is_loaded_and_asked(tiny, monkeypatch):
    import socket

    def refuse(*args):
        raise AssertionError("it went to the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    (judge,) = load_generalists([f"vlm:{tiny}"])
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    first, again = (judge.score(noise, IMAGE, [IMAGE] * 3) for _ in range(2))
    assert judge.name == "tiny" and 0 < first < 1 and first == again


@needs_transformers
def test_code_beside_a_model_that_would_load_is_refused_all_the_same(tiny):
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoConfig": "own.Config"}}))
    with pytest.raises(UserError, match="asks for code of its own"):
        load_generalist(tiny)


def test_damaged_weights_are_one_line(tmp_path, monkeypatch):
    def damaged(folder, **options):
        raise safetensors.SafetensorError("Error while deserializing header")  # of no class but Exception

    fake = types.ModuleType("transformers")
    fake.__spec__ = importlib.machinery.ModuleSpec("transformers", None)
    fake.AutoProcessor = fake.AutoModelForImageTextToText = types.SimpleNamespace(from_pretrained=damaged)
    monkeypatch.setitem(sys.modules, "transformers", fake)
    with pytest.raises(UserError, match=r"transformers cannot load it \(Error while deserializing header\)"):
        load_generalist(folder_with(tmp_path / "model", config_DOT_json="{}", model_DOT_safetensors=""))
