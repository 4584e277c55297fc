"""The interface of a phase: a sequence of small parts, after each of which it can be saved and taken up again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from ..errors import UserError
from ..system.watch import Watch, nobody
from .workshop import Workshop


class Phase(ABC):
    """One phase of a toolbox; whatever is drawn depends on the seed and on how much is done.

    Attributes:
        name: for people.
        done, total: how far it is.
    """

    name: str
    done: int
    total: int

    def __init__(self, workshop: Workshop) -> None:
        self.workshop, self.config = workshop, workshop.config

    @property
    def ended(self) -> bool:
        """Whether nothing is left but `finish`."""
        return self.done >= self.total

    @abstractmethod
    def advance(self) -> dict[str, Any]:
        """Do the next part; returns figures for the log, or none."""

    @abstractmethod
    def finish(self) -> None:
        """Leave what was made: files, and entries of the results. May be done twice."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to go on with the same bits: tensors and plain values."""

    @abstractmethod
    def load_state_dict(self, saved: dict[str, Any], watch: Watch = nobody) -> None:
        """Take up a phase of another process; `watch` is told where that takes long."""

    def demand_finite(self, loss: Tensor, of: str) -> None:
        """Stop at a loss that is no number, before it reaches weights.

        Raises:
            UserError: it is not finite; the last checkpoint is kept.
        """
        if not bool(loss.isfinite()):
            folder = self.workshop.folder.path
            raise UserError(
                f"{of}: the loss is not finite after {self.done:,} of {self.total:,}; the last checkpoint in {folder} "
                "is kept: start anew with a lower learning rate"
            )


def copy_state(module: nn.Module) -> dict[str, Tensor]:
    """A module's weights as they are now."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
