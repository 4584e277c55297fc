"""Weights files: a round trip gives the same network, and what is no weights file is refused in one line."""

from __future__ import annotations

import pickle
import warnings

import pytest
import torch
from plain_nafnet import drawn
from torch import nn

from rgsud_fast.errors import UserError
from rgsud_fast.networks import Discriminator, NAFNet, RainGenerator, UNet
from rgsud_fast.networks.weights import load_network, load_state, read_metadata, save_network
from rgsud_fast.optim.moving_average import MovingAverage

TINY = {
    "derainer": lambda: NAFNet(width=4, encoder=[1, 1], middle=1, decoder=[1, 1]),
    "unet": lambda: UNet(width=4, levels=2),
    "generator": lambda: RainGenerator(width=4, blocks=1),
    "discriminator": lambda: Discriminator(width=4),
}


@pytest.mark.parametrize("kind", TINY)
def test_a_saved_network_comes_back_with_the_same_bits(tmp_path, kind):
    network = TINY[kind]()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    path = tmp_path / f"{kind}.safetensors"
    save_network(path, network, kind, {"step": "12"})
    again = load_network(path, kind)
    assert type(again) is type(network)
    assert again.sizes == network.sizes
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    for name, tensor in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert read_metadata(path)["step"] == "12"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_run_folder_stands_for_its_weights(tmp_path):
    save_network(tmp_path / "derainer.safetensors", TINY["derainer"](), "derainer")
    save_network(tmp_path / "unet.safetensors", TINY["unet"](), "unet")
    assert isinstance(load_network(tmp_path), NAFNet)
    assert isinstance(load_network(tmp_path, "unet"), UNet)
    with pytest.raises(UserError, match=r"has no generator\.safetensors"):
        load_network(tmp_path, "generator")


def test_a_network_of_another_kind_is_refused(tmp_path):
    save_network(tmp_path / "unet.safetensors", TINY["unet"](), "unet")
    with pytest.raises(UserError, match=r"unet\.safetensors holds a unet, not a derainer"):
        load_network(tmp_path / "unet.safetensors", "derainer")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no weights at .*nowhere"):
        load_network(tmp_path / "nowhere.safetensors")


def test_a_pickle_is_refused_and_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    path = tmp_path / "old.pth"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match=r"old\.pth is no weights file that can be read"):
        load_network(path)
    assert not (tmp_path / "exploded").exists()


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "derainer.safetensors"
    save_network(path, TINY["derainer"](), "derainer")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a readable safetensors") as caught:
        load_network(path)
    assert "\n" not in str(caught.value)


def test_foreign_safetensors_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(UserError, match=r"foreign\.safetensors holds no NAFNet"):
        load_network(tmp_path / "foreign.safetensors")
    with pytest.raises(UserError, match="was not written by rgsud_fast"):
        load_network(tmp_path / "foreign.safetensors", "unet")


def test_weights_that_do_not_fit_their_sizes_are_refused(tmp_path):
    network = TINY["unet"]()
    network.sizes = {"width": 8, "levels": 2}
    save_network(tmp_path / "unet.safetensors", network, "unet")
    with pytest.raises(UserError, match="does not fit the unet") as caught:
        load_network(tmp_path / "unet.safetensors")
    assert "\n" not in str(caught.value)


def test_a_network_of_the_users_own_loads_into_a_module_they_build(tmp_path):
    class Mine(nn.Conv2d):
        def __init__(self):
            super().__init__(3, 3, 1)

    mine = Mine()
    save_network(tmp_path / "derainer.safetensors", mine, "derainer")
    with pytest.raises(UserError, match=r"network of your own \(Mine\)"):
        load_network(tmp_path)
    assert torch.equal(load_state(tmp_path, Mine()).weight, mine.weight)
    with pytest.raises(UserError, match="does not fit the given Linear"):
        load_state(tmp_path, nn.Linear(2, 2))


@pytest.mark.parametrize("sizes", [{"width": 4}, torch.zeros(2), lambda: 3], ids=["dict", "tensor", "function"])
def test_sizes_of_a_users_own_network_are_not_taken_for_ours(tmp_path, sizes):
    mine = nn.Conv2d(3, 3, 1)
    mine.sizes = sizes
    save_network(tmp_path / "derainer.safetensors", mine, "derainer")
    assert read_metadata(tmp_path)["sizes"] == "null"
    with pytest.raises(UserError, match=r"network of your own \(Conv2d\)"):
        load_network(tmp_path)


def test_one_of_our_networks_in_another_role_is_the_users_own(tmp_path):
    save_network(tmp_path / "derainer.safetensors", TINY["unet"](), "derainer")
    with pytest.raises(UserError, match=r"network of your own \(UNet\)"):
        load_network(tmp_path)
    load_state(tmp_path, TINY["unet"]())


def test_shared_and_strided_tensors_are_saved(tmp_path):
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    module[0].bias.data = torch.rand(6)[::2]
    save_network(tmp_path / "derainer.safetensors", module, "derainer")
    again = load_state(tmp_path, nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))
    assert torch.equal(again[0].bias, module[0].bias)
    assert torch.equal(again[1].weight, module[0].weight)


def test_a_run_that_is_not_finished_is_told_from_no_run(tmp_path):
    with pytest.raises(UserError, match=r"give a finished run folder or a weights file$"):
        load_network(tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UserError, match="its run goes on, or ended before anything was saved"):
        load_network(tmp_path)
    (tmp_path / "checkpoint.pt").touch()
    with pytest.raises(UserError, match=r"checkpoint\.pt is no weights file that can be read"):
        load_network(tmp_path)
    with pytest.raises(UserError, match=r"is not finished .* train --resume --out"):
        load_network(tmp_path, "unet")


@pytest.mark.parametrize("averages", [0, 5], ids=["no average", "average"])
def test_the_derainer_of_an_unfinished_run_comes_from_its_checkpoint(tmp_path, averages):
    network, average = drawn(TINY["derainer"]()), MovingAverage(drawn(TINY["derainer"]()), 0.9)
    average.n_averaged += averages
    state = {"version": 1, "step": 7, "sweeps": 0, "networks": {"derainer": network.state_dict()}}
    torch.save(state | {"average": average.state_dict()}, tmp_path / "checkpoint.pt")
    for path in (tmp_path, tmp_path / "checkpoint.pt"):
        with pytest.warns(UserWarning, match=r"is not finished: .* at step 7; train --resume --out") as told:
            loaded = load_network(path, "derainer")
        assert len(told) == 1
        wanted = (average.module if averages else network).state_dict()
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in loaded.state_dict().items())
    assert read_metadata(tmp_path) == {"step": "7"}
    with pytest.raises(UserError, match="is not finished: train --resume"):
        load_state(tmp_path, TINY["derainer"]())


def test_a_checkpoint_of_a_users_own_derainer_is_told(tmp_path):
    state = {"version": 1, "step": 7, "sweeps": 0, "networks": {"derainer": nn.Linear(2, 2).state_dict()}}
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="holds a derainer of your own: train --resume"):
        load_network(tmp_path)


def test_weights_that_a_run_has_left_behind_are_told(tmp_path):
    save_network(tmp_path / "derainer.safetensors", NAFNet(4, [1], 1, [1]), "derainer", {"step": "150"})
    (tmp_path / "checkpoint.pt").write_bytes(b"")
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 100, "event": "train"}\n{"step": 150, "event": "validation"}\n')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_network(tmp_path)
    log.write_text(log.read_text() + '{"step": 160, "event": "train"}\n')
    with pytest.warns(UserWarning, match="these are the older ones; train --resume"):
        load_network(tmp_path)
