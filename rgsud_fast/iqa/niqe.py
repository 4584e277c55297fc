"""NIQE: how far an image's natural-scene statistics are from those of good photographs."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from ..data import evenly, to_batch
from ..errors import UserError
from ..ops.nss_features import MATLAB, Form, block_sharpness, nss_features
from ..system.device import to_device
from ..system.names import takes_home
from ..system.watch import Watch, nobody, watched
from .scorer import check_images, finite

SHARP = 0.75  # of the sharpest block: blurred background says nothing about quality, so it stays out of the model
# Of each of the 36 features, which one is the shape it was fitted with.
_SHAPE_OF = [18 * scale + (0 if k < 2 else (k + 2) // 4 * 4 - 2) for scale in (0, 1) for k in range(18)]
_FIRST = 0.2  # the shape that a search over NaN ends at, in MATLAB as in pyiqa
# Scale over deviation at that shape, by what it is at the last one, 10, which `nss_features` leaves in its place.
_NARROW = math.sqrt(math.gamma(5) / math.gamma(15) / (math.gamma(0.1) / math.gamma(0.3)))
MOST_IMAGES = 300  # enough for 36 x 36 numbers; more cost 50 ms each on two cores


class NiqeModel(NamedTuple):
    """A Gaussian over the features of sharp blocks of good photographs."""

    mu: Tensor  # [36] float64
    cov: Tensor  # [36, 36] float64


def niqe(images: Tensor, model: NiqeModel, form: Form = MATLAB) -> Tensor:
    """Distance of each image's statistics from the model; lower is better (Mittal et al., 2013).

    sqrt((mu - mu')^T pinv((cov + cov') / 2) (mu - mu')), with mu' and cov' the mean and covariance over its blocks.

    Flat blocks count as in both published implementations, MATLAB's and pyiqa's. Where nothing can be fitted the shape
    is the first of the grid, 0.2, at which a search over NaN ends; what else is not a number is left out: mu' is the
    mean of each feature over the blocks that have it (nanmean), cov' that of the blocks that have all (nancov). So
    every flat block draws the mean shape towards 0.2, and a large flat area moves the score. What differs by form are
    the scales that a flat block has: numbers below 1e-9 on one side in `YIQ`, none in `MATLAB`.

    Args:
        images: [N, 3, H, W] in [0, 1].
        model: what good photographs look like.
        form: `MATLAB`, as published, or `YIQ`: the luma that pyiqa takes.

    Returns:
        [N] float32. NaN for an image with fewer than two blocks of 96 x 96 that have all features, or with a pixel
        that is not finite; the others are not touched by it.
    """
    features = nss_features(images, form=form)
    described = features.isfinite().all(2) & finite(images)[:, None]  # [N, blocks]
    # One by one: in another batch a product may be summed in another order, and a score must not change with it.
    return torch.cat([_distance(f, d, model) for f, d in zip(features.split(1), described.split(1), strict=True)])


def _distance(features: Tensor, described: Tensor, model: NiqeModel) -> Tensor:
    """One image's distance from the model, [1, blocks, 36] and which blocks count, [1, blocks] -> [1] float32."""
    _, cov = _moments(features, described)
    mu = _published(features).nanmean(1)
    usable = described.sum(1) >= 2
    mu = torch.where(usable[:, None], mu, 0)
    cov = torch.where(usable[:, None, None], cov, 0)
    away = mu - model.mu.to(mu)  # [1, 36]
    spread = _inverse((cov + model.cov.to(mu)) / 2)
    distance = (away[:, None] @ spread @ away[:, :, None]).flatten().clamp_min(0).sqrt()
    return torch.where(usable, distance, torch.nan).float()


def _published(features: Tensor) -> Tensor:
    """Features with what published implementations have in place of a shape that could not be fitted."""
    shape = to_device(torch.tensor(_SHAPE_OF), features.device)
    unfitted = features[..., shape].isnan()
    features = torch.where(unfitted, features * _NARROW, features)
    return torch.where(unfitted & (shape == torch.arange(36, device=features.device)), _FIRST, features)


def _inverse(matrix: Tensor) -> Tensor:
    """The inverse of a covariance [1, 36, 36]; on a CPU the pseudo-inverse, as published.

    On a GPU that would wait for the device. The model's own covariance makes the sum regular, where both are one.
    """
    if matrix.is_cuda:
        return torch.linalg.inv_ex(matrix, check_errors=False).inverse
    return torch.linalg.pinv(matrix, hermitian=True)


def fit_niqe_model(clean: Sequence[np.ndarray], device: torch.device | str = "cpu", watch: Watch = nobody) -> NiqeModel:
    """Learn what good photographs look like from the user's clean ones, as the published model was learned.

    Args:
        clean: uint8 [H, W, 3] each; at most 300 of them are used, evenly spread.
        device: where to compute.
        watch: told how many images are done.

    Returns:
        Mean and covariance of the features over all blocks whose sharpness exceeds 0.75 of their image's sharpest.

    Raises:
        UserError: too few blocks for a covariance of 36 features.
    """
    kept = []
    for index in watched(evenly(len(clean), MOST_IMAGES), watch):
        image = to_batch(clean[index], device)
        features = nss_features(image)[0]  # [blocks, 36]
        if len(features):
            sharpness = block_sharpness(image)[0]
            kept.append(features[(sharpness > SHARP * sharpness.max()) & features.isfinite().all(1)])
    blocks = torch.cat(kept) if kept else torch.zeros(0, 36)
    if len(blocks) <= 36:
        raise UserError(
            f"scorer niqe: the clean images hold {len(blocks)} sharp blocks of 96 x 96 pixels, over 36 are needed; "
            "add larger or more clean images, or choose scorer domain"
        )
    mu, cov = _moments(blocks[None], torch.ones(1, len(blocks), dtype=torch.bool, device=blocks.device))
    return NiqeModel(mu[0], cov[0])


@takes_home
def load_niqe_model(path: str | Path, device: torch.device | str = "cpu") -> NiqeModel:
    """Read published parameters: an .npz with `mu_pris_param` [1, 36] and `cov_pris_param` [36, 36].

    Raises:
        UserError: the file is missing or holds something else.
    """
    try:
        if not Path(path).is_file():
            raise FileNotFoundError
        with zipfile.ZipFile(path) as archive:
            mu = _array(archive, "mu_pris_param").reshape(36)
            cov = _array(archive, "cov_pris_param").reshape(36, 36)
    except Exception:  # a damaged archive makes its reader raise nearly anything
        raise UserError(
            f"NIQE parameters {path}: not an .npz file with mu_pris_param [1, 36] and cov_pris_param [36, 36]"
        ) from None
    return NiqeModel(torch.from_numpy(mu).to(device), torch.from_numpy(cov).to(device))


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """A small float64 array; its header is judged before there is room made for what it claims."""
    with archive.open(f"{name}.npy") as file:
        header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(file)]
        shape, _, dtype = header(file)
        if math.prod(shape) > 36 * 36 or dtype.kind != "f":
            raise ValueError
    with archive.open(f"{name}.npy") as file:
        array = npy.read_array(file, allow_pickle=False).astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError
    return array


class NiqeScorer:
    """Psi = -NIQE. It looks at the derained image alone and asks nothing about what was removed."""

    name = "niqe"

    def __init__(self, model: NiqeModel):
        self.model = model

    def score(self, images: Tensor, rainy: Tensor | None = None) -> Tensor:
        """Score each image by itself; see `Scorer.score`. `rainy` is not used."""
        check_images(images, rainy)
        with torch.no_grad():
            return -niqe(images, self.model)

    def state(self) -> dict[str, Tensor]:
        """The natural-image model, on the CPU."""
        return {"mu": self.model.mu.cpu(), "cov": self.model.cov.cpu()}

    @classmethod
    def from_state(cls, state: dict[str, Tensor], device: torch.device | str = "cpu") -> NiqeScorer:
        """Rebuild the scorer that `state` was taken of."""
        if state["mu"].shape != (36,) or state["cov"].shape != (36, 36):
            raise ValueError("the model of NIQE is [36] and [36, 36]")
        return cls(NiqeModel(state["mu"].to(device), state["cov"].to(device)))


def _moments(features: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [N, 36] and unbiased covariance [N, 36, 36] over the kept blocks of [N, blocks, 36]."""
    count = kept.sum(1)[:, None]
    mu = torch.where(kept[:, :, None], features, 0).sum(1) / count
    centred = torch.where(kept[:, :, None], features - mu[:, None], 0)
    return mu, centred.transpose(1, 2) @ centred / (count[:, :, None] - 1)
