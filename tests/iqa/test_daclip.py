"""DACLIP-IQA from a small random checkpoint in the published format, its conversion, and what goes wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rgsud_fast.data import to_batch
from rgsud_fast.errors import UserError
from rgsud_fast.iqa import convert_daclip, load_daclip, load_scorer, make_scorer, save_scorer
from rgsud_fast.iqa.daclip import HOME, RAINDROP, RAINY, WORDS
from rgsud_fast.ops import clip_preprocess

SIDE, PATCH, WIDTH, DEPTH, OUT, CONTEXT = 64, 16, 64, 2, 32, 77


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The names and shapes of daclip_ViT-B-32.pt, but two layers of 64 channels: CLIP, its controller, one scale."""
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    vision = open_clip.transformer.VisionTransformer(SIDE, PATCH, WIDTH, DEPTH, 1, 4.0, output_dim=OUT)
    text = open_clip.transformer.TextTransformer(CONTEXT, width=WIDTH, heads=1, layers=DEPTH, output_dim=OUT)
    weights = {"logit_scale": torch.tensor(4.6), "clip.logit_scale": torch.tensor(4.6)}
    for name, value in vision.state_dict().items():
        weights[f"clip.visual.{name}"] = weights[f"visual.{name}"] = torch.zeros_like(value)  # never to be used
        weights["visual_control." + name.replace("transformer.", "transformer.transformer.")] = value
    for layer in range(DEPTH):
        weights[f"visual_control.transformer.zero_modules.{layer}.weight"] = torch.full((WIDTH, WIDTH), 9.0)
        weights[f"visual_control.transformer.zero_modules.{layer}.bias"] = torch.full((WIDTH,), 9.0)
    weights |= {f"clip.{name}": value for name, value in text.state_dict().items()}
    path = tmp_path_factory.mktemp("daclip") / "daclip_ViT-B-32.pt"
    torch.save(weights, path)
    return path, vision.eval(), text.eval(), open_clip


def test_is_one_minus_the_chance_of_rainy(checkpoint):
    path, vision, text, open_clip = checkpoint
    images = torch.rand(3, 3, 90, 120)
    with torch.no_grad():
        words = F.normalize(text(open_clip.tokenizer.SimpleTokenizer()(list(WORDS))), dim=1)
        features = F.normalize(vision(clip_preprocess(images, SIDE)), dim=1)
        chances = (100 * features @ words.T).softmax(1)
    scorer = load_daclip(path)
    torch.testing.assert_close(scorer.score(images), 1 - chances[:, RAINY], rtol=0, atol=1e-5)
    scorer.raindrops = True
    expected = 1 - chances[:, RAINY] - chances[:, RAINDROP]
    torch.testing.assert_close(scorer.score(images, rainy=images), expected, rtol=0, atol=1e-5)


def test_the_converted_file_scores_alike_and_holds_nothing_else(checkpoint, tmp_path):
    path, vision, _, _ = checkpoint
    convert_daclip(path, tmp_path / "daclip.safetensors")
    images = torch.rand(2, 3, 70, 64)
    assert torch.equal(load_daclip(tmp_path / "daclip.safetensors").score(images), load_daclip(path).score(images))
    numbers = sum(value.numel() for value in vision.state_dict().values()) + len(WORDS) * OUT
    assert (tmp_path / "daclip.safetensors").stat().st_size < 4 * numbers + 10_000


def test_tiles_see_what_the_shrunk_image_hides(checkpoint):
    scorer = load_daclip(checkpoint[0])
    images = torch.rand(1, 3, 2 * SIDE, 2 * SIDE)
    shrunk = scorer.score(images)
    scorer.tiles = True
    quarters = [images[:, :, y : y + SIDE, x : x + SIDE] for y in (0, SIDE) for x in (0, SIDE)]
    alone = torch.cat([scorer.score(quarter) for quarter in quarters])
    torch.testing.assert_close(scorer.score(images), alone.mean(0, keepdim=True), rtol=0, atol=1e-5)
    assert not torch.equal(scorer.score(images), shrunk)
    small = torch.rand(1, 3, 40, 50)
    assert scorer.score(small).isfinite().all()


def test_a_score_depends_on_no_other_image(checkpoint):
    scorer = load_daclip(checkpoint[0])
    images = torch.rand(3, 3, 80, 80)
    alone = scorer.score(images[1:2])
    images[0, 0, 0, 0] = torch.nan
    scores = scorer.score(images)
    assert scores.isnan().tolist() == [True, False, False]
    assert torch.equal(scores[1:2], alone)


def test_without_weights_the_error_names_file_home_and_place(tmp_path, monkeypatch):
    monkeypatch.setenv("RGSUD_WEIGHTS", str(tmp_path))
    with pytest.raises(UserError) as error:
        make_scorer("daclip", (), ())
    for told in ("daclip_ViT-B-32.pt", HOME, str(tmp_path), "convert-daclip"):
        assert told in str(error.value)


def test_the_folder_of_weights_is_looked_into(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("RGSUD_WEIGHTS", str(tmp_path))
    convert_daclip(checkpoint[0], tmp_path / "daclip.safetensors")
    assert make_scorer("daclip", (), ()).score(torch.rand(1, 3, 64, 64)).isfinite().all()


def test_files_of_something_else_are_refused(checkpoint, tmp_path):
    weights = torch.load(checkpoint[0], weights_only=True)
    damaged = {name: value for name, value in weights.items() if name != "visual_control.conv1.weight"}
    for name, content in {"other.pt": {"a": torch.zeros(1)}, "damaged.pt": damaged, "list.pt": [1, 2]}.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(UserError, match=f"DACLIP weights .*{name}"):
            load_daclip(tmp_path / name)
    for name in ("noise.pt", "noise.safetensors"):
        (tmp_path / name).write_bytes(b"\x80\x04noise")
        with pytest.raises(UserError, match="DACLIP weights"):
            load_daclip(tmp_path / name)


def test_a_saved_run_scores_alike_with_its_file_and_options(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("RGSUD_WEIGHTS", str(tmp_path / "nothing here"))
    name = f"daclip:{checkpoint[0]}"
    scorer = make_scorer(name, (), ())
    scorer.tiles, scorer.raindrops = True, True
    save_scorer(scorer, tmp_path / "scorer.safetensors", name)
    images = torch.rand(1, 3, 100, 130)
    assert torch.equal(load_scorer(tmp_path / "scorer.safetensors").score(images), scorer.score(images))
    checkpoint_gone = "daclip:" + str(tmp_path / "gone.pt")
    save_scorer(scorer, tmp_path / "scorer.safetensors", checkpoint_gone)
    with pytest.raises(UserError, match=r"gone\.pt: no such file"):
        load_scorer(tmp_path / "scorer.safetensors")


def test_an_ensemble_is_fitted_to_members_as_they_will_score(checkpoint):
    rng = np.random.default_rng(0)
    photographs = [rng.integers(0, 256, (100, 110, 3), dtype=np.uint8) for _ in range(5)]

    def configure(member):
        member.raindrops = True

    name = f"daclip:{checkpoint[0]}"
    ensemble = make_scorer(f"ensemble:[{name},{name}]", photographs, (), configure=configure)
    alone = make_scorer(name, (), (), configure=configure)
    scores = torch.cat([alone.score(to_batch(image)) for image in photographs])
    assert torch.equal(ensemble.references[0], scores.sort().values)
