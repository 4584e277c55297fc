"""Tiling: nothing is lost, nothing shows."""

from __future__ import annotations

import itertools

import pytest
import torch

from rgsud_fast.config.tiling import Tiling
from rgsud_fast.errors import UserError
from rgsud_fast.networks.tiles import bands, feather, run_tiled, spans, window_of

SPANS = [(10, 32, 4), (33, 32, 4), (100, 32, 8), (97, 17, 16), (64, 32, 0), (6000, 1024, 64), (1025, 1024, 64)]


@pytest.mark.parametrize("length, tile, overlap", SPANS)
def test_tiles_cover_the_image_and_weights_sum_to_one(length, tile, overlap):
    pieces = spans(length, tile, overlap)
    assert pieces[0][0] == 0
    assert pieces[-1][1] == length
    sides = [end - start for start, end in pieces]
    assert all(side == min(tile, length) for side in sides[:-1])
    assert min(tile, length) - 16 < sides[-1] <= tile
    assert tile - overlap < 16 or all(start % 16 == 0 for start, _ in pieces)
    assert all(before[1] - after[0] >= overlap for before, after in itertools.pairwise(pieces))
    weights = feather(pieces, length)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(0), torch.ones(length, dtype=torch.float64), atol=1e-12, rtol=0)
    for (start, end), weight in zip(pieces, weights, strict=True):
        assert (weight[:start] == 0).all()
        assert (weight[end:] == 0).all()


@pytest.mark.parametrize("size", [(33, 70), (20, 64), (65, 31)], ids=str)
def test_a_pointwise_network_gives_the_same_in_tiles(size):
    image = torch.rand(1, 3, *size)
    torch.testing.assert_close(run_tiled(lambda x: x * 2 + 1, image, tile=24, overlap=7), image * 2 + 1)


def blur(layers: int) -> torch.nn.Module:
    """So many 3x3 means on black surroundings: it sees `layers` pixels far, and errs by half at a cut."""
    mean = torch.nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False).requires_grad_(False)
    mean.weight.fill_(1 / 9)
    return torch.nn.Sequential(*[mean] * layers)


@pytest.mark.parametrize("tile, overlap", [(48, 24), (64, 32), (40, 25)], ids=str)
def test_tiles_equal_the_whole_where_the_network_sees_no_farther_than_a_quarter_of_the_overlap(tile, overlap):
    network, image = blur(overlap // 4), torch.rand(1, 3, 130, 170)
    torch.testing.assert_close(run_tiled(network, image, tile, overlap), network(image), atol=1e-6, rtol=0)


def test_a_network_that_sees_farther_than_that_is_within_a_level_of_8_bits():
    network, image = blur(14), torch.rand(1, 3, 200, 230)
    assert (run_tiled(network, image, 80, 32) - network(image)).abs().max() < 1 / 255


def test_a_seam_cannot_be_seen_in_the_difference_image():
    """A network that sees farther than a quarter of the overlap, and noise on it that is everywhere alike."""
    network, image = blur(10), torch.rand(1, 3, 200, 230)
    whole = (network(image) * 255).round()
    difference = (run_tiled(network, image, 80, 32) * 255 - whole).abs()[0].amax(0)  # rounding, and the seams if any
    rows, columns = (on_seams(length, 80, 32) for length in (200, 230))
    seams = rows[:, None] | columns
    assert difference[seams].max() < 1.05 * difference[~seams].max()
    assert difference[seams].mean() < 1.05 * difference[~seams].mean()


def test_a_hard_cut_can_be_seen_there():
    network, image = blur(10), torch.rand(1, 3, 192, 240)
    difference = (run_tiled(network, image, 48, 0) - network(image)).abs()[0].amax(0) * 255
    assert difference[47:49].mean() > 10
    assert difference[20:30, 20:30].max() < 0.01


def on_seams(length: int, tile: int, overlap: int) -> torch.Tensor:
    """Which pixels of an axis lie in the overlap of two tiles."""
    seams = torch.zeros(length, dtype=torch.bool)
    for (_, end), (start, _) in itertools.pairwise(spans(length, tile, overlap)):
        seams[start:end] = True
    return seams


def test_an_image_that_fits_is_done_in_one_call():
    calls = []

    def network(x):
        calls.append(x.shape)
        return x

    image = torch.rand(1, 3, 32, 20)
    assert run_tiled(network, image, tile=32, overlap=8) is image
    run_tiled(network, torch.rand(1, 3, 99, 99), tile=0, overlap=8)
    assert [tuple(c[-2:]) for c in calls] == [(32, 20), (99, 99)]


class Small:
    """A memory that holds so many pixels at once; remembers what it was asked."""

    def __init__(self, most: int, error: Exception) -> None:
        self.most, self.error, self.calls = most, error, []

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.append((x.shape[0], x.shape[-1]))
        if x.shape[0] * x.shape[-2] * x.shape[-1] > self.most:
            raise self.error
        return x * 2


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: 12"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_a_tile_that_memory_does_not_hold_is_halved_and_stays_so(error):
    network, tiling, image = Small(32 * 32, error), Tiling(128, 8), torch.rand(1, 3, 100, 90)
    with (
        pytest.warns(UserWarning, match="going on with 1 tile of 50 pixels"),
        pytest.warns(UserWarning, match="of 25 pix"),
    ):
        torch.testing.assert_close(run_tiled(network, image, tiling=tiling), image * 2)
    assert [side for _, side in network.calls][:3] == [90, 50, 25]
    assert (tiling.tile, tiling.overlap) == (25, 8)
    network.calls.clear()
    run_tiled(network, image, tiling=tiling)
    assert max(side for _, side in network.calls) == 25


def test_a_batch_that_memory_does_not_hold_is_halved_before_the_tile():
    network, tiling, image = Small(2 * 24 * 24, MemoryError()), Tiling(24, 8, batch=8), torch.rand(1, 3, 60, 200)
    with pytest.warns(UserWarning, match="with 4 tiles"), pytest.warns(UserWarning, match="with 2 tiles of 24 pixels"):
        torch.testing.assert_close(run_tiled(network, image, tiling=tiling), image * 2)
    assert (tiling.batch, tiling.tile) == (2, 24)


def test_memory_that_runs_out_midway_starts_the_image_again():
    class Later(Small):
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            self.most = 10**9 if len(self.calls) < 7 else 20 * 20
            return super().__call__(x)

    image = torch.rand(1, 3, 100, 100)
    with pytest.warns(UserWarning, match="memory ran out"):
        torch.testing.assert_close(run_tiled(Later(0, MemoryError()), image, 32, 8), image * 2)


def test_where_no_tile_fits_the_mend_is_named_and_other_errors_pass():
    with pytest.warns(UserWarning), pytest.raises(UserError, match="does not hold a tile of 16 pixels: give a smaller"):
        run_tiled(Small(8, MemoryError()), torch.rand(1, 3, 64, 64), tile=32, overlap=8)
    with pytest.raises(UserError, match="does not hold a whole image: give --tile"):
        run_tiled(Small(8, MemoryError()), torch.rand(1, 3, 64, 64), tile=0)
    with pytest.raises(RuntimeError, match="of its own"):
        run_tiled(Small(8, RuntimeError("a fault of its own")), torch.rand(1, 3, 64, 64), tile=32, overlap=8)


@pytest.mark.parametrize("batch", [2, 3, 64])
def test_batches_of_tiles_change_nothing(batch):
    network, image = blur(2), torch.rand(1, 3, 70, 110)
    tiling = Tiling(32, 8, batch)
    counted = []
    bands_of = bands(network, window_of(image), 70, 110, tiling, lambda *seen: counted.append(seen))
    joined = torch.cat([band for _, band in bands_of], 2)
    torch.testing.assert_close(joined, run_tiled(network, image, 32, 8), atol=1e-6, rtol=0)
    assert counted[-1] == (len(spans(70, 32, 8)) * len(spans(110, 32, 8)),) * 2
    assert len(counted) < counted[-1][1]


def test_bands_come_from_top_to_bottom_and_are_no_higher_than_a_tile():
    image = torch.rand(1, 3, 200, 60)
    tops, heights = [], []
    for top, band in bands(torch.neg, window_of(image), 200, 60, Tiling(32, 20)):
        tops.append(top)
        heights.append(band.shape[2])
        torch.testing.assert_close(band, -image[:, :, top : top + band.shape[2]])
    assert tops == [sum(heights[:i]) for i in range(len(heights))]
    assert sum(heights) == 200
    assert max(heights) <= 32


def test_other_channel_counts_pass():
    both = torch.rand(1, 6, 40, 40)
    out = run_tiled(lambda x: x[:, :3] + x[:, 3:], both, tile=16, overlap=4)
    torch.testing.assert_close(out, both[:, :3] + both[:, 3:])


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"image must be \[1, C, H, W\]"):
        run_tiled(torch.sin, torch.rand(2, 3, 8, 8))
    with pytest.raises(ValueError, match="batch must be"):
        Tiling(batch=0)
    with pytest.raises(ValueError, match="overlap must be"):
        run_tiled(torch.sin, torch.rand(1, 3, 8, 8), tile=8, overlap=8)
