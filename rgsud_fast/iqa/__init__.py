"""Image-quality scores without ground truth: higher is better, and a non-finite score rejects the image."""

from __future__ import annotations

from .domain import DomainScorer, fit_domain_scorer
from .factory import load_scorer, make_scorer, restore_scorer, save_scorer, score, validity
from .plausibility import Plausibility
from .scorer import CallableScorer, Scorer

__all__ = [
    "CallableScorer",
    "DomainScorer",
    "Plausibility",
    "Scorer",
    "fit_domain_scorer",
    "load_scorer",
    "make_scorer",
    "restore_scorer",
    "save_scorer",
    "score",
    "validity",
]
