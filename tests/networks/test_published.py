"""Restormer, DRSformer and NeRD-Rain as published: names and shapes load from every holder and are written back."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rgsud_fast import derain
from rgsud_fast.config import load_config
from rgsud_fast.data import write_image
from rgsud_fast.errors import UserError
from rgsud_fast.inference.evaluate import evaluate
from rgsud_fast.inference.export import export
from rgsud_fast.inference.rain import rain
from rgsud_fast.networks.derainers.start import read_derainer, read_start
from rgsud_fast.networks.known import DERAINERS
from rgsud_fast.networks.weights import load_network

# Of small networks, from the layer tables; with the published sizes the same tables give the published counts.
PUBLISHED = json.loads((Path(__file__).parent / "derainer_layouts.json").read_text())
each_layout = pytest.mark.parametrize("name", PUBLISHED)


def tensors_of(name, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = PUBLISHED[name]["tensors"]
    return {key: torch.randn(shape, generator=generator) / 10 for key, shape in shapes.items()}


def kind_of(name):
    return name.removesuffix("_without_experts")


def derained(path):
    image = torch.rand(1, 3, 21, 30, generator=torch.Generator().manual_seed(1))
    return load_network(path, "derainer")(image)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    """What each network makes of an image, from a plain file."""
    made = {}
    for name, layout in PUBLISHED.items():
        path = tmp_path_factory.mktemp(name) / "n.pth"
        torch.save({layout["holder"]: tensors_of(name)}, path)
        network = read_derainer(path)
        assert type(network) is DERAINERS[kind_of(name)]
        assert type(network).__name__ == layout["network"]
        assert layout["sizes"].items() <= network.sizes.items()
        assert network.training and all(parameter.requires_grad for parameter in network.parameters())
        made[name] = derained(path)
        assert torch.isfinite(made[name]).all()
    return made


@each_layout
@pytest.mark.parametrize("holder", [None, "params", "params_ema", "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "net_g."])
def test_every_holder_and_prefix_derains_alike(tmp_path, wanted, name, holder, prefix):
    tensors = {prefix + key: tensor for key, tensor in tensors_of(name).items()}
    held = tensors if holder is None else {"epoch": 3, holder: tensors, "optimizer": {"state": {0: {"step": 1}}}}
    torch.save(held, tmp_path / "n.pth")
    assert torch.equal(derained(tmp_path / "n.pth"), wanted[name])


@each_layout
def test_a_moving_average_comes_first_and_safetensors_are_read_too(tmp_path, wanted, name):
    right, wrong = tensors_of(name), tensors_of(name, seed=9)
    torch.save({"params": wrong, "params_ema": right}, tmp_path / "n.pth")
    save_file(right, tmp_path / "n.safetensors", metadata={"format": "pt"})
    for file in ("n.pth", "n.safetensors"):
        assert torch.equal(derained(tmp_path / file), wanted[name])


@each_layout
@pytest.mark.parametrize("file", ["out.pth", "out.safetensors"])
def test_they_are_written_back_under_the_same_names(tmp_path, wanted, name, file):
    tensors, holder = tensors_of(name), PUBLISHED[name]["holder"]
    torch.save({holder: tensors}, tmp_path / "n.pth")
    path, difference, _ = export(tmp_path / "n.pth", kind_of(name), tmp_path / file)
    again = load_file(path) if path.suffix == ".safetensors" else torch.load(path)[holder]
    assert difference < 1e-5
    assert {key: list(tensor.shape) for key, tensor in again.items()} == PUBLISHED[name]["tensors"]
    folded = ("INR.imnet.layers.0.", "INR2.imnet.layers.0.")
    assert all(torch.equal(again[key], tensors[key]) for key in tensors if not key.startswith(folded))
    assert (derained(path) - wanted[name]).abs().max() < 1e-5


@each_layout
@pytest.mark.filterwarnings("ignore:hardly anything was painted")
def test_what_uses_a_derainer_takes_a_published_file(tmp_path, name):
    torch.save({"params": tensors_of(name)}, tmp_path / "n.pth")
    images = torch.rand(1, 3, 40, 48)
    outputs = [derain(tmp_path / "n.pth", images)]
    own = export(tmp_path / "n.pth", "safetensors", tmp_path / "own.safetensors").path
    outputs.append(derain(own, images))
    assert torch.equal(*outputs)
    write_image(tmp_path / "rainy" / "a.png", images[0])
    write_image(tmp_path / "clean" / "a.png", 0.9 * images[0])
    assert "psnr_rgb" in evaluate(tmp_path / "n.pth", tmp_path / "rainy", tmp_path / "clean")
    pairs = rain(tmp_path / "n.pth", tmp_path / "clean", tmp_path / "rainy", tmp_path / "out")
    assert all(path.is_file() for pair in pairs for path in pair)
    with pytest.raises(UserError, match=r"local statistics: none are known of .*; leave them off"):
        derain(tmp_path / "n.pth", images, local_statistics=48)


@each_layout
def test_another_derainer_or_other_sizes_are_told_with_what_to_set(tmp_path, name):
    torch.save({"params": tensors_of(name)}, tmp_path / "n.pth")
    kind, label = kind_of(name), PUBLISHED[name]["network"]
    config = load_config({"preset": "small", "network": {"derainer_start": tmp_path / "n.pth"}})
    with pytest.raises(UserError) as told:
        read_start(config.network)
    assert f"n.pth holds a {label}, and network.derainer is nafnet: set --network.derainer {kind} " in str(told.value)
    network = {"derainer": kind, "derainer_start": tmp_path / "n.pth"}
    with pytest.raises(UserError, match="holds a derainer of other sizes than configured: set") as told:
        read_start(load_config({"preset": "paper", "network": network}).network)
    from rgsud_fast.cli.arguments import read_train

    flags = str(told.value).split(" set ")[1].split()
    images = ["--data.rainy", ".", "--data.clean", ".."]
    start = ["--network.derainer", kind, "--network.derainer-start", str(tmp_path / "n.pth")]
    config, _, _ = read_train(["--preset", "paper", *images, *start, *flags])
    assert type(read_start(config.network)) is DERAINERS[kind]


def test_published_weights_are_judged_with_reflection(tmp_path):
    torch.save({"params": tensors_of("restormer")}, tmp_path / "n.pth")
    network, image = load_network(tmp_path / "n.pth"), torch.rand(1, 3, 21, 30)
    padded = torch.nn.functional.pad(image, (0, 2, 0, 3), "reflect")
    assert torch.equal(network(image), network(padded)[..., :21, :30])
    export(tmp_path / "n.pth", "safetensors", tmp_path / "own.safetensors")
    assert load_network(tmp_path / "own.safetensors").sizes["reflect"]


def test_a_drsformer_without_its_attention_is_a_restormer_and_called_so(tmp_path):
    torch.save({"params": tensors_of("restormer")}, tmp_path / "drsformer.pth")
    network = {"derainer": "drsformer", "derainer_start": tmp_path / "drsformer.pth"}
    with pytest.raises(UserError, match=r"holds a Restormer, and network\.derainer is drsformer"):
        read_start(load_config({"preset": "small", "network": network}).network)


def damages(tensors, rng):
    """The same tensors with one thing wrong, many times."""
    names = list(tensors)
    for key in rng.sample(names, 12):
        yield {name: tensor for name, tensor in tensors.items() if name != key}
        yield tensors | {key: tensors[key][..., None]}
        yield tensors | {key: torch.zeros(())}
        yield tensors | {key: torch.zeros(0)}
        yield tensors | {key: torch.cat([tensors[key], tensors[key]])}
        yield tensors | {key: torch.zeros(3, dtype=torch.int64)}
    yield tensors | {"encoder_level9.0.attn.temperature": torch.zeros(2, 1, 1)}
    yield tensors | {"more.weight": torch.zeros(3)}
    yield tensors | {name.replace(".0.", ".7."): tensor for name, tensor in tensors.items() if ".0." in name}


@each_layout
def test_damaged_tensors_are_refused_in_one_line(tmp_path, name):
    tensors, rng = tensors_of(name), random.Random(0)
    for content in damages(tensors, rng):
        torch.save({"params": content}, tmp_path / "n.pth")
        with pytest.raises(UserError, match=r"n\.pth holds (a network that is like|no NAFNet or)") as told:
            load_network(tmp_path / "n.pth")
        assert "\n" not in str(told.value) and len(str(told.value)) < 500


@each_layout
def test_the_sizes_of_a_file_of_ours_cannot_ask_for_more_than_it_holds(tmp_path, name):
    torch.save({"params": tensors_of(name)}, tmp_path / "n.pth")
    network = load_network(tmp_path / "n.pth")
    from rgsud_fast.networks.weights import pack_network

    sizes = copy.deepcopy(network.sizes)
    for change in (
        {"blocks": [10**9, 1]},
        {"blocks": [1] * 10**4, "heads": [1] * 10**4},
        {"dim": 10**12},
        {"dim": 0},
        {"dim": -4},
        {"heads": [0, 0]},
        {"heads": 3},
        {"expansion": 1e300},
        {"expansion": "x"},
        {"expansion": None},
        {"unknown": 1},
    ):
        network.sizes = sizes | change
        (tmp_path / "derainer.safetensors").write_bytes(pack_network(network, "derainer"))
        with pytest.raises(UserError, match="does not fit the derainer of this version") as told:
            load_network(tmp_path / "derainer.safetensors")
        assert "\n" not in str(told.value)
