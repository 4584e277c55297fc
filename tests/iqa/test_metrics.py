"""PSNR and SSIM against other people's, and the fixed filter that is printed beside results."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from rgsud_fast.iqa import metrics


def pair(height: int = 37, width: int = 45, images: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth image and a noisy version of it, on 8-bit values."""
    generator = torch.Generator().manual_seed(3)
    clean = torch.rand(images, 3, height // 4, width // 4, generator=generator)
    clean = torch.nn.functional.interpolate(clean, (height, width), mode="bilinear")
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=generator)
    return metrics.rounded_to_8_bits(noisy), metrics.rounded_to_8_bits(clean)


def test_psnr_of_a_constant_error_is_what_the_formula_says():
    clean = torch.full((1, 3, 8, 8), 100 / 255)
    assert metrics.psnr(clean + 10 / 255, clean).item() == pytest.approx(20 * math.log10(255 / 10), abs=1e-9)


def test_equal_images_have_finite_psnr_and_ssim_one():
    image, _ = pair()
    assert metrics.psnr(image, image).tolist() == [metrics.BEST_PSNR] * 2
    assert metrics.ssim(image, image).tolist() == pytest.approx([1, 1], abs=1e-12)


def test_images_are_compared_as_eight_bits():
    image, _ = pair()
    assert metrics.psnr(image + 0.4 / 255, image).tolist() == [metrics.BEST_PSNR] * 2
    assert metrics.psnr(torch.full((1, 1, 4, 4), 1.7), torch.ones(1, 1, 4, 4)).item() == metrics.BEST_PSNR


def test_psnr_and_ssim_agree_with_scikit_image():
    skimage = pytest.importorskip("skimage.metrics")
    noisy, clean = pair()
    for i in range(2):
        x, y = (a[i].permute(1, 2, 0).numpy() for a in (noisy, clean))
        theirs = skimage.structural_similarity(
            x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, channel_axis=2
        )
        assert metrics.ssim(noisy, clean)[i].item() == pytest.approx(theirs, abs=1e-9)
        assert metrics.psnr(noisy, clean)[i].item() == pytest.approx(
            skimage.peak_signal_noise_ratio(y, x, data_range=1.0), abs=1e-9
        )


def test_luma_agrees_with_scikit_image_rounded():
    color = pytest.importorskip("skimage.color")
    image, _ = pair(images=1)
    theirs = color.rgb2ycbcr(image[0].permute(1, 2, 0).numpy())[..., 0].round() / 255
    np.testing.assert_allclose(metrics.luma(image)[0, 0].numpy(), theirs, atol=1e-12)


def test_luma_of_black_and_white_is_studio_range():
    assert metrics.luma(torch.zeros(1, 3, 1, 1)).item() * 255 == pytest.approx(16)
    assert metrics.luma(torch.ones(1, 3, 1, 1)).item() * 255 == pytest.approx(235)


def test_grey_error_counts_less_on_luma():
    clean = torch.full((1, 3, 16, 16), 0.5)
    figures = metrics.evaluate_pair(clean + 20 / 255, clean)
    assert figures["psnr_y"] - figures["psnr_rgb"] == pytest.approx(-20 * math.log10(219 / 255), abs=0.3)
    assert metrics.evaluate_pair(clean[0] + 20 / 255, clean[0]) == figures


def test_shapes_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match=r"\[1, 3, 16, 16\] and \[1, 3, 16, 15\]"):
        metrics.psnr(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 15))
    with pytest.raises(ValueError, match="at least 11 pixels"):
        metrics.ssim(torch.zeros(1, 3, 10, 16), torch.zeros(1, 3, 10, 16))


def test_average_is_the_mean_over_images():
    assert metrics.average([{"a": 1.0, "b": 4.0}, {"a": 3.0, "b": 0.0}]) == {"a": 2.0, "b": 2.0}
    with pytest.raises(ValueError, match="at least one"):
        metrics.average([])


def test_fixed_filter_removes_a_thin_bright_streak_and_keeps_the_rest():
    ramp = torch.linspace(0.2, 0.6, 24).expand(1, 3, 12, 24)
    rainy = ramp.clone()
    rainy[..., 10:12] = 1.0
    filtered = metrics.fixed_filter(rainy)
    assert (filtered <= rainy).all()
    assert (filtered[..., 10:12] - ramp[..., 10:12]).abs().max() < 0.06
    far = [*range(4), *range(16, 20)]  # windows that hold no streak, and no mirrored border
    torch.testing.assert_close(filtered[..., far[4:]], rainy[..., far[4:]])


def test_fixed_filter_agrees_with_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    noisy, _ = pair(images=1)
    theirs = np.minimum(noisy.numpy(), ndimage.median_filter(noisy.numpy(), size=(1, 1, 1, 9), mode="reflect"))
    np.testing.assert_array_equal(metrics.fixed_filter(noisy).numpy(), theirs)


def test_known_figures_of_rain100l(rgsud_data):
    from PIL import Image

    folder = rgsud_data / "rain100l" / "val"

    def read(path: Path) -> torch.Tensor:
        return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None] / 255

    rainy, filtered = [], []
    for a, b in zip(sorted((folder / "rainy").iterdir()), sorted((folder / "clean").iterdir()), strict=True):
        rainy.append(metrics.psnr(read(a), read(b)).item())
        filtered.append(metrics.psnr(metrics.fixed_filter(read(a)), read(b)).item())
    assert np.mean(rainy) == pytest.approx(25.47, abs=0.005)
    assert np.mean(filtered) == pytest.approx(28.12, abs=0.005)
