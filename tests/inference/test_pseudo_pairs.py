"""Pseudo pairs: rain that a run has learned, painted or pasted onto clean photographs."""

from __future__ import annotations

import re

import pytest
import torch
from darker import Darker, write_folder

from rgsud_fast.data import read_image, to_batch, to_tensor, write_image
from rgsud_fast.errors import UserError
from rgsud_fast.inference.painted_rain import PaintedRain
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


def streaks(images=1, height=64, width=80):
    """Thin bright lines, as rain is."""
    layer = torch.zeros(images, 1, height, width)
    layer[:, :, :, ::9] = 0.3
    return layer.expand(-1, 3, -1, -1)


CLEAN = torch.full((1, 3, 64, 80), 0.4)


@pytest.mark.parametrize(
    "layer, told",
    [
        (streaks(), ""),
        (streaks() + 0.02, ""),
        (-streaks(), r"darkens \(100% of it\)"),
        (
            streaks() * torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1),
            r"channels differ by 6\.0 times it",
        ),
        (torch.full_like(CLEAN, 0.05), r"is an even veil, not streaks \(only 0% is thin\)"),
        (torch.linspace(0, 0.2, 80).expand(1, 3, 64, 80), "is an even veil"),
        (torch.zeros_like(CLEAN), "hardly anything was painted"),
        (torch.full_like(CLEAN, -0.1), r"darkens \(100% of it\) and is an even veil"),
    ],
    ids=["streaks", "faint veil", "dark", "red", "veil", "slope", "nothing", "shade"],
)
def test_what_can_hardly_be_rain_is_doubted(layer, told):
    looks = PaintedRain()
    for gain in (1.0, 0.9, 1.1):
        looks.add(CLEAN + gain * layer, CLEAN)
    doubt = looks.doubt()
    assert bool(doubt) == bool(told)
    assert re.search(told, doubt), doubt
    assert "\n" not in doubt


def test_one_odd_image_among_many_raises_no_doubt():
    looks = PaintedRain()
    assert looks.doubt() == ""
    for layer in (streaks(), -streaks(), streaks()):
        looks.add(CLEAN + layer, CLEAN)
    assert looks.doubt() == ""


def test_true_rain_of_pairs_is_not_doubted(rgsud_data):
    folder, looks = rgsud_data / "rain100l" / "val", PaintedRain()
    for rainy, clean in zip(*(sorted((folder / name).iterdir()) for name in ("rainy", "clean")), strict=True):
        looks.add(to_batch(read_image(rainy)), to_batch(read_image(clean)))
    assert looks.doubt() == ""


class Veil(torch.nn.Module):
    """Takes the same from every pixel for rain."""

    def __init__(self):
        super().__init__()
        self.register_buffer("light", torch.tensor([0.1]))  # older safetensors read no file without a tensor

    def forward(self, rainy):
        return rainy - self.light


def test_a_weak_run_is_told_in_one_warning(folder, tmp_path):
    from rgsud_fast.networks.weights import PASTED, RAIN_FROM

    run = tmp_path / "run"
    save_network(run / "derainer.safetensors", Veil(), "derainer", {RAIN_FROM: PASTED})
    with pytest.warns(UserWarning, match="can hardly be rain, since it is an even veil.*: look at") as warned:
        rain(run, folder, folder, tmp_path / "out", device="cpu", derainer=Veil())
    assert len(warned) == 1
