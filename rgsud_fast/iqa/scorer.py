"""The interface of every image-quality score, and a user's own function behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import UserError


@runtime_checkable
class Scorer(Protocol):
    """Anything that says how good derained images look."""

    name: str

    def score(self, images: Tensor, rainy: Tensor | None = None) -> Tensor:
        """Score each image by itself, without gradient.

        Args:
            images: [N, 3, H, W] float32 RGB in [0, 1].
            rainy: the rainy inputs they were derained from, same shape; without them the plausibility of what was
                removed is left out.

        Returns:
            [N] float32 on the images' device, higher is better; a non-finite score means the image is rejected.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """Whatever a checkpoint must hold so that a resumed run scores alike."""
        ...


@runtime_checkable
class MappedScorer(Scorer, Protocol):
    """A score that also says where an image is spoiled."""

    maps: bool  # whether it does as it now is

    def map(self, images: Tensor, rainy: Tensor | None = None) -> Tensor:
        """Where each image is spoiled, [N, 1, H, W] in [0, 1], without gradient; arguments as of `score`."""
        ...

    def score_and_map(self, images: Tensor, rainy: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`score` and `map` at once."""
        ...


class CallableScorer:
    """A user's function `images [N, 3, H, W] -> N numbers, higher is better` as a scorer."""

    def __init__(self, function: Callable[[Tensor], object]):
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)

    def score(self, images: Tensor, rainy: Tensor | None = None) -> Tensor:
        """Call the function and bring its result to [N] float32; see `Scorer.score`.

        Raises:
            UserError: it did not return one number per image.
        """
        check_images(images, rainy)
        with torch.no_grad():
            result = self.function(images)
        try:
            scores = torch.as_tensor(result, dtype=torch.float32, device=images.device).detach()
        except (TypeError, ValueError, RuntimeError):
            scores = None
        if scores is None or scores.numel() != len(images):
            got = type(result).__name__ if scores is None else f"shape {list(scores.shape)}"
            raise UserError(
                f"scorer {self.name} must return one number per image, [{len(images)}] for images "
                f"{list(images.shape)}, got {got}"
            )
        return scores.reshape(len(images))

    def state(self) -> dict[str, Tensor]:
        """Nothing: a function is given anew on every run."""
        return {}


def check_images(images: Tensor, rainy: Tensor | None = None) -> None:
    """Refuse what is no batch of RGB images.

    Raises:
        ValueError: the message names the argument and shows what was got.
    """
    for name, value in (("images", images), ("rainy", rainy)):
        if value is None and name == "rainy":
            continue
        shape = list(getattr(value, "shape", []))
        if not isinstance(value, Tensor) or not value.is_floating_point() or len(shape) != 4 or shape[1] != 3:
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{name} must be a floating-point [N, 3, H, W] tensor in [0, 1], got {kind} {shape}")
    if rainy is not None and rainy.shape != images.shape:
        raise ValueError(f"rainy must have the shape of images, {list(images.shape)}, got {list(rainy.shape)}")


def finite(images: Tensor) -> Tensor:
    """Which images hold finite numbers alone, [N, 3, H, W] -> [N] bool: any other number spoils the sum."""
    return images.sum(dim=(1, 2, 3), dtype=torch.float32).isfinite()


def below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
