"""NIQE against a naive computation, the published scores, and images it cannot describe."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from rgsud_fast.errors import UserError
from rgsud_fast.iqa import make_scorer
from rgsud_fast.iqa.niqe import NiqeModel, NiqeScorer, fit_niqe_model, load_niqe_model, niqe
from rgsud_fast.ops.nss_features import MATLAB, YIQ, Form, _layout, halve, nss_features

# From the MATLAB release; the tolerance covers its other order of sums.
PUBLISHED = {"I03": 15.7536, "I04": 3.6549, "I06": 3.2355}
TOLERANCE = 0.02


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise at several scales: enough like a photograph to have its statistics."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3))
    for scale in (1, 4, 16, 48):
        coarse = rng.normal(size=(height // scale + 1, width // scale + 1, 3)) * 6 * scale**0.5
        image += np.kron(coarse, np.ones((scale, scale, 1)))[:height, :width]
    return np.clip(image + 120, 0, 255).astype(np.uint8)


def batch(*images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def a_model() -> NiqeModel:
    return NiqeModel(torch.linspace(0, 1, 36, dtype=torch.float64), torch.eye(36, dtype=torch.float64))


def test_features_match_a_naive_computation():
    image = photograph(100, 200)
    features = nss_features(batch(image))
    assert features.shape == (1, 2, 36)
    np.testing.assert_allclose(features[0], naive_features(image), rtol=0, atol=1e-5)


def naive_features(image: np.ndarray, form: Form = MATLAB) -> np.ndarray:
    """The same definition, block by block and pixel by pixel, float64."""
    rows, columns = image.shape[0] // 96, image.shape[1] // 96
    x = np.round(image[: rows * 96, : columns * 96] @ np.array(form.grey))
    window = np.exp(-0.5 * ((np.arange(7) - 3) / (7 / 6)) ** 2)
    window = np.outer(window, window) / window.sum() ** 2
    if form is YIQ:
        window = window.astype(np.float32).astype(np.float64)
    parts = []
    for side in (96, 48):
        padded = np.pad(x, 3, mode="edge")
        patches = np.lib.stride_tricks.sliding_window_view(padded, (7, 7))
        mean = np.einsum("hwij,ij->hw", patches, window)
        deviation = np.sqrt(np.abs(np.einsum("hwij,ij->hw", patches**2, window) - mean**2))
        away = x - mean
        normal = np.where((form is MATLAB) & (abs(away) < 1e-9), 0, away) / (deviation + 1)  # MATLAB's mean is exact
        blocks = [normal[i * side :, j * side :][:side, :side] for i in range(rows) for j in range(columns)]
        parts.append([naive_block(block) for block in blocks])
        x = np.array([naive_halve(row) for row in np.array([naive_halve(column) for column in x.T]).T])
    return np.concatenate(parts, axis=1)


def naive_block(block: np.ndarray) -> list[float]:
    shape, left, right = naive_fit(block)
    features = [shape, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right = naive_fit(block * np.roll(block, shift, (0, 1)))
        features += [shape, (right - left) * math.gamma(2 / shape) / math.gamma(1 / shape), left, right]
    return features


def naive_fit(x: np.ndarray) -> tuple[float, float, float]:
    shapes = 0.2 + 0.001 * np.arange(9801)
    ratios = np.array([math.gamma(2 / a) ** 2 / math.gamma(1 / a) / math.gamma(3 / a) for a in shapes])
    left, right = np.sqrt(np.mean(x[x < 0] ** 2)), np.sqrt(np.mean(x[x > 0] ** 2))
    skew = left / right
    ratio = np.mean(np.abs(x)) ** 2 / np.mean(x**2) * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = shapes[np.argmin((ratios - ratio) ** 2)]
    scale = math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape))
    return shape, left * scale, right * scale


def naive_niqe(image: np.ndarray, model: NiqeModel, form: Form) -> float:
    """The published rule, with its own treatment of NaN: nanmean for the mean, whole rows for the covariance."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing are NaN, and argmin of NaN is the first
        features = naive_features(image, form)
    whole = features[np.isfinite(features).all(1)]
    away = np.nanmean(features, axis=0) - model.mu.numpy()
    return float(np.sqrt(away @ np.linalg.pinv((np.cov(whole, rowvar=False) + model.cov.numpy()) / 2) @ away))


def naive_halve(line: np.ndarray) -> np.ndarray:
    def cubic(t: float) -> float:
        t = abs(t)
        if t <= 1:
            return 1.5 * t**3 - 2.5 * t**2 + 1
        return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t <= 2 else 0.0

    mirrored = np.concatenate([line[::-1], line, line[::-1]])
    out = []
    for centre in 2 * np.arange(math.ceil(len(line) / 2)) + 0.5:
        taps = range(int(centre - 3.5), int(centre + 4.5))
        weights = [cubic((tap - centre) / 2) for tap in taps]
        out.append(sum(w * mirrored[tap + len(line)] for w, tap in zip(weights, taps, strict=True)) / sum(weights))
    return np.array(out)


@pytest.mark.parametrize("size", [(6, 7), (9, 16), (33, 48)], ids=str)
def test_halving_matches_a_naive_computation(size):
    x = np.random.default_rng(0).uniform(0, 255, size)
    expected = np.array([naive_halve(row) for row in np.array([naive_halve(column) for column in x.T]).T])
    layout = _layout(torch.zeros(1, 3, *size), None, MATLAB)
    np.testing.assert_allclose(halve(torch.from_numpy(x)[None], layout)[0], expected, rtol=0, atol=1e-9)


def test_an_image_that_cannot_be_described_is_rejected_alone():
    good = photograph(192, 192)
    images = batch(good, np.full_like(good, 90), good)
    images[2, 0, 5, 5] = torch.nan
    scores = NiqeScorer(a_model()).score(images)
    assert scores.isfinite().tolist() == [True, False, False]
    assert torch.equal(scores[:1], NiqeScorer(a_model()).score(images[:1]))
    assert torch.allclose(niqe(images, a_model())[:1], -scores[:1])
    for height, width in ((95, 400), (96, 191), (8, 8)):
        assert niqe(batch(photograph(height, width)), a_model()).isnan().all()


def with_flat(level: int, area: str) -> np.ndarray:
    """A photograph with a sky of one level, or with stripes, of which products have one sign."""
    image = photograph(288, 384)
    if area == "sky":
        image[:150] = level
    elif area == "all but two blocks":
        image[:192] = level
        image[192:, :192] = level
    else:
        image[:, :200] = np.where(np.arange(200) % 8 < 4, level, 90)[:, None]
    return image


@pytest.mark.parametrize("form", [MATLAB, YIQ], ids=["MATLAB", "YIQ"])
@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("area", ["sky", "all but two blocks", "stripes"])
def test_flat_areas_count_as_published(area, level, form):
    image = with_flat(level, area)
    image = np.repeat(image[:, :, :1], 3, axis=2)  # grey, so that both luminances round alike
    assert niqe(batch(image), a_model(), form)[0].item() == pytest.approx(naive_niqe(image, a_model(), form), abs=1e-4)


def test_flat_blocks_have_no_features():
    image = photograph(192, 288)
    half_flat = image.copy()
    half_flat[:, :104] = 255
    features = nss_features(batch(half_flat))
    assert features.isfinite().all(2).tolist() == [[False, True, True, False, True, True]]
    assert niqe(batch(half_flat), a_model()).isfinite().all()


def test_a_fitted_model_prefers_what_it_was_fitted_to():
    clean = [photograph(192, 288, seed) for seed in range(12)]
    scorer = make_scorer("niqe", [], clean)
    image = batch(photograph(192, 288, 99))
    noisy = (image + 0.15 * torch.randn(image.shape)).clamp(0, 1)
    blurred = torch.nn.functional.avg_pool2d(image, 5, 1, 2)
    good, *others = scorer.score(torch.cat([image, noisy, blurred]), rainy=torch.cat([image] * 3)).tolist()
    assert good > max(others)
    restored = NiqeScorer.from_state(scorer.state())
    assert torch.equal(restored.score(image), scorer.score(image))


def test_too_few_clean_blocks_are_a_users_error():
    with pytest.raises(UserError, match=r"niqe: the clean images hold \d+ sharp blocks"):
        fit_niqe_model([photograph(96, 96), photograph(40, 40)])


def test_parameters_that_are_none_are_named(tmp_path):
    np.savez(tmp_path / "other.npz", mu=np.zeros(36))
    for path in (tmp_path / "other.npz", tmp_path / "missing.npz"):
        with pytest.raises(UserError, match=f"{path.name}: not an .npz file with mu_pris_param"):
            load_niqe_model(path)


def test_published_scores_are_reached(rgsud_data):
    from PIL import Image

    model = load_niqe_model(rgsud_data / "iqa" / "niqe_pris_params.npz")
    for name, expected in PUBLISHED.items():
        (path,) = (rgsud_data / "iqa" / "images").glob(f"{name}.*")
        image = np.asarray(Image.open(path).convert("RGB"))
        assert float(niqe(batch(image), model)[0]) == pytest.approx(expected, abs=TOLERANCE)
