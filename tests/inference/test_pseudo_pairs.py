"""Pseudo pairs: rain that a run has learned, painted or pasted onto clean photographs."""

from __future__ import annotations

import pytest
import torch
from darker import Darker, write_folder

from rgsud_fast.data import read_image, to_batch, to_tensor, write_image
from rgsud_fast.errors import UserError
from rgsud_fast.inference.rain import rain
from rgsud_fast.networks import NAFNet, RainGenerator, UNet
from rgsud_fast.networks.weights import save_network


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "in")


@pytest.fixture
def run(tmp_path):
    """A run folder with a generator that adds the rain it is given, and a U-Net that sees none."""
    torch.manual_seed(1)
    save_network(tmp_path / "run" / "generator.safetensors", RainGenerator(width=4, blocks=1), "generator")
    save_network(tmp_path / "run" / "unet.safetensors", UNet(width=4, levels=2), "unet")
    return tmp_path / "run"


def test_rain_writes_pairs_of_equal_names_and_sizes(run, folder, tmp_path):
    write_image(tmp_path / "rainy" / "r.png", torch.rand(3, 36, 38))
    written = rain(run, folder, tmp_path / "rainy", tmp_path / "out", device="cpu")
    assert len(written) == 3
    names = {"a.png.png", "a.bmp.png", "sub_b.png"}
    assert {path.name for path in (tmp_path / "out" / "rainy").iterdir()} == names
    assert {path.name for path in (tmp_path / "out" / "clean").iterdir()} == names
    for rainy, clean in written:
        assert rainy.name == clean.name
        assert read_image(rainy).shape == read_image(clean).shape
    assert read_image(tmp_path / "out" / "clean" / "sub_b.png").shape == (35, 38, 3)


@pytest.mark.parametrize("estimator", ["unet", "derainer"])
def test_rain_is_what_the_two_networks_give(run, tmp_path, estimator):
    from rgsud_fast.networks.weights import RAIN_FROM, load_network

    save_network(run / "derainer.safetensors", NAFNet(4, [1], 1, [1]), "derainer")
    save_network(run / "generator.safetensors", RainGenerator(4, 1), "generator", {RAIN_FROM: estimator})
    write_image(tmp_path / "c.png", torch.rand(3, 40, 40))
    write_image(tmp_path / "r.png", torch.rand(3, 40, 40))
    ((painted, _),) = rain(run, tmp_path / "c.png", tmp_path / "r.png", tmp_path / "out", device="cpu")
    clean, rainy = (to_batch(read_image(tmp_path / f"{name}.png")) for name in "cr")
    generator, network = load_network(run, "generator"), load_network(run, estimator)
    with torch.no_grad():
        expected = generator(torch.cat([clean, rainy - network(rainy)], 1)).clamp(0, 1)
    assert (to_tensor(read_image(painted)) - expected[0]).abs().max() <= 0.5001 / 255


def test_rain_of_a_run_without_a_generator_is_pasted(run, tmp_path):
    from rgsud_fast.methods.pasting import paste
    from rgsud_fast.networks.weights import PASTED, RAIN_FROM

    for name in ("generator", "unet"):
        (run / f"{name}.safetensors").unlink()
    save_network(run / "derainer.safetensors", Darker(), "derainer", {RAIN_FROM: PASTED})
    write_image(tmp_path / "c.png", torch.rand(3, 40, 40))
    write_image(tmp_path / "r.png", torch.rand(3, 40, 40))
    images = tmp_path / "c.png", tmp_path / "r.png", tmp_path / "out"
    with pytest.raises(UserError, match="a network of your own"):
        rain(run, *images, device="cpu")
    ((painted, _),) = rain(run, *images, device="cpu", derainer=Darker())
    clean, rainy = (to_batch(read_image(path)) for path in images[:2])
    expected = paste(clean, rainy, Darker().eval()(rainy))
    assert (to_tensor(read_image(painted)) - expected[0]).abs().max() <= 0.5001 / 255


def test_rain_of_a_run_with_a_derainer_of_the_users_own_takes_it_as_an_argument(run, folder, tmp_path):
    from rgsud_fast.networks.weights import RAIN_FROM

    save_network(run / "derainer.safetensors", Darker(), "derainer")
    save_network(run / "generator.safetensors", RainGenerator(4, 1), "generator", {RAIN_FROM: "derainer"})
    with pytest.raises(UserError, match="a network of your own"):
        rain(run, folder, folder, tmp_path / "out", device="cpu")
    assert len(rain(run, folder, folder, tmp_path / "out", device="cpu", derainer=Darker())) == 3


def test_rain_without_its_networks_says_which_is_missing(run, folder, tmp_path):
    (run / "unet.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no unet\.safetensors"):
        rain(run, folder, folder, tmp_path / "out", device="cpu")


@pytest.mark.parametrize("inside", ["", "pairs", "../in"])
def test_pairs_are_not_mixed_with_the_images_they_are_made_of(run, folder, tmp_path, inside):
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match="would be mixed with the pairs"):
        rain(run, folder, folder / "sub", folder / inside, device="cpu")
    with pytest.raises(UserError, match="would be mixed with the pairs"):
        rain(run, folder / "a.png", folder, folder / inside, device="cpu")
    assert sorted(folder.rglob("*")) == before
    assert len(rain(run, folder / "a.png", folder / "sub", tmp_path / "inside", device="cpu")) == 1


def test_a_photograph_that_cannot_be_read_leaves_out_its_pair_alone(run, folder, tmp_path):
    (folder / "broken.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"3 pairs are written, 1 are left out: .*broken\.png"):
        rain(run, folder, folder / "sub", tmp_path / "out", device="cpu")
    assert len(list((tmp_path / "out").rglob("*.png"))) == 6
