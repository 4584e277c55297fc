"""A vision transformer's patches in the maps' truth: offline, equal images are unspoiled, and the fit learns by it."""

from __future__ import annotations

import importlib.util
import types

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rgsud_fast.errors import UserError
from rgsud_fast.iqa.finpercep import features as module
from rgsud_fast.iqa.finpercep import fit as fitting
from rgsud_fast.iqa.finpercep.features import PatchFeatures, read_features
from rgsud_fast.iqa.finpercep.generated import Material, draw_batch, spoiled_truth, with_truths_by

needs_timm = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm, of the extra daclip, is missing"
)
NAME = "vit_tiny_patch16_224"


class Patches(torch.nn.Module):
    """In a transformer's place: a token of ones, then the mean colour of each patch of 16."""

    num_prefix_tokens = 1

    class patch_embed:  # timm's name
        patch_size = (16, 16)

    def forward_features(self, x):
        means = torch.nn.functional.avg_pool2d(x, 16).flatten(2).transpose(1, 2)
        return torch.cat([torch.ones_like(means[:, :1]), means], 1)


@pytest.fixture
def patches():
    return PatchFeatures(Patches(), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_equal_images_are_unspoiled_and_the_patch_that_changed_is_found(patches):
    clean = torch.rand(2, 3, 40, 56)
    assert not patches(clean, clean).any()
    other = clean.clone()
    other[1, 0, 8:16, 16:24] = 0.0  # a patch of 8 pixels, since images are enlarged twice
    apart = patches(other, clean)
    assert apart.shape == (2, 1, 40, 56) and not apart[0].any() and apart.min() >= 0 and apart.max() <= 1
    assert divmod(int(apart[1].argmax()), 56)[0] in range(8, 16) and not apart[1, :, 28:, :].any()
    tokens = [torch.nn.functional.avg_pool2d(x[1:, :, 8:16, 16:24], 8).flatten() for x in (other, clean)]
    expected = 1 - torch.nn.functional.cosine_similarity(*tokens, dim=0)
    assert 0.7 * expected < apart[1].max() < expected  # of patches, drawn out to pixels


def test_it_takes_the_place_of_the_second_half_of_the_truth(patches):
    clean, image = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    by_patches = spoiled_truth(image, clean, patches)
    pixel = by_patches - 0.5 * patches(image, clean)
    assert torch.allclose(pixel, spoiled_truth(image, clean, lambda a, b: torch.zeros_like(a[:, :1])))
    photographs = [np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8) for i in range(2)]
    batch = draw_batch(Material(photographs), 0, 0, 2, 48)
    changed = with_truths_by(batch, patches)
    assert torch.equal(changed.weak_truth, spoiled_truth(batch.weak, batch.clean, patches))
    assert not torch.equal(changed.swapped_truth, batch.swapped_truth) and with_truths_by(batch, None) is batch


def test_a_fit_learns_the_truth_by_them(patches, monkeypatch):
    seen, terms = [], fitting.terms_of
    monkeypatch.setattr(fitting, "terms_of", lambda net, batch, *rest: seen.append(batch) or terms(net, batch, *rest))
    scorer = types.SimpleNamespace(anchors=lambda clean: torch.full((len(clean),), 0.5))
    photographs = [np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8) for i in range(2)]
    fit = fitting.Fit(Material(photographs), scorer, recipe=fitting.Recipe(48, 2, 3, 1e-3), structure=patches)
    fit.advance(fit.batch(0))
    whole = with_truths_by(fit.batch(0), patches)
    assert torch.equal(torch.cat([half.weak_truth for half in seen]), whole.weak_truth)


@pytest.mark.parametrize("name", ["dino", "timm:", "timm:vit_tiny_patch16_224", "clip:a,b"])
def test_other_forms_are_refused(name):
    with pytest.raises(UserError, match="give timm:NAME,FILE"):
        read_features(name)


def test_missing_files_and_timm_are_told(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no such file as"):
        read_features(f"timm:{NAME},{tmp_path / 'none.safetensors'}")
    (tmp_path / "some.safetensors").touch()
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs timm: pip install -e '\.\[daclip\]'"):
        read_features(f"timm:{NAME},{tmp_path / 'some.safetensors'}")


@needs_timm
def test_a_tiny_random_transformer_of_timm_is_loaded_offline(tmp_path, monkeypatch):
    import socket

    import timm

    def refuse(*args):
        raise AssertionError("it went to the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    tiny = {"embed_dim": 16, "depth": 1, "num_heads": 2}
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **options: create(name, **options | tiny))
    model = timm.create_model(NAME, pretrained=False, num_classes=0, dynamic_img_size=True)
    path = tmp_path / "tiny.safetensors"
    save_file(model.state_dict(), path)
    found = read_features(f"timm:{NAME},{path}")
    clean, image = torch.rand(1, 3, 96, 96), torch.rand(1, 3, 96, 96)
    assert not found(clean, clean).any() and found(image, clean).any()
    torch.save(model.state_dict(), tmp_path / "tiny.pth")
    assert torch.equal(read_features(f"timm:{NAME},{tmp_path / 'tiny.pth'}")(image, clean), found(image, clean))
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("norm")}
    save_file(state, path)
    with pytest.raises(UserError, match=r"lacks norm\.weight: it holds another model"):
        read_features(f"timm:{NAME},{path}")
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read") as caught:
        read_features(f"timm:{NAME},{path}")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="timm makes no transformer resnet18"):
        read_features(f"timm:resnet18,{path}")
