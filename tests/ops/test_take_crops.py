"""take_crops against NumPy's slicing and padding, and its refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kernel_cases import each_kernel

from rgsud_fast.data import Crop, draw, offsets_of, windows_of
from rgsud_fast.ops import take_crops, use_backend

CASES = [*each_kernel("take_crops").args[1], pytest.param("cpu", "reference", id="reference-cpu")]
each_implementation = pytest.mark.parametrize("device, backend", CASES)
SIZES = [(40, 60), (33, 35), (70, 50), (1, 9)]


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]


def flat(images, device="cpu"):
    return torch.from_numpy(np.concatenate([image.ravel() for image in images])).to(device)


def windows(crops, device="cpu"):
    return windows_of(crops, SIZES, offsets_of(SIZES)).to(device)


def expected(image, crop, side):
    """By NumPy's own reflection."""
    beyond = [(0, max(side - size, 0)) for size in image.shape[:2]]
    padded = np.pad(image, [*beyond, (0, 0)], mode="reflect")
    window = padded[crop.top : crop.top + side, crop.left : crop.left + side]
    return torch.from_numpy((window[:, ::-1] if crop.flip else window) / np.float32(255)).permute(2, 0, 1)


@each_implementation
@pytest.mark.parametrize("side", [7, 32, 48, 70, 150])
def test_crops_are_windows_reflected_and_mirrored(device, backend, images, side):
    crops = draw(0, 5, 6, SIZES, side, "rainy")
    assert {crop.flip for crop in crops} == {False, True}
    with use_backend(backend):
        batch, rewards = take_crops(flat(images, device), windows(crops, device), side)
    assert batch.shape == (6, 3, side, side)
    assert rewards is None
    for got, crop in zip(batch.cpu(), crops, strict=True):
        assert torch.equal(got, expected(images[crop.index], crop, side))


@each_implementation
def test_of_versions_the_weighted_mean(device, backend, images):
    crops = draw(0, 5, 4, SIZES, 40, "rainy")
    versions = [flat([image // divisor for image in images], device) for divisor in (1, 2, 3)]
    shares = torch.rand(4, 3, device=device)
    with use_backend(backend):
        batch, rewards = take_crops(versions[0], windows(crops, device), 40, torch.stack(versions), shares)
        alone = [take_crops(version, windows(crops, device), 40)[0] for version in versions]
    assert torch.equal(batch, alone[0])
    mean = sum(share[:, None, None, None] * image for share, image in zip(shares.unbind(1), alone, strict=True))
    torch.testing.assert_close(rewards, mean)


@each_implementation
def test_a_version_of_no_weight_is_left_out_and_one_of_weight_1_is_exact(device, backend, images):
    crops = draw(1, 0, 4, SIZES, 40, "rainy")
    pixels = flat(images, device)
    shares = torch.tensor([[1.0, 0.0]] * 4, device=device)
    with use_backend(backend):
        batch, rewards = take_crops(pixels, windows(crops, device), 40, torch.stack([pixels, 255 - pixels]), shares)
    assert torch.equal(batch, rewards)


@pytest.mark.parametrize(
    "change", [{0: 10**9}, {0: -3}, {1: 10**6}, {1: 0}, {2: -1}, {3: -1}, {4: -1}, {1: 2**40, 2: 2**40}], ids=str
)
def test_the_cpu_kernel_refuses_windows_outside_the_pixels(images, change):
    table = windows([Crop(0, 0, 0, False), Crop(1, 0, 0, False)])
    for column, value in change.items():
        table[1, column] = value
    with pytest.raises(ValueError, match="window 1 lies outside"), use_backend("native"):
        take_crops(flat(images), table, 32)


def test_refuses_other_types_and_shapes(images):
    pixels, table = flat(images), windows([Crop(0, 0, 0, False)])
    with pytest.raises(TypeError, match="pixels must be a tensor of torch"):
        take_crops(pixels.float(), table, 32)
    with pytest.raises(TypeError, match="windows must be a tensor of torch"):
        take_crops(pixels, table.int(), 32)
    with pytest.raises(ValueError, match=r"windows must be \[N, 6\]"):
        take_crops(pixels, table[:, :5], 32)
    with pytest.raises(ValueError, match="contiguous"):
        take_crops(pixels[::2], table, 32)
    with pytest.raises(ValueError, match="versions must be"):
        take_crops(pixels, table, 32, pixels[None], torch.ones(1, 2))
    with pytest.raises(ValueError, match="K at least 1"):
        take_crops(pixels, table, 32, torch.zeros(0, len(pixels), dtype=torch.uint8), torch.ones(1, 0))
    with pytest.raises(ValueError, match="side must be positive"):
        take_crops(pixels, table, 0)


@pytest.mark.parametrize("device, backend", [case for case in CASES if case.values[1] == "triton"])
def test_the_triton_kernel_reads_zeros_outside_the_pixels(device, backend, images):
    table = windows([Crop(0, 0, 0, False), Crop(1, 0, 0, False)], device)
    table[0, 0], table[1, 0] = 10**9, -(10**6)
    with use_backend(backend):
        assert (take_crops(flat(images, device), table, 32)[0] == 0).all()


def test_crops_are_float32_whatever_the_default(images):
    torch.set_default_dtype(torch.float64)
    try:
        assert take_crops(flat(images), windows([Crop(0, 0, 0, False)]), 32)[0].dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
