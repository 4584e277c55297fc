"""Every derainer that the configuration can name is built, trained, resumed, saved and exported alike."""

from __future__ import annotations

import json
import typing
import warnings

import pytest
import torch
from safetensors.torch import load_file
from tiny import TINY_DERAINERS, TINY_NETWORKS, TINY_RUN, darkness, train_and_interrupt
from torch import nn

import rgsud_fast
from rgsud_fast.config import Config, NetworkConfig, load_config, merge, save_config
from rgsud_fast.errors import UserError
from rgsud_fast.inference.evaluate import evaluate
from rgsud_fast.inference.export import export
from rgsud_fast.methods.build import build_networks
from rgsud_fast.networks import NAFNet, checkpoint_blocks
from rgsud_fast.networks.derainers.drsformer import DRSformer
from rgsud_fast.networks.derainers.layouts import LAYOUTS, layout_of
from rgsud_fast.networks.derainers.moe import MoENet
from rgsud_fast.networks.derainers.nerd_rain import NeRDRain
from rgsud_fast.networks.derainers.restormer import Restormer
from rgsud_fast.networks.derainers.start import read_start
from rgsud_fast.networks.known import DERAINERS
from rgsud_fast.networks.tiles import run_tiled
from rgsud_fast.networks.weights import load_network, pack_network, read_metadata
from rgsud_fast.optim.gradient_norms import keep_buffers
from rgsud_fast.optim.precision import in_precision
from rgsud_fast.training import train

each_derainer = pytest.mark.parametrize("name", DERAINERS)


def chosen(name):
    """Fields of the configuration that choose a derainer, and make it tiny."""
    return {"network": {**TINY_NETWORKS, "derainer": name, **TINY_DERAINERS[name]}}


def built(name, seed=0) -> nn.Module:
    """A tiny derainer of a kind, whose every parameter shows."""
    config = load_config(merge(TINY_RUN, chosen(name)) | {"seed": seed})
    derainer = build_networks(config, torch.device("cpu")).derainer
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in derainer.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return derainer


def test_every_name_has_a_class_and_every_class_a_layout():
    names = typing.get_args(NetworkConfig.model_fields["derainer"].annotation)
    assert names == tuple(DERAINERS) == tuple(TINY_DERAINERS)
    assert {layout.network for layout in LAYOUTS} == set(DERAINERS.values())


@each_derainer
def test_the_configuration_builds_it_and_its_sizes_build_it_again(name):
    network = built(name)
    assert type(network) is DERAINERS[name]
    again = type(network)(**json.loads(json.dumps(network.sizes)))
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    assert {key: value.shape for key, value in again.state_dict().items()} == shapes
    assert layout_of(network.state_dict()).network is type(network)


@each_derainer
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (40, 64), (72, 72), (1, 5)], ids=str)
def test_images_keep_their_size(name, size):
    image = torch.rand(2, 3, *size)
    with torch.no_grad():
        assert built(name)(image).shape == image.shape


@each_derainer
def test_a_wrong_input_is_named(name):
    with pytest.raises(ValueError, match=r"image must be \[N, 3, H, W\].*\[1, 4, 32, 32\]"):
        built(name)(torch.rand(1, 4, 32, 32))


@each_derainer
def test_checkpoints_by_block_change_no_bit_of_the_gradients(name):
    network, image = built(name).train(), torch.rand(2, 3, 32, 32)
    found = []
    for on in (False, True):
        checkpoint_blocks(network, on)
        network.zero_grad()
        with keep_buffers([network]):
            network(image).square().mean().backward()
        found.append([None if p.grad is None else p.grad.clone() for p in network.parameters()])
    assert any(gradient is not None and gradient.abs().max() > 0 for gradient in found[0])
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(*found, strict=True))


@each_derainer
def test_bfloat16_trains_it(name):
    network, image = built(name).train(), torch.rand(2, 3, 32, 32)
    with keep_buffers([network]):
        made = in_precision(network, torch.bfloat16)(image)
    made.square().mean().backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert made.dtype == torch.float32 and all(torch.isfinite(gradient).all() for gradient in gradients)
    exact = network(image)
    assert 0 < (made - exact).abs().mean() < 0.05 * (exact - image).abs().mean()


@pytest.mark.parametrize(
    "sizes, message",
    [
        ({"blocks": [1, 1]}, r"network\.restormer: blocks and heads must have the same number of levels"),
        ({"dim": 7}, r"network\.restormer: dim must be even"),
        ({"heads": [1, 2, 4, 7]}, r"network\.restormer: heads must divide the channels"),
        ({"expansion": 0}, r"network\.restormer\.expansion: must be greater than 0"),
        ({"width": 3}, r"network\.restormer\.width: no such field"),
    ],
)
def test_sizes_that_cannot_be_are_told_in_one_line(sizes, message):
    with pytest.raises(UserError, match=message) as told:
        load_config({"network": {"derainer": "restormer", "restormer": sizes}})
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: NAFNet(8, [3], 3, [3]),
        lambda: Restormer(8, [3, 3], 3, [1, 2]),
        lambda: DRSformer(8, [3, 3], [1, 2]),
        lambda: NeRDRain(8, [3, 3], [1, 2], hidden=8),
        lambda: MoENet(8, [5], 5, [5]),
    ],
    ids=list(DERAINERS),
)
def test_checkpoints_keep_less(make):
    kept = []
    for on in (False, True):
        network, total = make(), 0
        checkpoint_blocks(network, on)

        def count(tensor):
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            network(torch.rand(1, 3, 32, 32))
        kept.append(total)
    assert kept[1] < kept[0] / 2


@each_derainer
def test_a_saved_derainer_comes_back(name, tmp_path):
    network = built(name)
    (tmp_path / "derainer.safetensors").write_bytes(pack_network(network, "derainer", {"step": "3"}))
    again = load_network(tmp_path)
    assert (type(again), again.sizes) == (type(network), network.sizes)
    state = network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())
    assert read_metadata(tmp_path)["class"] == type(network).__name__


@each_derainer
def test_the_whole_way_of_a_run(name, config, tmp_path, monkeypatch):
    wanted = merge(config, chosen(name))
    result = train(wanted | {"out": str(tmp_path / "whole")}, scorer=darkness, quiet=True)
    train_and_interrupt(wanted, 7, monkeypatch)
    with pytest.warns(UserWarning, match="is not finished"):
        unfinished = load_network(tmp_path / "run")
    assert type(unfinished) is DERAINERS[name]
    resumed = train(
        wanted | {"network": wanted["network"] | {"checkpoint": "block"}}, scorer=darkness, resume=True, quiet=True
    )
    a, b = load_file(result.weights), load_file(resumed.weights)
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)

    image = torch.rand(3, 41, 38)
    whole = rgsud_fast.derain(result.weights.parent, image)
    assert whole.shape == image.shape
    assert "psnr_rgb" in evaluate(result.weights, tmp_path / "val_rainy", tmp_path / "val_clean")
    card = (export(result.weights.parent, "safetensors", tmp_path / "out").card).read_text()
    assert f"- {name.replace('_', '-')}\n" in card
    again = load_config(merge(wanted, {"network": {"derainer_start": str(result.weights.parent)}}))
    started = read_start(again.network)
    assert type(started) is DERAINERS[name] and started.training


# ONNX of hundreds of layers takes its exporter longer than ten seconds.
SLOW = [pytest.param(name, "onnx", marks=pytest.mark.slow) for name in ("drsformer", "nerd_rain")]
QUICK = [("nafnet", "onnx"), ("restormer", "onnx"), ("moe", "onnx"), *((name, "torchscript") for name in DERAINERS)]


@pytest.mark.parametrize("name, to", [*QUICK, *SLOW])
def test_an_export_computes_the_same_at_odd_sizes(name, to, tmp_path):
    pytest.importorskip("onnxscript", reason="exporting needs pip install -e '.[export]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert export(built(name), to, tmp_path / ("x.onnx" if to == "onnx" else "x.pt")).difference <= 1e-5


@each_derainer
def test_tiles_are_near_the_whole_image(name):
    network, image = built(name).eval(), torch.rand(1, 3, 96, 120)
    with torch.no_grad():
        whole, tiled = network(image), run_tiled(network, image, 80, 48)
    assert tiled.shape == whole.shape
    assert (tiled - whole).abs().mean() < 0.1 * (whole - image).abs().mean()


def test_local_statistics_are_nafnets_alone():
    assert "nafnet" in DERAINERS
    for name in DERAINERS:
        config = load_config(merge(TINY_RUN, chosen(name)) | {"val_local_statistics": True})
        if name in ("nafnet", "moe"):
            build_networks(config, torch.device("cpu"))
            continue
        with pytest.raises(UserError, match=f"none are known of {DERAINERS[name].__name__}; leave it off"):
            build_networks(config, torch.device("cpu"))


def test_a_configuration_of_before_there_were_others_means_nafnet(tmp_path):
    save_config(Config(preset="small"), tmp_path / "config.yaml")
    import yaml

    fields = yaml.safe_load((tmp_path / "config.yaml").read_text())
    new = set(fields["network"]) - {
        *("derainer_width", "derainer_encoder", "derainer_middle", "derainer_decoder", "derainer_start"),
        *("unet_width", "unet_levels", "generator_width", "generator_blocks", "discriminator_width", "initialization"),
    }
    assert {"derainer", "checkpoint"} <= new
    for field in new:
        del fields["network"][field]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(fields))
    again = load_config(tmp_path / "config.yaml").network
    assert again == Config(preset="small").network
    assert (again.derainer, again.derainer_sizes["width"]) == ("nafnet", 24)


def test_a_class_of_later_is_no_nafnet(tmp_path):
    from safetensors.torch import save_file

    text = {"format": "rgsud_fast 1", "kind": "derainer", "sizes": "{}", "class": "Derainer", "version": "0"}
    save_file({"a": torch.zeros(3)}, tmp_path / "x.safetensors", metadata=text)
    with pytest.raises(UserError, match="does not fit the derainer of this version"):
        load_network(tmp_path / "x.safetensors")
