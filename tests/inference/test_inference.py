"""derain, evaluate and rain: every form of input and output, and the mistakes a user can mend."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from darker import Darker, write_folder
from torch import nn

from rgsud_fast.data import read_image, to_tensor, write_image
from rgsud_fast.errors import UserError
from rgsud_fast.inference.derain import derain
from rgsud_fast.inference.evaluate import evaluate
from rgsud_fast.networks import NAFNet
from rgsud_fast.networks.weights import save_network
from rgsud_fast.system.device import pick_device


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "in")


def test_a_batch_comes_back_as_a_batch_and_an_image_as_an_image():
    batch = torch.rand(2, 3, 20, 30)
    torch.testing.assert_close(derain(Darker(), batch), batch / 2)
    torch.testing.assert_close(derain(Darker(), batch[0]), batch[0] / 2)


def test_an_array_a_file_a_list_and_a_folder_are_read(folder):
    array = read_image(folder / "a.png")
    expected = to_tensor(array) / 2
    torch.testing.assert_close(derain(Darker(), array), expected)
    torch.testing.assert_close(derain(Darker(), folder / "a.png"), expected)
    torch.testing.assert_close(derain(Darker(), str(folder / "a.png"), tile=16, overlap=4), expected)
    several = derain(Darker(), [array, folder / "sub" / "b.png"])
    assert [tuple(image.shape) for image in several] == [(3, 40, 33), (3, 35, 50)]
    assert len(derain(Darker(), folder)) == 3


@pytest.mark.parametrize("tile_batch", [1, 3])
def test_a_file_in_batches_of_tiles_is_the_same_and_tells_how_far_it_is(folder, tmp_path, tile_batch):
    told = []
    options = {"tile": 24, "overlap": 8, "tile_batch": tile_batch, "watch_tiles": lambda *seen: told.append(seen)}
    (written,) = derain(Darker(), folder / "sub" / "b.png", tmp_path / "out", **options)
    whole = derain(Darker(), folder / "sub" / "b.png")
    assert (to_tensor(read_image(written)) - whole).abs().max() <= 0.5001 / 255
    assert told[-1] == (6, 6, "b.png")
    assert len(told) == {1: 6, 3: 4}[tile_batch]  # two rows; the last tile of each is narrower, and goes by itself


def test_memory_that_runs_out_makes_smaller_tiles_of_a_file(folder, tmp_path):
    class Small(Darker):
        def forward(self, image):
            if image.shape[-1] > 20:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().forward(image)

    with pytest.warns(UserWarning, match="memory ran out"):
        (written,) = derain(Small(), folder / "sub" / "b.png", tmp_path / "out", overlap=4)
    expected = derain(Darker(), folder / "sub" / "b.png")
    assert (to_tensor(read_image(written)) - expected).abs().max() <= 0.5001 / 255


def test_results_are_in_range_and_carry_no_gradient():
    class Wild(nn.Module):
        def forward(self, image):
            return image * 5 - 1

    out = derain(Wild(), torch.rand(1, 3, 16, 16, requires_grad=True))
    assert not out.requires_grad
    assert out.min() == 0
    assert out.max() == 1
    (out.requires_grad_() * 2).sum().backward()


def test_a_given_network_keeps_its_mode():
    network = Darker().train()
    derain(network, torch.rand(1, 3, 16, 16))
    assert network.training


def test_a_folder_is_written_with_its_names_and_nesting(folder, tmp_path):
    written = derain(Darker(), folder, tmp_path / "out")
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in written)
    assert names == ["a.bmp.png", "a.png.png", "sub/b.png"]
    found = read_image(tmp_path / "out" / "sub" / "b.png").astype(int)
    assert np.abs(found - read_image(folder / "sub" / "b.png") / 2).max() <= 0.5


def test_one_file_goes_to_a_file_or_a_folder(folder, tmp_path):
    assert derain(Darker(), folder / "a.png", tmp_path / "new" / "x.jpg") == [tmp_path / "new" / "x.jpg"]
    assert derain(Darker(), folder / "a.bmp", tmp_path / "new") == [tmp_path / "new" / "a.png"]
    assert read_image(tmp_path / "new" / "x.jpg").shape == (40, 33, 3)
    batch = derain(Darker(), torch.rand(2, 3, 32, 32), tmp_path / "batch")
    assert [path.name for path in batch] == ["00000_000.png", "00000_001.png"]


def test_inputs_are_never_overwritten(folder):
    before = (folder / "a.png").read_bytes()
    with pytest.raises(UserError, match="would be overwritten"):
        derain(Darker(), folder / "a.png", folder)
    with pytest.raises(UserError, match="would be mixed with"):
        derain(Darker(), folder / "sub", folder / "sub")
    assert (folder / "a.png").read_bytes() == before


def test_weights_may_be_a_run_folder_or_a_file(folder, tmp_path):
    network = NAFNet(width=4, encoder=[1], middle=1, decoder=[1]).eval()
    save_network(tmp_path / "run" / "derainer.safetensors", network, "derainer")
    image = torch.rand(1, 3, 21, 19)
    with torch.no_grad():
        expected = network(image).clamp(0, 1)
    for weights in (tmp_path / "run", tmp_path / "run" / "derainer.safetensors"):
        torch.testing.assert_close(derain(weights, image, device="cpu"), expected)


@pytest.mark.parametrize(
    "images, message",
    [
        (torch.zeros(1, 1, 8, 8), r"got torch\.float32 \[1, 1, 8, 8\]"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), r"got torch\.uint8 \[3, 8, 8\]"),
        (np.zeros((8, 8, 3)), r"got float64 \[8, 8, 3\]"),
        (7, "got int"),
    ],
    ids=["grey", "bytes", "floats", "number"],
)
def test_other_inputs_are_refused_with_what_was_got(images, message):
    with pytest.raises(ValueError, match=message):
        derain(Darker(), images)


class Shifted(nn.Module):
    """Takes away a little more to the right, and not the same of each channel."""

    def forward(self, image):
        ramp = torch.linspace(0, 0.1, image.shape[3])
        return image - ramp * torch.tensor([0.5, 1.0, -0.3])[:, None, None]


@pytest.mark.parametrize("tile", [0, 24])
def test_the_mirrored_image_and_the_grey_layer_make_a_result_as_a_reward_is_made(tile):
    image = 0.3 + 0.4 * torch.rand(1, 3, 20, 40)
    options = {"tile": tile, "overlap": 8}
    plain = derain(Shifted(), image, **options)
    mirrored = derain(Shifted(), image, mirror=True, **options)
    grey = derain(Shifted(), image, grey_layer=True, **options)
    back = derain(Shifted(), image.flip(3), **options).flip(3)
    torch.testing.assert_close(mirrored, (plain + back) / 2, rtol=0, atol=1e-6)
    torch.testing.assert_close(grey, image - (image - plain).mean(1, keepdim=True).clamp(min=0), rtol=0, atol=1e-6)
    assert not torch.equal(plain, grey)
    figures = [evaluate(Shifted(), image, image, grey_layer=grey, mirror=grey)["psnr_rgb"] for grey in (False, True)]
    assert figures[0] != figures[1]


def test_missing_and_empty_inputs_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no such file or folder"):
        derain(Darker(), tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        derain(Darker(), tmp_path / "empty", tmp_path / "out")
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"broken\.png"):
        derain(Darker(), tmp_path / "broken.png")
    with pytest.raises(UserError, match="no weights at"):
        derain(tmp_path / "none.safetensors", torch.zeros(1, 3, 8, 8))


@pytest.fixture
def pairs(tmp_path):
    """Rainy images that are twice their clean versions, so that `Darker` is nearly perfect."""
    for i in range(3):
        clean = torch.rand(3, 32, 40) * 0.5
        write_image(tmp_path / "clean" / f"norain-{i}.png", clean)
        write_image(
            tmp_path / "rainy" / f"rain-{i}.png", to_tensor(read_image(tmp_path / "clean" / f"norain-{i}.png")) * 2
        )
    return tmp_path / "rainy", tmp_path / "clean"


def test_evaluate_gives_the_derained_the_input_and_the_fixed_filter(pairs):
    figures = evaluate(Darker(), *pairs)
    names = {f"{metric}_{space}" for metric in ("psnr", "ssim") for space in ("rgb", "y")}
    assert set(figures) == names | {f"input_{n}" for n in names} | {f"filter_{n}" for n in names} | {"images"}
    assert figures["psnr_rgb"] > 50 > 20 > figures["input_psnr_rgb"]
    assert [image["name"] for image in figures["images"]] == ["rain-0.png", "rain-1.png", "rain-2.png"]
    mean = np.mean([image["input_psnr_rgb"] for image in figures["images"]])
    assert figures["input_psnr_rgb"] == pytest.approx(mean)


def test_images_that_cannot_be_read_are_left_out_and_named(tmp_path):
    for name in ("a.png", "c.png"):
        write_image(tmp_path / "in" / name, torch.rand(3, 40, 40))
    (tmp_path / "in" / "b.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"2 images are written, 1 are left out: .*b\.png"):
        derain(Darker(), tmp_path / "in", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    with pytest.raises(UserError, match=r"b\.png"):
        derain(Darker(), tmp_path / "in")


def test_pairs_that_cannot_be_read_are_left_out_of_the_means_and_named(pairs):
    rainy, clean = pairs
    whole = evaluate(Darker(), rainy, clean)
    (clean / "norain-1.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"2 pairs are measured, 1 are left out: .*norain-1\.png"):
        figures = evaluate(Darker(), rainy, clean)
    assert figures["images"] == [whole["images"][0], whole["images"][2]]
    assert figures["psnr_y"] == pytest.approx(np.mean([whole["images"][i]["psnr_y"] for i in (0, 2)]))
    with pytest.raises(UserError, match=r"norain-1\.png"):
        evaluate(Darker(), rainy / "rain-1.png", clean / "norain-1.png")
    for i in (0, 2):
        (rainy / f"rain-{i}.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"no pair is measured, 3 are left out: .*rain-0\.png"):
        evaluate(Darker(), rainy, clean)


def test_evaluate_takes_images_in_memory(pairs):
    rainy, clean = ([read_image(path) for path in sorted(folder.iterdir())] for folder in pairs)
    assert evaluate(Darker(), rainy, clean)["psnr_y"] == evaluate(Darker(), *pairs)["psnr_y"]


def test_pairs_that_do_not_match_are_named(pairs):
    rainy, clean = pairs
    (clean / "norain-2.png").unlink()
    with pytest.raises(UserError, match="rainy has 3 images and clean 2"):
        evaluate(Darker(), rainy, clean)
    write_image(clean / "norain-2.png", torch.rand(3, 32, 41))
    with pytest.raises(UserError, match=r"rain-2\.png is 40 x 32 pixels and its clean version norain-2\.png 41 x 32"):
        evaluate(Darker(), rainy, clean)
    (clean / "norain-2.png").unlink()
    (rainy / "rain-0.png").rename(rainy / "norain-1.png")
    with pytest.raises(UserError, match=r"names that differ are norain-1\.png and norain-0\.png"):
        evaluate(Darker(), rainy, clean)


def test_a_device_that_is_not_there_is_refused():
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(UserError, match="must be auto, cpu, cuda"):
        pick_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="sees no CUDA GPU"):
            pick_device("cuda")
