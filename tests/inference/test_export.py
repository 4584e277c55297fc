"""Exported networks: what a file computes in another program is what the network computes here, at any size."""

from __future__ import annotations

import sys
import typing
import warnings

import pytest
import torch
from plain_nafnet import PlainNAFNet, drawn
from safetensors.torch import load_file
from torch import nn

import rgsud_fast
from rgsud_fast import cli
from rgsud_fast.cli import network_commands
from rgsud_fast.errors import UserError
from rgsud_fast.inference.export import BOUND, OPSET, SUFFIXES, export
from rgsud_fast.networks import Discriminator, NAFNet, RainGenerator, UNet
from rgsud_fast.networks.known import KINDS
from rgsud_fast.networks.weights import load_network, read_metadata, save_network

for name in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(name, reason="exporting needs pip install -e '.[export]'")

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")
SIZES = {"width": 4, "encoder": [1, 1], "middle": 1, "decoder": [1, 1]}
SHAPES = [(1, 32, 32), (2, 35, 61), (5, 40, 33), (1, 96, 50)]
TINY_SHAPES = [(1, 1, 1), (2, 3, 17)]  # smaller than what a derainer pads to


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with weights of all four networks that show in every output."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    networks = {
        "derainer": NAFNet(**SIZES),
        "unet": UNet(4, 3),
        "generator": RainGenerator(4, 1),
        "discriminator": Discriminator(4),
    }
    for kind, network in networks.items():
        save_network(folder / f"{kind}.safetensors", drawn(network), kind, {"preset": "small", "step": "7"})
    return folder


def in_onnx(path):
    """What ONNX Runtime makes of a file, which must hold standard operators alone and leave every size free."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    model = onnx.load(path)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert {node.domain for node in nodes_of(model.graph)} == {""}
    assert not model.functions
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    assert given.shape[:1] + given.shape[2:] == ["batch", "height", "width"]
    return lambda images: torch.from_numpy(session.run(None, {given.name: images.numpy()})[0])


def nodes_of(graph):
    """Every node of an ONNX graph and of the graphs inside it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from nodes_of(inner)


def check(network, computed, channels, shapes):
    for count, height, width in shapes:
        images = torch.rand(count, channels, height, width)
        with torch.no_grad():
            wanted, made = network(images), computed(images)
        assert made.shape == wanted.shape, images.shape
        assert (made - wanted).abs().max() <= BOUND * max(1, wanted.abs().max()), images.shape


@pytest.mark.parametrize(
    "kind, channels, shapes",
    [("derainer", 3, SHAPES + TINY_SHAPES), ("unet", 3, SHAPES + TINY_SHAPES), ("generator", 6, SHAPES + TINY_SHAPES)],
)
@pytest.mark.parametrize("to", ["onnx", "torchscript"])
def test_a_file_computes_what_the_network_does_at_any_size(run, tmp_path, to, kind, channels, shapes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path, difference, _ = export(run, to, tmp_path, network=kind)
        computed = in_onnx(path) if to == "onnx" else None
    assert 0 < difference <= BOUND
    check(load_network(run, kind), computed or torch.jit.load(path), channels, shapes)


def test_the_discriminator_too(run, tmp_path):
    check(
        load_network(run, "discriminator"),
        in_onnx(export(run, "onnx", tmp_path, network="discriminator").path),
        3,
        SHAPES,
    )


def test_safetensors_are_the_same_weights_and_derain(run, tmp_path):
    path, difference, _ = export(run, "safetensors", tmp_path)
    assert difference == 0
    assert (read_metadata(path)["step"], read_metadata(path)["kind"]) == ("7", "derainer")
    image = torch.rand(3, 20, 20)
    assert torch.equal(rgsud_fast.derain(path, image), rgsud_fast.derain(run, image))


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_nafnets_own_code_can_load_a_derainer(run, tmp_path, name):
    path, difference, _ = export(run, "nafnet", tmp_path / name)
    assert difference == 0
    theirs = PlainNAFNet(**SIZES).eval()
    theirs.load_state_dict(load_file(path) if path.suffix == ".safetensors" else torch.load(path)["params"])
    check(load_network(run), theirs, 3, SHAPES)


class Baked(nn.Module):
    """A derainer that computes with its width as a plain number, which a trace keeps."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, image):
        return self.layer(image) * (int(image.shape[-1]) / 50)


def test_a_file_that_computes_something_else_is_not_kept(tmp_path):
    (tmp_path / "x.pt").write_text("older")
    with pytest.raises(UserError, match=r"x\.pt is not kept: it differs from the network by 0\.\d+, more than 1e-05"):
        export(Baked(), "torchscript", tmp_path / "x.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]
    assert (tmp_path / "x.pt").read_text() == "older"
    with pytest.raises(UserError, match=r"cannot export this network to onnx|is not kept") as caught:
        export(Baked(), "onnx", tmp_path / "x.onnx")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.onnx").exists()


def test_weights_that_are_not_finite_are_not_exported(tmp_path):
    network = nn.Conv2d(3, 3, 1)
    nn.init.constant_(network.weight, float("nan"))
    with pytest.raises(UserError, match="differs from the network by nan"):
        export(network, "torchscript", tmp_path / "x.pt")


def test_a_network_of_the_users_own_is_exported_and_stays_as_it_was(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
    for to, name in (("torchscript", "x.pt"), ("safetensors", "x.safetensors")):
        path, difference, card = export(network, to, tmp_path / name)
        assert difference < 1e-6 and card is None and path.exists()
    assert network.training
    with pytest.raises(UserError, match="for this package's nafnet, not for Sequential"):
        export(network, "nafnet", tmp_path / "x.pth")
    with pytest.raises(UserError, match="needs an output"):
        export(network, "torchscript")


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_told_with_its_extra(run, tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=rf"{missing}.*pip install -e '\.\[export\]'"):
        export(run, "onnx", tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_where_a_file_goes(run, tmp_path):
    assert export(run, "nafnet").path == run / "derainer.pth"
    assert not (run / "README.md").exists()  # without config.yaml it is no run folder of ours to put a card in
    assert export(run / "generator.safetensors", "torchscript", network="generator").path == run / "generator.pt"
    export(run, "nafnet", tmp_path / "named" / "x.pth")
    assert [path.name for path in (tmp_path / "named").iterdir()] == ["x.pth"]  # no card beside a named file
    path, _, card = export(run, "nafnet", tmp_path / "new" / "folder")
    assert (path, card) == (tmp_path / "new/folder/derainer.pth", tmp_path / "new/folder/README.md")
    for output, message in ((run, "is what is to be exported"), (tmp_path / "x.txt", r"must end in \.safetensors")):
        with pytest.raises(UserError, match=message):
            export(run, "safetensors", output)
    with pytest.raises(UserError, match="no export to 'tflite'"):
        export(run, "tflite")
    with pytest.raises(UserError, match="holds a unet, not a derainer"):
        export(run / "unet.safetensors", "torchscript", tmp_path)


def test_the_command_knows_every_format_and_network():
    hints = typing.get_type_hints(network_commands.export)
    assert (typing.get_args(hints["to"]), typing.get_args(hints["network"])) == (tuple(SUFFIXES), tuple(KINDS))


def test_the_command_prints_the_difference(run, tmp_path, capfd):
    assert cli.main(["export", str(run), str(tmp_path / "x.pt"), "--to", "torchscript", "--network", "unet"]) == 0
    told = capfd.readouterr()
    assert "largest difference from the unet" in told.out
    assert "(allowed 1e-05) on 1 x 33 x 47" in told.out
    assert told.err == ""
    assert cli.main(["export", str(run), "--to", "tflite"]) == 2
    assert "tflite" in capfd.readouterr().err


@pytest.mark.slow
def test_the_papers_widths_in_onnx(tmp_path):
    network = NAFNet(32, (1, 1, 1, 1), 1, (1, 1, 1, 1))
    for name, parameter in network.named_parameters():
        if name.endswith(("beta", "gamma")):  # which are 0 at first, so that no block shows
            nn.init.normal_(parameter, 0.0, 0.3)
    save_network(tmp_path / "derainer.safetensors", network, "derainer")
    path, difference, _ = export(tmp_path, "onnx", tmp_path / "x.onnx")
    assert 0 < difference <= BOUND
    check(load_network(tmp_path), in_onnx(path), 3, [(1, 161, 241)])
