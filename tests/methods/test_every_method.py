"""What holds of every method: training, resume, files, and everything that is done with a trained run."""

from __future__ import annotations

import warnings

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny import darkness, run_of, train_and_interrupt

import rgsud_fast
from rgsud_fast.config import Config, merge
from rgsud_fast.config.parts import PARTS
from rgsud_fast.errors import UserError
from rgsud_fast.inference.export import export
from rgsud_fast.inference.rain import rain
from rgsud_fast.methods.build import METHODS, find_method
from rgsud_fast.methods.method import Method, Painter
from rgsud_fast.training import train

each_method = pytest.mark.parametrize("method", METHODS)


def weights_of(result):
    return {path.stem: load_file(path) for path in result.run_dir.glob("*.safetensors")}


@each_method
def test_a_method_names_its_parts(method):
    module = METHODS[method]
    assert isinstance(module, Method) and method == module.NAME
    assert {"derainer", *module.TOGETHER, *module.JUDGES} == set(PARTS[method])


@each_method
def test_a_run_is_used_as_any_other(config, tmp_path, method):
    result = train(run_of(config, method), scorer=darkness, quiet=True)
    assert set(weights_of(result)) == set(PARTS[method])
    assert {"psnr_rgb", "filter_psnr_rgb", "stage1_psnr_rgb"} <= result.metrics.keys()
    photo = tmp_path / "photo.png"
    Image.new("RGB", (45, 37), (90, 120, 60)).save(photo)
    assert rgsud_fast.derain(result.run_dir, photo).shape == (3, 37, 45)
    figures = rgsud_fast.evaluate(result.run_dir, config["data"]["val_rainy"], config["data"]["val_clean"])
    assert figures
    exported = export(result.run_dir, "torchscript", tmp_path / "derainer.pt")
    assert exported.difference <= 1e-5
    page = result.run_dir.joinpath("gallery.html").read_text(encoding="utf-8")
    paints = isinstance(METHODS[method], Painter)
    assert (">pseudo rainy<" in page) == paints
    assert all(part.does in result.run_dir.joinpath("README.md").read_text() for part in PARTS[method].values())
    folders = config["data"]["clean"], config["data"]["rainy"], tmp_path / "pairs"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if paints:
            assert len(rain(result.run_dir, *folders)) == 2
        else:
            with pytest.raises(UserError, match="paints no rain"):
                rain(result.run_dir, *folders)


@each_method
@pytest.mark.parametrize("stop", [3, 8], ids=["in stage 1", "in stage 2"])
def test_a_resumed_run_ends_in_the_bits_of_an_unbroken_one(config, tmp_path, monkeypatch, method, stop):
    config = run_of(config, method)
    whole = train(config, scorer=darkness, quiet=True)
    broken = config | {"out": str(tmp_path / "broken")}
    train_and_interrupt(broken, stop - 1, monkeypatch)
    resumed = train(broken, scorer=darkness, resume=True, quiet=True)
    for kind, tensors in weights_of(whole).items():
        other = weights_of(resumed)[kind]
        assert all(torch.equal(tensor, other[name]) for name, tensor in tensors.items()), kind


def test_a_run_is_not_resumed_by_another_method(config, monkeypatch):
    train_and_interrupt(run_of(config, "rgsud"), 2, monkeypatch)
    with pytest.raises(UserError, match="checkpoint is of the method rgsud, not cyclegan"):
        train(run_of(config, "cyclegan"), scorer=darkness, resume=True, quiet=True)


@pytest.mark.parametrize(
    "method, field", [("cyclegan", "residual"), ("cut", "antialias"), ("nlcl", "residual"), ("csud", "residual")]
)
def test_a_run_is_not_resumed_by_other_networks_of_the_same_tensors(config, monkeypatch, method, field):
    config = run_of(config, method)
    train_and_interrupt(config, 2, monkeypatch)
    was = getattr(getattr(Config(**config), method), field)
    changed = merge(config, {method: {field: not was}})
    with pytest.raises(UserError, match=rf"is built by .*{field}.* in the checkpoint; start a new run"):
        train(changed, scorer=darkness, resume=True, quiet=True)


def test_a_method_of_the_users_own_is_told_what_it_lacks():
    class Mine:
        NAME = "mine"
        TOGETHER = JUDGES = ()

    with pytest.raises(UserError, match="method mine lacks build, trained, reads"):
        find_method(None, Mine())
