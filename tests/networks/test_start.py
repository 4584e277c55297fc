"""NAFNet's published layout: its weights start the derainer and compute the same; what does not fit is told."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from plain_nafnet import PlainNAFNet, drawn
from safetensors.torch import load_file, save_file
from tiny import darkness
from torch import nn

from rgsud_fast.config import load_config, merge
from rgsud_fast.errors import UserError
from rgsud_fast.networks import NAFNet, UNet
from rgsud_fast.networks.derainers.layouts import to_nafnet
from rgsud_fast.networks.derainers.start import read_derainer, read_start
from rgsud_fast.networks.weights import save_network
from rgsud_fast.training import train
from rgsud_fast.training.trainer import Trainer

SIZES = {"width": 4, "encoder": [1, 2], "middle": 1, "decoder": [2, 1]}


def files_of(network, folder):
    """The same weights in every kind of file that people publish."""
    tensors = network.state_dict()
    averaged = {"params": {name: torch.zeros_like(value) for name, value in tensors.items()}, "params_ema": tensors}
    parallel = {f"module.{name}": value for name, value in tensors.items()}
    for name, content in {
        "params": {"params": tensors},
        "average": averaged,
        "bare": tensors,
        "parallel": {"params": parallel},
    }.items():
        torch.save(content, folder / f"{name}.pth")
        yield folder / f"{name}.pth"
    save_file(tensors, folder / "theirs.safetensors")
    yield folder / "theirs.safetensors"


def test_published_weights_compute_the_same_here(tmp_path):
    theirs = drawn(PlainNAFNet(**SIZES)).eval()
    image = torch.rand(2, 3, 21, 30)
    with torch.no_grad():
        wanted = theirs(image)
        assert (wanted - image).abs().max() > 0.1  # it does something
        for path in files_of(theirs, tmp_path):
            ours = read_derainer(path)
            assert ours.sizes == SIZES
            assert (ours(image) - wanted).abs().max() < 1e-5, path


def test_our_own_files_are_read_as_well(tmp_path):
    network = drawn(NAFNet(**SIZES))
    save_network(tmp_path / "derainer.safetensors", network, "derainer")
    save_file(network.state_dict(), tmp_path / "bare.safetensors")
    for path in (tmp_path, tmp_path / "derainer.safetensors", tmp_path / "bare.safetensors"):
        again = read_derainer(path).state_dict()
        assert all(torch.equal(again[name], tensor) for name, tensor in network.state_dict().items())


def test_half_precision_becomes_single(tmp_path):
    torch.save({"params": drawn(PlainNAFNet(**SIZES)).half().state_dict()}, tmp_path / "half.pth")
    assert {parameter.dtype for parameter in read_derainer(tmp_path / "half.pth").parameters()} == {torch.float32}


def test_our_weights_are_written_under_the_published_names():
    ours, theirs = drawn(NAFNet(**SIZES)).eval(), PlainNAFNet(**SIZES).eval()
    theirs.load_state_dict(to_nafnet(ours.state_dict()))
    image = torch.rand(1, 3, 17, 8)
    with torch.no_grad():
        torch.testing.assert_close(theirs(image), ours(image), rtol=0, atol=1e-5)


def test_other_sizes_are_told_with_what_to_set(tmp_path):
    torch.save({"params": PlainNAFNet(**SIZES).state_dict()}, tmp_path / "other.pth")
    config = load_config({"preset": "small", "network": {"derainer_start": tmp_path / "other.pth"}})
    flags = (
        "set --network.derainer-width 4 --network.derainer-encoder 1 2 --network.derainer-middle 1 "
        "--network.derainer-decoder 2 1"
    )
    with pytest.raises(UserError, match=f"other.pth holds a derainer of other sizes than configured: {flags}"):
        read_start(config.network)


@pytest.mark.parametrize(
    "content, message",
    [
        ({"params": {"weight": torch.zeros(3)}}, "holds no NAFNet"),
        ({"params": [1, 2]}, "holds no NAFNet"),
        (3, "holds no NAFNet"),
        ({"intro.weight": torch.zeros(()), "x.beta": torch.zeros(1)}, "holds no NAFNet"),
        ({"params": UNet(4, 2).state_dict()}, "holds no NAFNet"),
        (PlainNAFNet(**SIZES).state_dict() | {"intro.bias": torch.zeros(7)}, "like NAFNet but is none"),
        (PlainNAFNet(**SIZES).state_dict() | {"more.weight": torch.zeros(7)}, "like NAFNet but is none"),
        (PlainNAFNet(**SIZES).state_dict() | {"ending.bias": torch.tensor([1, 2, 3])}, "like NAFNet but is none"),
    ],
    ids=["foreign", "list", "number", "scalar", "unet", "shape", "more", "integers"],
)
def test_what_is_no_nafnet_is_refused_in_one_line(tmp_path, content, message):
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(UserError, match=message) as caught:
        read_derainer(tmp_path / "file.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrap", ["torch.save", "pickle", "inside params"])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, wrap):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    path = tmp_path / "evil.pth"
    if wrap == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    else:
        torch.save({"params": Bomb()} if wrap == "inside params" else Bomb(), path)
    with pytest.raises(
        UserError, match=r"evil\.pth is no weights file that can be read: (it holds objects or code|no archive)"
    ) as caught:
        read_derainer(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors", "empty.pth"])
def test_a_damaged_file_is_named(tmp_path, name):
    tensors = PlainNAFNet(**SIZES).state_dict()
    path = tmp_path / name
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save({"params": tensors}, path)
    path.write_bytes(b"" if "empty" in name else path.read_bytes()[:-100])
    with pytest.raises(UserError, match=name) as caught:
        read_derainer(path)
    assert "\n" not in str(caught.value)


def started(config, path, stage2_iterations):
    """A run of one iteration of stage 1 that starts from a file in the published layout; and what the file holds."""
    theirs = drawn(PlainNAFNet(width=4, encoder=[1], middle=1, decoder=[1]))
    torch.save({"params": theirs.state_dict()}, path)
    data = {key: config["data"][key] for key in ("rainy", "clean")}
    change = {"stage1_iterations": 1, "stage2_iterations": stage2_iterations, "network": {"derainer_start": str(path)}}
    return merge(config, change) | {"data": data}, theirs.state_dict()


def test_a_run_starts_from_the_file(config, tmp_path, monkeypatch):
    begun, theirs = started(config, tmp_path / "start.pth", 0)
    seen = []
    iterate = Trainer.iterate

    def watched(self):
        seen.extend(copy.deepcopy(to_nafnet(net.state_dict())) for net in (self.nets.derainer, self.derainer))
        return iterate(self)

    monkeypatch.setattr(Trainer, "iterate", watched)
    train(begun, scorer=darkness, quiet=True)
    assert len(seen) == 2
    assert all(torch.equal(tensors[name], theirs[name]) for tensors in seen for name in theirs)


def test_a_resumed_run_needs_the_file_no_more_and_ends_in_the_same_bits(config, tmp_path):
    path = tmp_path / "start.pth"
    begun, _ = started(config, path, 1)
    whole = train(begun | {"out": str(tmp_path / "whole")}, scorer=darkness, quiet=True)
    train(begun | {"stage2_iterations": 0}, scorer=darkness, quiet=True)
    path.unlink()
    resumed = train(begun, scorer=darkness, resume=True, quiet=True)
    a, b = load_file(whole.weights), load_file(resumed.weights)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_start_that_cannot_be_read_leaves_no_folder(config, tmp_path):
    with pytest.raises(UserError, match="no weights at"):
        train(merge(config, {"network": {"derainer_start": "nowhere.pth"}}), scorer=darkness, quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_users_own_derainer_takes_no_start(config):
    with pytest.raises(UserError, match=r"derainer_start nowhere\.pth is for nafnet"):
        started = merge(config, {"network": {"derainer_start": "nowhere.pth"}})
        train(started, derainer=nn.Conv2d(3, 3, 1), scorer=darkness, quiet=True)
