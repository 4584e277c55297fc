"""Image-quality scores without ground truth: higher is better, and a non-finite score rejects the image."""

from __future__ import annotations

from .brisque import BrisqueModel, BrisqueScorer, brisque, load_brisque_model
from .daclip import DaclipScorer, convert_daclip, load_daclip
from .domain import DomainScorer, fit_domain_scorer
from .ensemble import EnsembleScorer, fit_ensemble
from .factory import load_scorer, make_scorer, open_scorer, restore_scorer, save_scorer, validity
from .finpercep import FinpercepScorer
from .from_pyiqa import PyiqaScorer
from .judge import score
from .niqe import NiqeModel, NiqeScorer, fit_niqe_model, load_niqe_model, niqe
from .plausibility import Plausibility
from .scorer import CallableScorer, MappedScorer, Scorer

__all__ = [
    "BrisqueModel",
    "BrisqueScorer",
    "CallableScorer",
    "DaclipScorer",
    "DomainScorer",
    "EnsembleScorer",
    "FinpercepScorer",
    "MappedScorer",
    "NiqeModel",
    "NiqeScorer",
    "Plausibility",
    "PyiqaScorer",
    "Scorer",
    "brisque",
    "convert_daclip",
    "fit_domain_scorer",
    "fit_ensemble",
    "fit_niqe_model",
    "load_brisque_model",
    "load_daclip",
    "load_niqe_model",
    "load_scorer",
    "make_scorer",
    "niqe",
    "open_scorer",
    "restore_scorer",
    "save_scorer",
    "score",
    "validity",
]
