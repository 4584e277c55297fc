"""Published layouts by their names and shapes alone: each one loads, from every holder, and derains alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rgsud_fast import derain
from rgsud_fast.errors import UserError
from rgsud_fast.inference.evaluate import evaluate
from rgsud_fast.inference.export import export
from rgsud_fast.inference.rain import rain
from rgsud_fast.networks.derainers.start import read_derainer
from rgsud_fast.networks.weights import load_network, read_metadata

TABLE = json.loads((Path(__file__).parent / "nafnet_layouts.json").read_text())
NAMINGS = TABLE["columns"][:3]
SIZES = {"width": 16, "encoder": [1, 1, 1, 1], "middle": 1, "decoder": [1, 1, 1, 1]}


def tensors_of(naming, seed=0):
    """The same numbers under the names of a layout."""
    generator = torch.Generator().manual_seed(seed)
    column = TABLE["columns"].index(naming)
    return {row[column]: torch.randn(row[3], generator=generator) / 5 for row in TABLE["rows"]}


def prefixed(tensors, prefix):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def derained(path):
    image = torch.rand(1, 3, 17, 24, generator=torch.Generator().manual_seed(1))
    return load_network(path, "derainer")(image)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    path = tmp_path_factory.mktemp("wanted") / "n.pth"
    torch.save({"params": tensors_of("nafnet")}, path)
    assert read_derainer(path).sizes == SIZES
    return derained(path)


HOLDERS = (
    *("params", "params_ema", "state_dict", "model_state_dict", "model", "net", "generator", "ema", "model_ema"),
    "state_dict_ema",
)
PREFIXES = ("", "module.", "_orig_mod.", "module._orig_mod.", "model.", "net.", "net_g.module.", "a.b.c.")


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("holder", [None, *HOLDERS])
def test_every_holder_in_three_namings_derains_alike(tmp_path, wanted, naming, holder):
    tensors = tensors_of(naming)
    torch.save(tensors if holder is None else {"epoch": 3, holder: tensors}, tmp_path / "n.pth")
    assert (derained(tmp_path / "n.pth") - wanted).abs().max() < 1e-6
    assert read_metadata(tmp_path / "n.pth") == {}


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_prefix_in_three_namings_derains_alike(tmp_path, wanted, naming, prefix):
    save_file(prefixed(tensors_of(naming), prefix), tmp_path / "n.safetensors", metadata={"format": "pt"})
    torch.save({"state_dict": prefixed(tensors_of(naming), prefix)}, tmp_path / "n.ckpt")
    for name in ("n.safetensors", "n.ckpt"):
        assert (derained(tmp_path / name) - wanted).abs().max() < 1e-6


@pytest.mark.parametrize("naming", NAMINGS)
def test_a_moving_average_comes_first_and_what_is_beside_the_network_is_passed_over(tmp_path, wanted, naming):
    right, wrong = tensors_of(naming), tensors_of(naming, seed=9)
    averaged = prefixed(right, "module.") | {"n_averaged": torch.tensor(5)}
    compiled = {name.replace(".0.", "._orig_mod.0.", 1): tensor for name, tensor in right.items()}
    for content in (
        {"model_state_dict": wrong, "ema_state_dict": right},
        {"params": wrong, "params_ema": prefixed(right, "module.")},
        {"model": wrong, "ema": averaged},
        {"state_dict": prefixed(wrong, "net.") | prefixed(right, "net_ema.")},
        {"state_dict": prefixed(right, "net.") | {"loss.vgg.0.weight": torch.zeros(3)}},
        {"params": compiled},
    ):
        torch.save(content, tmp_path / "n.pth")
        assert (derained(tmp_path / "n.pth") - wanted).abs().max() < 1e-6, list(content)


def test_a_network_that_is_none_of_them_is_told_what_to_do(tmp_path):
    torch.save({"state_dict": {"patch_embed.proj.weight": torch.zeros(8, 3, 3, 3)}}, tmp_path / "restormer.pth")
    with pytest.raises(UserError, match=r"restormer\.pth holds no NAFNet or .*: .* given the network itself"):
        load_network(tmp_path / "restormer.pth")


def test_what_uses_a_derainer_takes_a_published_file(tmp_path):
    torch.save({"model_state_dict": tensors_of("clearview")}, tmp_path / "n.pth")
    images = torch.rand(1, 3, 40, 48)
    outputs = [derain(tmp_path / "n.pth", images)]
    for target in ("again.pth", "again.safetensors"):
        again = export(tmp_path / "n.pth", "nafnet", tmp_path / target).path
        outputs.append(derain(again, images))
    outputs.append(derain(export(tmp_path / "n.pth", "safetensors", tmp_path / "own.safetensors").path, images))
    assert all((output - outputs[0]).abs().max() < 1e-6 for output in outputs)

    from rgsud_fast.data import write_image

    write_image(tmp_path / "rainy" / "a.png", images[0])
    write_image(tmp_path / "clean" / "a.png", images[0])
    assert "psnr_rgb" in evaluate(tmp_path / "n.pth", tmp_path / "rainy", tmp_path / "clean")
    pairs = rain(tmp_path / "n.pth", tmp_path / "clean", tmp_path / "rainy", tmp_path / "out")
    assert all(path.is_file() for pair in pairs for path in pair)
    with pytest.raises(UserError, match="do not name their training crop"):
        derain(tmp_path / "n.pth", images, local_statistics="auto")


def test_an_export_of_an_unfinished_run_does_not_make_it_look_finished(tmp_path):
    held = {"derainer": tensors_of("rgsud_fast")}
    torch.save({"version": 1, "step": 7, "sweeps": 0, "networks": held}, tmp_path / "checkpoint.pt")
    with pytest.warns(UserWarning, match="is not finished"):
        with pytest.raises(UserError, match="needs an output"):
            export(tmp_path, "safetensors")
        export(tmp_path, "safetensors", tmp_path / "elsewhere" / "derainer.safetensors")
    assert not (tmp_path / "derainer.safetensors").exists()


def test_a_file_with_objects_beside_its_tensors_is_told_what_to_do(tmp_path):
    torch.save({"model_state_dict": tensors_of("clearview"), "best": Path("x")}, tmp_path / "n.pth")
    with pytest.raises(UserError, match=r"holds objects or code; .*; whoever trusts it saves its tensors alone"):
        load_network(tmp_path / "n.pth")
