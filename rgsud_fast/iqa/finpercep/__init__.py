"""FinPercep-RM (CVPR 2026): a score that also says where an image is spoiled, fitted to the user's photographs."""

from __future__ import annotations

from .scorer import FinpercepScorer, base_scorer

__all__ = ["FinpercepScorer", "base_scorer"]
