"""reward_candidate: the image and what is said about its layer against the float64 reference."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import each_kernel

from rgsud_fast.ops import removed_layer, reward_candidate, use_backend
from rgsud_fast.ops.reward_candidate import box_mean, describe, reference

# One pixel, less and as much as half a window, a window, more than a strip of 64 rows and a tile of 32, wide and long.
SIZES = [(1, 1), (7, 8), (8, 7), (15, 15), (14, 40), (22, 23), (65, 71), (130, 33), (33, 200)]
CASES = [*each_kernel("reward_candidate").args[1], pytest.param("cpu", "reference", id="reference-cpu")]
each_implementation = pytest.mark.parametrize("device, backend", CASES)
TOLERANCE = {"rtol": 2e-6, "atol": 1e-8}


def images(size, count=2, device="cpu"):
    """Rainy images, and two derained ones that leave [0, 1] here and there."""
    rainy = torch.rand(count, 3, *size, device=device)
    return rainy, *(rainy + 0.3 * torch.randn(rainy.shape, device=device) - 0.05 for _ in range(2))


def assert_layers_match(layer, expected):
    for name, got, wanted in zip(layer._fields, layer, expected, strict=True):
        torch.testing.assert_close(got.float(), wanted.float(), **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")


@each_implementation
@pytest.mark.parametrize("grey_layer", [False, True], ids=["coloured", "grey"])
@pytest.mark.parametrize("mirror", [False, True], ids=["plain", "mirrored"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_matches_reference(device, backend, size, mirror, grey_layer):
    rainy, derained, mirrored = images(size, device=device)
    mirrored = mirrored if mirror else None
    with use_backend(backend):
        image, layer = reward_candidate(rainy, derained, mirrored, grey_layer)
    wide = [tensor if tensor is None else tensor.double() for tensor in (rainy, derained, mirrored)]
    expected = reference(*wide, grey_layer)[0]
    assert image.dtype == torch.float32
    torch.testing.assert_close(image, expected.float(), rtol=0, atol=2e-7)
    # Of the image as it was rounded: a layer is small beside it.
    assert_layers_match(layer, describe(rainy.double(), image.double()))


@each_implementation
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_layer_is_described_of_the_image_as_it_is(device, backend, size):
    rainy, derained, _ = images(size, device=device)
    with use_backend(backend):
        assert_layers_match(removed_layer(rainy, derained), describe(rainy.double(), derained.double()))


@each_implementation
def test_small_variances_and_changes_are_seen_beside_large_values(device, backend):
    derained = 0.9 + 1e-3 * torch.randn(2, 3, 200, 90, device=device)
    rainy = derained + 1e-4
    with use_backend(backend):
        assert_layers_match(removed_layer(rainy, derained), describe(rainy.double(), derained.double()))


@each_implementation
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_spoils_its_image_alone(device, backend, bad):
    rainy, derained, mirrored = images((80, 40), count=3, device=device)
    mirrored[1, 2, 66, 30] = bad
    with use_backend(backend):
        image, layer = reward_candidate(rainy, derained, mirrored, grey_layer=True)
        alone = reward_candidate(rainy[2:], derained[2:], mirrored[2:], grey_layer=True)
    assert image.isnan().nonzero().tolist() == [[1, channel, 66, 9] for channel in range(3)]
    assert all(torch.equal(value.isfinite(), torch.tensor([True, False, True], device=device)) for value in layer)
    assert torch.equal(image[2:], alone[0])
    assert all(torch.equal(value[2:], single) for value, single in zip(layer, alone[1], strict=True))


@each_implementation
def test_strided_and_other_dtypes(device, backend):
    rainy, derained, _ = images((40, 60), device=device)
    for change in (lambda x: x[:, :, ::2, 5:], lambda x: x.to(memory_format=torch.channels_last), torch.Tensor.double):
        with use_backend(backend):
            image, layer = reward_candidate(change(rainy), change(derained))
            plain = reward_candidate(change(rainy).float().contiguous(), change(derained).float().contiguous())
        torch.testing.assert_close(image.float(), plain[0], rtol=0, atol=1e-7)
        assert_layers_match(layer, plain[1])


@each_kernel("reward_candidate")
def test_same_bits_every_run_and_with_more_threads(device, backend):
    inputs = images((150, 90), count=3, device=device)
    with use_backend(backend):
        image, layer = reward_candidate(*inputs, grey_layer=True)
        for threads in (1, 2):
            torch.set_num_threads(threads)
            again = reward_candidate(*inputs, grey_layer=True)
            assert torch.equal(again[0], image)
            assert all(torch.equal(one, other) for one, other in zip(layer, again[1], strict=True))


def test_inputs_are_left_as_they_are():
    inputs = images((20, 30))
    before = [tensor.clone() for tensor in inputs]
    reward_candidate(*inputs, grey_layer=True)
    assert all(torch.equal(one, other) for one, other in zip(inputs, before, strict=True))


def naive_box(image: torch.Tensor, half: int = 7) -> torch.Tensor:
    out = torch.empty_like(image)
    for i in range(image.shape[2]):
        for j in range(image.shape[3]):
            window = image[:, :, max(i - half, 0) : i + half + 1, max(j - half, 0) : j + half + 1]
            out[:, :, i, j] = window.mean((2, 3))
    return out


@pytest.mark.parametrize("size", [(1, 1), (9, 20), (31, 33)], ids=str)
def test_box_mean_averages_over_the_part_of_the_window_inside(size):
    image = torch.rand(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(box_mean(image), naive_box(image), rtol=0, atol=1e-12)


def test_refuses_other_types_and_shapes():
    rainy, derained, mirrored = images((20, 30))
    with pytest.raises(TypeError, match="derained must be a floating-point tensor"):
        reward_candidate(rainy, derained.int())
    with pytest.raises(ValueError, match=r"rainy must be \[N, 3, H, W\], got \[2, 2, 20, 30\]"):
        removed_layer(rainy[:, :2], derained[:, :2])
    with pytest.raises(ValueError, match=r"mirrored must have rainy's shape \[2, 3, 20, 30\] on cpu, got"):
        reward_candidate(rainy, derained, mirrored[:, :, :, :20])
