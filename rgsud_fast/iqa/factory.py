"""From a name, a function or a file to a scorer, and what to do with one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..data import read_image
from ..errors import UserError
from ..files import replacing
from .domain import DomainScorer, fit_domain_scorer
from .scorer import CallableScorer, Scorer, check_images, to_batch

NAMES = ("domain", "niqe")


def make_scorer(
    scorer: str | Scorer | Callable[[Tensor], object],
    rainy: Sequence[np.ndarray],
    clean: Sequence[np.ndarray],
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Scorer:
    """Fit the scorer of that name to the user's photographs, or take the user's own.

    Args:
        scorer: "domain" (fitted to both sets), "niqe" (its natural-image model fitted to the clean set), a Scorer, or
            a function `images [N, 3, H, W] -> N numbers, higher is better`.
        rainy: the rainy photographs, uint8 [H, W, 3] each.
        clean: the clean ones, of other scenes.
        seed: of everything drawn while fitting.
        device: where images will be scored.

    Raises:
        UserError: no such scorer, or photographs it cannot be fitted to.
    """
    if isinstance(scorer, str):
        if scorer == "domain":
            return fit_domain_scorer(rainy, clean, seed, device=device)
        if scorer == "niqe":
            from .niqe import NiqeScorer, fit_niqe_model

            return NiqeScorer(fit_niqe_model(clean, device))
        raise _unknown(scorer)
    if isinstance(scorer, Scorer):
        return scorer
    if callable(scorer):
        return CallableScorer(scorer)
    raise UserError(f"scorer must be one of {', '.join(NAMES)} or a function of images, got {scorer!r}")


def restore_scorer(name: str, state: dict[str, Tensor], device: torch.device | str = "cpu") -> Scorer:
    """Rebuild the fitted scorer whose `state()` this is; for a resumed run.

    Raises:
        UserError: no scorer of that name is ever fitted.
    """
    if name == "domain":
        return DomainScorer.from_state(state, device)
    if name == "niqe":
        from .niqe import NiqeScorer

        return NiqeScorer.from_state(state, device)
    raise _unknown(name)


def save_scorer(scorer: Scorer, path: str | Path) -> None:
    """Write a fitted scorer to a safetensors file that `load_scorer` reads."""
    with replacing(path) as temporary:
        safetensors.torch.save_file(scorer.state(), temporary, metadata={"scorer": scorer.name})


def load_scorer(path: str | Path, device: torch.device | str = "cpu") -> Scorer:
    """Read a scorer from a run's `scorer.safetensors`, or NIQE's published parameters from an .npz file.

    Raises:
        UserError: the file is missing or holds no scorer.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"scorer {path}: no such file; give a run's scorer.safetensors or NIQE's parameters (.npz)")
    if path.suffix == ".npz":
        from .niqe import NiqeScorer, load_niqe_model

        return NiqeScorer(load_niqe_model(path, device))
    try:
        with safe_open(path, "pt") as file:
            name = (file.metadata() or {}).get("scorer", "")
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        return restore_scorer(name, state, device)
    except (SafetensorError, OSError, RuntimeError, KeyError, UserError):
        raise UserError(f"scorer {path} holds no fitted scorer; give a run's scorer.safetensors") from None


def score(
    images: Any,
    scorer: Scorer | Callable[[Tensor], object] | str | Path,
    rainy: Tensor | None = None,
) -> Tensor:
    """How good images look, without ground truth.

    Args:
        images: [N, 3, H, W] or [3, H, W] float RGB in [0, 1]; or uint8 [H, W, 3] arrays, or paths of image files, one
            or a list, of any sizes.
        scorer: a Scorer, a function of images, or the path of a run's `scorer.safetensors` or of NIQE parameters.
        rainy: the inputs the images were derained from, [N, 3, H, W]; then what was removed must be plausible as rain.
            For tensors only.

    Returns:
        [N] float32, higher is better; a non-finite score means that the image cannot be scored.

    Raises:
        UserError: no such scorer or image file. ValueError: images of another form.
    """
    if isinstance(scorer, str) and scorer in NAMES:
        raise UserError(f"scorer {scorer} must be fitted first: give the path of a run's scorer.safetensors")
    if isinstance(scorer, (str, Path)):
        scorer = load_scorer(scorer, images.device if isinstance(images, Tensor) else "cpu")
    scorer = make_scorer(scorer, (), ())
    if isinstance(images, Tensor):
        images = images[None] if images.dim() == 3 else images
        rainy = rainy[None] if rainy is not None and rainy.dim() == 3 else rainy
        check_images(images, rainy)
        return scorer.score(images, rainy)
    if isinstance(images, (str, Path, np.ndarray)):
        images = [images]
    return torch.cat([scorer.score(to_batch(_pixels(image))).cpu() for image in images])


def validity(scorer: Scorer, pairs: Iterable[Any], device: torch.device | str = "cpu") -> float:
    """Share of pairs whose clean image scores above its rainy one; a useful scorer reaches 0.95.

    Scored without the plausibility terms, which are 0 for the rainy image itself.

    Args:
        scorer: any.
        pairs: each with `rainy` and `clean`, uint8 [H, W, 3].
        device: where to score.

    Returns:
        The share, 0 to 1; NaN without pairs.
    """
    right = [
        float(scorer.score(to_batch(p.clean, device))) > float(scorer.score(to_batch(p.rainy, device))) for p in pairs
    ]
    return sum(right) / len(right) if right else float("nan")


def _pixels(image: str | Path | np.ndarray) -> np.ndarray:
    return image if isinstance(image, np.ndarray) else read_image(Path(image))


def _unknown(name: str) -> UserError:
    return UserError(f"scorer {name}: no such score; choose one of {', '.join(NAMES)}, or give a function in Python")
