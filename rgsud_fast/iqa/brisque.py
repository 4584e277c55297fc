"""BRISQUE: a support-vector regression from natural-scene statistics to what people say of distorted photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor

from ..errors import UserError, reason
from ..ops.nss_features import OPENCV, nss_features
from ..system.files import read_small
from .scorer import check_images, finite

FEATURES = 36
MOST_BYTES = 2**24  # of one of OpenCV's files; theirs has 0.4 million
SMALLEST = 16  # pixels; below that there are too few for five fits at half scale


class BrisqueModel(NamedTuple):
    """Support vectors of an epsilon-SVR with a radial kernel, and the features' ranges; all float64."""

    vectors: Tensor  # [S, 36]
    weights: Tensor  # [S]
    offset: Tensor  # scalar
    gamma: Tensor  # scalar
    ranges: Tensor  # [2, 36]: what is scaled to -1 and to 1


def brisque(images: Tensor, model: BrisqueModel, clamp: bool = True) -> Tensor:
    """How distorted images look, lower is better (Mittal et al., 2012), as OpenCV's QualityBRISQUE computes it.

    sum_s weight_s exp(-gamma |f - vector_s|^2) - offset, f the 36 features of `nss_features` over the whole image,
    scaled to -1...1.

    Args:
        images: [N, 3, H, W] in [0, 1].
        model: of `load_brisque_model`.
        clamp: to 0...100, as OpenCV does, which makes ties of the best and of the worst images.

    Returns:
        [N] float32. NaN for an image that is flat, smaller than 16 pixels or not finite; the others are not touched.
    """
    if min(images.shape[2:]) < SMALLEST:
        return images.new_full((len(images),), torch.nan, dtype=torch.float32)
    features = nss_features(images, block=None, form=OPENCV)  # [N, 36]
    low, high = model.ranges.to(features.device)
    scaled = 2 * (features - low) / (high - low) - 1
    away = (scaled[:, None] - model.vectors.to(features.device)).square().sum(2)  # [N, S]
    score = (torch.exp(-model.gamma * away) * model.weights.to(features.device)).sum(1) - model.offset
    score = torch.where(finite(images) & scaled.isfinite().all(1), score, torch.nan).float()
    return score.clamp(0, 100) if clamp else score


def load_brisque_model(model: str | Path, ranges: str | Path | None = None) -> BrisqueModel:
    """Read OpenCV's two files, `brisque_model_live.yml` and `brisque_range_live.yml`.

    Args:
        model: the first.
        ranges: the second; by default the first one's name with "model" replaced by "range".

    Raises:
        UserError: a file is missing or holds something else.
    """
    model = Path(model)
    ranges = Path(ranges) if ranges else model.with_name(model.name.replace("model", "range"))
    svm, span = _read(model), _read(ranges)
    try:
        svm = svm["opencv_ml_svm"]
        if svm["svmType"] != "EPS_SVR" or svm["kernel"]["type"] != "RBF":
            raise ValueError
        decision = svm["decision_functions"][0]
        read = BrisqueModel(
            _numbers(svm["support_vectors"]),
            _numbers(decision["alpha"]),
            _numbers(decision["rho"]),
            _numbers(svm["kernel"]["gamma"]),
            _numbers(span["range"]["data"]).reshape(2, FEATURES),
        )
        _check(read)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, OverflowError):
        raise UserError(
            f"BRISQUE model {model} with {ranges.name}: not OpenCV's epsilon-SVR over {FEATURES} features"
        ) from None
    return read


class BrisqueScorer:
    """Psi = -BRISQUE, without OpenCV's clamp. It looks at the derained image alone."""

    name = "brisque"

    def __init__(self, model: BrisqueModel):
        self.model = model

    def score(self, images: Tensor, rainy: Tensor | None = None) -> Tensor:
        """Score each image by itself; see `Scorer.score`. `rainy` is not used."""
        check_images(images, rainy)
        with torch.no_grad():
            # One by one: in another batch sums may be taken in another order, and a score must not change with it.
            return -torch.cat([brisque(one[None], self.model, clamp=False) for one in images])

    def state(self) -> dict[str, Tensor]:
        """The regression, on the CPU."""
        return {name: value.cpu() for name, value in self.model._asdict().items()}

    @classmethod
    def from_state(cls, state: dict[str, Tensor], device: torch.device | str = "cpu") -> BrisqueScorer:
        """Rebuild the scorer that `state` was taken of."""
        model = BrisqueModel(*(state[name].to(device) for name in BrisqueModel._fields))
        _check(model)
        return cls(model)


_Quick: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Quick):
    """Safe YAML with OpenCV's matrices as plain mappings."""


_Loader.add_constructor(
    "tag:yaml.org,2002:opencv-matrix", lambda loader, node: loader.construct_mapping(node, deep=True)
)


def _read(path: Path) -> Any:
    try:
        text = read_small(path, MOST_BYTES).decode()
    except FileNotFoundError:
        raise UserError(
            f"BRISQUE model {path}: no such file; OpenCV's contrib repository has brisque_model_live.yml and "
            "brisque_range_live.yml in modules/quality/samples"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"BRISQUE model {path} cannot be read as OpenCV's YAML: {error}") from None
    try:
        if "&" in text:  # a few lines of aliases can stand for more than any memory holds
            raise ValueError("an anchor (&), which OpenCV never writes")
        return yaml.load(text.removeprefix("%YAML:1.0"), _Loader)  # a header that is no YAML
    except Exception as error:  # a tag such as !!timestamp makes its constructor raise nearly anything
        raise UserError(f"BRISQUE model {path} is not OpenCV's YAML: {reason(error, 100)}") from None


def _check(model: BrisqueModel) -> None:
    shapes = [list(part.shape) for part in model]
    if shapes != [[len(model.vectors), FEATURES], [len(model.vectors)], [], [], [2, FEATURES]]:
        raise ValueError(f"no epsilon-SVR over {FEATURES} features: {shapes}")


def _numbers(values: Any) -> Tensor:
    numbers = torch.tensor(values, dtype=torch.float64)
    if not numbers.isfinite().all():
        raise ValueError
    return numbers
