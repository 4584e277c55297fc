"""CLIP and a captioner of the user's: what is loaded, and that an index finds by them. Tiny random models alone."""

from __future__ import annotations

import importlib.util
import sqlite3
import types

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scenes import pair, scene, write_all

from rgsud_fast.distillation import encoders as encoders_module
from rgsud_fast.distillation import index as index_module
from rgsud_fast.distillation.embeddings import embed
from rgsud_fast.distillation.encoders import (
    Captioner,
    Clip,
    Encoders,
    identity_of,
    load_encoders,
    load_remembered,
)
from rgsud_fast.distillation.index import index
from rgsud_fast.distillation.references import References
from rgsud_fast.distillation.type_network import TypeNetwork
from rgsud_fast.errors import UserError

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers, the extra vlm, is not installed"
)
WORDS = ["<unk>", "<pad>", "<bos>", "<eos>", "rain", "on", "a", "dark", "bright", "street"]


class FakeClip:
    """Four numbers of an image, and of a text by its length."""

    size = 4

    def image(self, image):
        return torch.nn.functional.normalize(torch.tensor([*image.mean((0, 1)) / 255, 0.5]).float(), dim=0)

    def text(self, text):
        return torch.nn.functional.normalize(torch.tensor([len(text) / 9, 1.0, 0, 0]), dim=0)


class FakeCaptioner:
    def caption(self, image):
        return "dark" if image.mean() < 100 else "a bright street"


@pytest.fixture
def folders(tmp_path):
    """Folders that pass for models'."""
    found = []
    for name in ("clip", "captions"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(name.encode())
        found.append(tmp_path / name)
    return found


@pytest.fixture
def faked(monkeypatch, folders):
    """What loads models gives fakes; the arguments of its calls."""
    asked = []

    def load(clip=None, captions=None, device="cpu"):
        asked.append((clip, captions))
        return Encoders(FakeClip() if clip else None, FakeCaptioner() if captions else None)

    monkeypatch.setattr(index_module, "check_encoders", lambda *both: None)
    monkeypatch.setattr(index_module, "load_encoders", load)
    monkeypatch.setattr("rgsud_fast.distillation.encoders.load_encoders", load)
    return asked


def test_an_index_with_clip_finds_by_its_features(tmp_path, folders, faked):
    write_all(tmp_path / "real", [pair(1000 + i, 60, 64)[0] for i in range(24)])
    clean = write_all(tmp_path / "clean", [scene(0)])
    options = {"clean": clean, "iterations": 1, "device": "cpu"}
    index(tmp_path / "real", tmp_path / "plain", **options)
    index(tmp_path / "real", tmp_path / "index", clip=folders[0], **options)
    plain, found = References(tmp_path / "plain"), References(tmp_path / "index")
    query = embed(scene(3), found.network, encoders=found.encoders)
    assert query.visual.shape == (4,) and query.caption.shape == (12,) and query.probabilities.shape == (4,)
    near = found.nearest(query, levels=(0, 5, 0))
    stored = np.load(tmp_path / "index" / "visual.npy")
    assert near == np.argsort(np.square(stored - query.visual).sum(1), kind="stable")[:5].tolist()
    assert plain.digest != found.digest and plain.encoders == Encoders()
    with pytest.raises(UserError, match="was made with other values of: clip"):
        index(tmp_path / "real", tmp_path / "index", **options)


def test_words_of_a_captioner_take_the_place_of_numbers_and_are_kept(tmp_path, folders, faked):
    images = [np.full((60, 64, 3), 40 if i < 12 else 200, np.uint8) + scene(i, 60, 64) // 9 for i in range(24)]
    write_all(tmp_path / "real", images)
    clip, captions = folders
    clean = write_all(tmp_path / "clean", [scene(0)])
    index(tmp_path / "real", tmp_path / "index", clip=clip, captions=captions, clean=clean, iterations=1, device="cpu")
    with sqlite3.connect(tmp_path / "index" / "index.sqlite") as database:
        words = [row[0] for row in database.execute("SELECT caption FROM rows ORDER BY number")]
    assert words == ["dark"] * 12 + ["a bright street"] * 12
    found = References(tmp_path / "index")
    query = embed(images[3], found.network, encoders=found.encoders)
    assert query.words == "dark" and sorted(found.nearest(query, levels=(12, 0, 0)))[-1] < 12
    assert faked[-1] == (clip, captions)


def test_another_model_in_the_folder_is_refused(tmp_path, folders, faked):
    kept = identity_of(*folders)
    assert load_remembered(kept).captioner is not None and load_remembered({}).clip is None
    (folders[1] / "model.safetensors").write_bytes(b"another")
    with pytest.raises(UserError, match="no longer holds the model that the index was made with"):
        load_remembered(kept)


@pytest.mark.parametrize(
    "clip, captions, told",
    [
        (None, "captions", "give --clip FOLDER beside --captions"),
        ("nowhere", None, "has no config.json: give the folder of a CLIP model"),
        ("code", None, "asks for code of its own"),
    ],
)
def test_what_cannot_be_used_is_told_before_anything_is_read(tmp_path, folders, clip, captions, told, monkeypatch):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "config.json").write_text('{"auto_map": {}}')
    first, second = (tmp_path / name if name else None for name in (clip, captions))
    with pytest.raises(UserError, match=told) as caught:
        index(tmp_path, tmp_path / "x", clip=first, captions=second)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_a_model_that_needs_a_question_is_refused_before_any_photograph(folders, monkeypatch):
    model = torch.nn.Identity()
    model.config = types.SimpleNamespace(projection_dim=4)

    def ask(**given):
        raise ValueError("no text\nis given")

    monkeypatch.setattr(encoders_module, "check_encoders", lambda *both: None)
    monkeypatch.setattr(encoders_module, "load_offline", lambda folder, kind: (model, ask))
    assert load_encoders(folders[0]).clip.size == 4
    with pytest.raises(UserError, match=r"says nothing of an image alone \(no text is given\)") as caught:
        load_encoders(*folders)
    assert "\n" not in str(caught.value)


@pytest.fixture
def tiny(tmp_path):
    """A CLIP and a BLIP of some thousand random weights, as transformers saves them."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import (
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
        BlipTextConfig,
        BlipVisionConfig,
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPProcessor,
        CLIPTextConfig,
        CLIPVisionConfig,
        PreTrainedTokenizerFast,
    )

    words = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = TemplateProcessing(single="<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 3)])
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=16, **special)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"vocab_size": len(WORDS), "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
    crop = {"height": 28, "width": 28}
    torch.manual_seed(0)
    text = CLIPTextConfig(max_position_embeddings=16, **ids, **sizes)
    vision = CLIPVisionConfig(image_size=28, patch_size=14, **sizes)
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)
    CLIPModel(config).save_pretrained(tmp_path / "tiny-clip")
    images = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size=crop)
    CLIPProcessor(images, tokenizer).save_pretrained(tmp_path / "tiny-clip")
    text = BlipTextConfig(max_position_embeddings=64, encoder_hidden_size=16, sep_token_id=3, **ids, **sizes)
    vision = BlipVisionConfig(image_size=28, patch_size=14, **sizes)
    blip = BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)
    BlipForConditionalGeneration(blip).save_pretrained(tmp_path / "tiny-blip")
    BlipProcessor(BlipImageProcessor(size=crop), tokenizer).save_pretrained(tmp_path / "tiny-blip")
    return tmp_path / "tiny-clip", tmp_path / "tiny-blip"


@needs_transformers
def test_tiny_models_of_native_architectures_are_loaded_offline_and_asked(tiny, monkeypatch, tmp_path):
    import socket

    def refuse(*args):
        raise AssertionError("it went to the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    found = load_encoders(*tiny)
    assert isinstance(found.clip, Clip) and isinstance(found.captioner, Captioner) and found.clip.size == 8
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    seen, again = (embed(noise, TypeNetwork().eval(), encoders=found) for _ in range(2))
    assert seen.words == again.words and np.array_equal(seen.visual, again.visual)
    for vector in (seen.caption, seen.visual):
        assert vector.shape == (8,) and np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert not torch.equal(found.clip.text("rain on a street"), found.clip.text("dark"))


@needs_transformers
def test_weights_that_lack_a_part_are_refused(tiny):
    path = tiny[0] / "model.safetensors"
    kept = {name: value for name, value in load_file(path).items() if not name.startswith("text_model")}
    save_file(kept, path, {"format": "pt"})
    with pytest.raises(UserError, match="its weights lack text_model"):
        load_encoders(tiny[0])


@needs_transformers
def test_a_model_of_another_kind_is_one_line(tiny):
    with pytest.raises(UserError, match="transformers cannot load it") as caught:
        load_encoders(tiny[1])
    assert "\n" not in str(caught.value)
