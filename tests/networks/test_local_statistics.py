"""Local statistics: what they are, that a tile then equals the whole, and that off is what it was."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from tiny import darkness, run_of
from torch import nn

from rgsud_fast import cli
from rgsud_fast.config import load_config
from rgsud_fast.data import Pair, write_image
from rgsud_fast.errors import UserError
from rgsud_fast.inference.derain import derain
from rgsud_fast.inference.evaluate import evaluate
from rgsud_fast.methods.build import build_networks
from rgsud_fast.networks import NAFNet, local_statistics
from rgsud_fast.networks.derainers.nafnet import NAFBlock
from rgsud_fast.networks.tiles import run_tiled
from rgsud_fast.networks.translators import Translator
from rgsud_fast.networks.weights import CROP, save_network
from rgsud_fast.networks.windows import InstanceNorm, local_mean, local_norm
from rgsud_fast.ops import use_backend
from rgsud_fast.training import gallery as gallery_run
from rgsud_fast.training import train
from rgsud_fast.training.validation import validate, window_of


@pytest.fixture
def derainer() -> NAFNet:
    """A network whose blocks do something: fresh ones pass their input on."""
    torch.manual_seed(3)
    network = NAFNet(width=4, encoder=[1], middle=1, decoder=[1]).eval().requires_grad_(False)
    for block in network.modules():
        if isinstance(block, NAFBlock):
            nn.init.normal_(block.beta)
            nn.init.normal_(block.gamma)
    return network


@pytest.mark.parametrize("side", [1, 2, 5, 8, 13, 17, 20])
def test_a_local_mean_is_that_of_the_window_around_a_pixel_moved_inside_at_the_borders(side):
    x = torch.rand(2, 5, 13, 18, dtype=torch.float64)
    height, width = min(side, 13), min(side, 18)
    inside = F.avg_pool2d(x, (height, width), stride=1)
    before = [(width - 1) // 2, width - 1 - (width - 1) // 2, (height - 1) // 2, height - 1 - (height - 1) // 2]
    expected = F.pad(inside, before, mode="replicate")
    torch.testing.assert_close(local_mean(x, side).expand_as(x), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(local_mean(x.float(), side).expand_as(x), expected.float(), atol=1e-6, rtol=0)


def test_a_window_as_large_as_the_image_is_the_global_mean(derainer):
    image = torch.rand(1, 3, 40, 33)
    expected = derainer(image)
    with local_statistics(derainer, 64):
        torch.testing.assert_close(derainer(image), expected, atol=1e-5, rtol=0)


def test_windows_are_halved_with_each_level_and_gone_afterwards(derainer):
    with local_statistics(derainer, 24):
        assert [block.window for block in derainer.modules() if isinstance(block, NAFBlock)] == [24, 12, 24]
    assert {block.window for block in derainer.modules() if isinstance(block, NAFBlock)} == {0}


def test_off_is_what_it_was_to_the_bit(derainer):
    image = torch.rand(1, 3, 40, 33)
    before = derainer(image)
    with local_statistics(derainer, 0):
        assert torch.equal(derainer(image), before)
    with local_statistics(derainer, 8):
        assert not torch.allclose(derainer(image), before, atol=1e-3)
    assert torch.equal(derainer(image), before)
    assert torch.equal(derain(derainer, image, local_statistics=0), before.clamp(0, 1))


def test_with_local_statistics_tiles_equal_the_whole_and_without_they_do_not(derainer):
    """Windows of 16 and convolutions let this network see 28 pixels, fewer than a quarter of the overlap."""
    image = torch.rand(1, 3, 90, 400) * (torch.arange(400) < 200)  # no tile has the mean of the whole
    global_error = (run_tiled(derainer, image, 256, 128) - derainer(image)).abs().max()
    with local_statistics(derainer, 16):
        local_error = (run_tiled(derainer, image, 256, 128) - derainer(image)).abs().max()
    assert local_error < 1e-5
    assert global_error > 1 / 255


def test_every_implementation_gives_the_same(derainer):
    image = torch.rand(2, 3, 40, 33)
    with local_statistics(derainer, 16):
        fast = derainer(image)
        with use_backend("reference"):
            torch.testing.assert_close(fast, derainer(image), atol=1e-5, rtol=0)


def test_auto_takes_the_training_crop_from_the_weights(derainer, tmp_path):
    image = torch.rand(1, 3, 60, 60)
    save_network(tmp_path / "derainer.safetensors", derainer, "derainer", {CROP: "32"})
    expected = derain(derainer, image, local_statistics=48)
    assert not torch.allclose(expected, derain(derainer, image), atol=1e-3)
    found = derain(tmp_path, image, device="cpu", local_statistics="auto")
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    for text in ({}, {CROP: "some"}, {CROP: "9" * 5000}):
        save_network(tmp_path / "derainer.safetensors", derainer, "derainer", text)
        with pytest.raises(UserError, match="do not name their training crop; give the side"):
            derain(tmp_path, image, device="cpu", local_statistics="auto")


@pytest.mark.parametrize("window", [-1, "some", 1.5])
def test_a_window_that_is_none_is_refused(derainer, window):
    with pytest.raises(UserError, match="must be auto, or the side"):
        derain(derainer, torch.rand(1, 3, 40, 40), local_statistics=window)


def test_a_network_without_known_means_is_refused():
    with pytest.raises(UserError, match="none are known of Identity"):
        derain(nn.Identity(), torch.rand(1, 3, 40, 40), local_statistics=16)


def test_evaluate_and_the_commands_take_them(derainer, tmp_path, capsys):
    for name in ("rainy", "clean"):
        write_image(tmp_path / name / "0.png", torch.rand(3, 48, 48))
    save_network(tmp_path / "run" / "derainer.safetensors", derainer, "derainer", {CROP: "16"})
    run, rainy, clean = (str(tmp_path / name) for name in ("run", "rainy", "clean"))
    plain, local = (
        evaluate(run, rainy, clean, device="cpu", local_statistics=window)["psnr_rgb"] for window in (0, "auto")
    )
    assert plain != local
    options = ["--local-statistics", "auto", "--tile-batch", "2", "--device", "cpu"]
    assert cli.main(["evaluate", run, "--rainy", rainy, "--clean", clean, *options]) == 0
    assert f"{local:.2f} dB" in capsys.readouterr().out
    assert cli.main(["derain", run, rainy, str(tmp_path / "out"), "--local-statistics", "24", "--device", "cpu"]) == 0


def test_validation_takes_windows_of_one_and_a_half_crops_from_the_configuration(derainer, config):
    pixels = torch.randint(0, 256, (60, 60, 3), dtype=torch.uint8).numpy()
    pairs = [Pair("0", pixels, pixels)]
    cpu = torch.device("cpu")
    config = load_config(config)
    assert window_of(config) == 0
    config.val_local_statistics = True
    assert window_of(config) == 48
    assert validate(derainer, pairs, cpu, 48) != validate(derainer, pairs, cpu)
    trainer = SimpleNamespace(
        config=config,
        derainer=derainer,
        device=cpu,
        step=1,
        domains=SimpleNamespace(val=[Pair("0", pixels, 255 - pixels)]),
    )
    (shown,) = gallery_run._validation(trainer, 8)
    figures = validate(derainer, trainer.domains.val, cpu, 48)
    assert shown.scores["PSNR-RGB"][1] == pytest.approx(figures["psnr_rgb"], abs=1e-6)
    with pytest.raises(UserError, match="val_local_statistics: none are known of"):
        build_networks(config, cpu, nn.Conv2d(3, 3, 1))


@pytest.mark.parametrize("side", [3, 8, 13])
def test_a_local_norm_is_by_the_mean_and_variance_of_the_window_around_a_pixel(side):
    x = torch.randn(2, 5, 13, 18, dtype=torch.float64) + 100  # a large mean costs no digits that count
    normed, reach = local_norm(x, side), (side - 1) // 2
    for row, column in ((0, 0), (6, 9), (12, 17), (3, 16)):
        top, left = (min(max(at - reach, 0), max(n - side, 0)) for at, n in ((row, 13), (column, 18)))
        window = x[:, :, top : top + side, left : left + side].flatten(2)
        expected = (x[:, :, row, column] - window.mean(2)) / (window.var(2, correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(normed[:, :, row, column], expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(
        local_norm((x - 100).float(), side), local_norm(x - 100, side).float(), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_a_window_as_large_as_the_image_is_instance_normalisation(slope):
    norm, x = InstanceNorm(slope), torch.randn(1, 3, 9, 14)
    expected = norm(x)
    torch.testing.assert_close(expected, F.leaky_relu(F.instance_norm(x), slope))
    for norm.window in (14, 20):
        assert torch.equal(norm(x), expected)
    torch.testing.assert_close(F.leaky_relu(local_norm(x, 14), slope), expected, atol=1e-5, rtol=0)
    norm.window = 5
    assert not torch.allclose(norm(x), expected, atol=0.1)


@pytest.mark.parametrize("antialias", [False, True])
def test_the_windows_of_a_translator_follow_its_resolution(antialias):
    network = Translator(4, 2, antialias, residual=True).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    half, quarter = (48, 24) if antialias else (24, 12)
    with local_statistics(network, 48):
        named = {name: norm.window for name, norm in network.norms.items()}
        assert named == {"first": 48, "down1": half, "down2": quarter, "up1": 24, "up2": 48}
        assert {norm.window for block in network.blocks for norm in block.norms} == {12}
    assert all(module.window == 0 for module in network.modules() if isinstance(module, InstanceNorm))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@torch.no_grad()
def test_a_translator_with_local_statistics_makes_of_a_tile_what_it_makes_of_the_whole():
    torch.manual_seed(1)
    network = Translator(4, 1, residual=True).eval()
    image = torch.rand(1, 3, 160, 160)
    image[..., 80:] *= 0.2  # a dark half, which the whole image's statistics see and a window on the left does not
    tile = image[..., :128, :64]
    gaps = []
    for side in (0, 24):
        with local_statistics(network, side):
            gaps.append((network(tile) - network(image)[..., :128, :64])[..., :64, :16].abs().mean())
    assert gaps[1] < gaps[0] / 20


def test_sweeps_take_the_windows_that_are_asked_for(monkeypatch, config):
    sides = []

    def spying(network, side):
        sides.append(side)
        return local_statistics(network, side)

    monkeypatch.setattr("rgsud_fast.rewards.sweep.local_statistics", spying)
    for method in ("cyclegan", "rgsud"):
        for on in (False, True):
            fields = run_of(config, method, reward={"local_statistics": on}, out=f"{config['out']}-{method}-{on}")
            train(fields, scorer=darkness, quiet=True)
            assert set(sides) == {48 * on}
            sides.clear()
    with pytest.raises(UserError, match=r"reward\.local_statistics: none are known of Restormer; leave it off"):
        network = {"network": {"derainer": "restormer"}}
        build_networks(
            load_config({"preset": "small", "reward": {"local_statistics": True}, **network}), torch.device("cpu")
        )
