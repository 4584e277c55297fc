"""From a name, a function or a file to a scorer, and what to do with one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from ..config.scorer_names import INSTEAD, NAMES, check_ready, check_scorer, is_name, members_of, parse_scorer
from ..data import to_batch
from ..errors import UserError, reason
from ..system.files import replacing
from ..system.hub import fetch, is_hub_name
from ..system.names import printable, takes_home, utf8_name
from ..system.safetensors_bytes import safetensors_bytes
from ..system.watch import Watch, nobody
from .brisque import BrisqueModel, BrisqueScorer, load_brisque_model
from .daclip import DaclipScorer, load_daclip
from .domain import DomainScorer, fit_domain_scorer
from .ensemble import EnsembleScorer, fit_ensemble
from .finpercep import FinpercepScorer, base_scorer
from .from_pyiqa import PyiqaScorer
from .niqe import NiqeScorer, fit_niqe_model, load_niqe_model
from .scorer import CallableScorer, Scorer, below

_FITTED: dict[str, type[DomainScorer | NiqeScorer | BrisqueScorer | FinpercepScorer]] = {  # whose state says everything
    "domain": DomainScorer,
    "niqe": NiqeScorer,
    "brisque": BrisqueScorer,
    "finpercep": FinpercepScorer,
}


def make_scorer(
    scorer: str | Scorer | Callable[[Tensor], object],
    rainy: Sequence[np.ndarray],
    clean: Sequence[np.ndarray],
    seed: int = 0,
    device: torch.device | str = "cpu",
    configure: Callable[[Scorer], None] = lambda scorer: None,
    watch: Watch = nobody,
) -> Scorer:
    """Make the score of that name, fitted to the user's photographs where it is a fitted one; or take the user's own.

    Args:
        scorer: `domain` (fitted to both sets); `niqe` (its natural-image model fitted to the clean set) or
            `niqe:FILE.npz` (published parameters); `brisque:brisque_model_live.yml`; `daclip` or `daclip:FILE`;
            `finpercep:FILE`, or `finpercep`, whose networks a run fits later: till then it is its base score;
            `pyiqa:METRIC`; `ensemble:[A,B]` of any of these (ranks among both sets); a Scorer; or a function
            `images [N, 3, H, W] -> N numbers, higher is better`.
        rainy: the rainy photographs, uint8 [H, W, 3] each.
        clean: the clean ones, of other scenes.
        seed: of everything drawn while fitting.
        device: where images will be scored.
        configure: called with each scorer that is made by name, an ensemble's members before they are fitted.
        watch: told how far the fitting is.

    Raises:
        UserError: no such scorer, a file or package it needs is missing, or photographs it cannot be fitted to.
    """
    if isinstance(scorer, Scorer):
        return scorer
    if callable(scorer):
        return CallableScorer(scorer)
    if not isinstance(scorer, str):
        raise UserError(f"scorer must be one of {', '.join(NAMES)} or a function of images, got {scorer!r}")
    check_scorer(scorer)
    if scorer.startswith("ensemble"):
        members = [make_scorer(member, rainy, clean, seed, device, configure, watch) for member in members_of(scorer)]
        return fit_ensemble(members, (rainy, clean), device, watch)
    made = _make(*parse_scorer(scorer), rainy, clean, seed, device, watch)
    configure(made)
    return made


def _make(
    name: str,
    argument: str,
    rainy: Sequence[np.ndarray],
    clean: Sequence[np.ndarray],
    seed: int,
    device: torch.device | str,
    watch: Watch,
) -> Scorer:
    if name == "pyiqa":
        return PyiqaScorer(argument, device)
    if name == "daclip":
        return load_daclip(argument or None, device)
    if name == "brisque":
        return BrisqueScorer(BrisqueModel(*(part.to(device) for part in load_brisque_model(argument))))
    if name == "niqe":
        return _niqe(argument, device) if argument else NiqeScorer(fit_niqe_model(clean, device, watch))
    if name == "finpercep":
        return _finpercep(argument, device) if argument else base_scorer(rainy, clean, seed, device, watch)
    return fit_domain_scorer(rainy, clean, seed, device=device, watch=watch)


def _finpercep(path: str, device: torch.device | str) -> FinpercepScorer:
    """FinPercep-RM by a file of `rgsud-fast fit-finpercep`, or of a run."""
    scorer = load_scorer(path, device)
    if not isinstance(scorer, FinpercepScorer):
        raise UserError(f"scorer finpercep:{path}: the file holds the score {scorer.name}")
    return scorer


def _niqe(path: str, device: torch.device | str) -> Scorer:
    """NIQE by published parameters, or by a model of `rgsud-fast fit-niqe`."""
    if Path(path).suffix == ".npz":
        return NiqeScorer(load_niqe_model(path, device))
    scorer = load_scorer(path, device)
    if not isinstance(scorer, NiqeScorer):
        raise UserError(f"scorer niqe:{path}: the file holds the score {scorer.name}")
    return scorer


def restore_scorer(scorer: str, state: dict[str, Tensor], device: torch.device | str = "cpu") -> Scorer:
    """Rebuild the scorer of this name whose `state()` this is; for a resumed run.

    Raises:
        UserError: there is no such scorer, or a file or package it needs is missing.
    """
    name = parse_scorer(scorer)[0]
    if name == "ensemble":
        members = members_of(scorer)
        states = [below(state, f"{i}.") for i in range(len(members))]
        parts = [restore_scorer(m, below(s, "state."), device) for m, s in zip(members, states, strict=True)]
        return EnsembleScorer(parts, [s["reference"].to(device) for s in states])
    if name in _FITTED:
        return _FITTED[name].from_state(state, device)
    made = make_scorer(scorer, (), (), device=device)
    if isinstance(made, DaclipScorer) and "options" in state:
        made.tiles, made.raindrops = state["options"].tolist()
    return made


@takes_home
def save_scorer(scorer: Scorer, path: str | Path, name: str | None = None) -> None:
    """Write a scorer to a safetensors file that `load_scorer` reads.

    Args:
        scorer: any that `make_scorer` makes of a name.
        path: the file.
        name: what it was made of, where that says more than the scorer's name: a file that is not part of its state.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(_pack(scorer, name))


def check_saves(scorer: Scorer, name: str | None = None) -> None:
    """Demand that `save_scorer` will write this scorer, before a run that ends with it.

    Raises:
        UserError: its state is nothing that a safetensors file holds.
    """
    try:
        _pack(scorer, name)
    except Exception as error:  # of a scorer of the user's: whatever its state() does
        raise UserError(
            f"the state of the score {getattr(scorer, 'name', scorer)} cannot be saved ({reason(error)}): its state() "
            "must give a dict of tensors"
        ) from None


def _pack(scorer: Scorer, name: str | None) -> bytes:
    """What `save_scorer` writes, with each tensor's numbers in order and its own, as files may not leave them."""
    state = {key: value.detach().cpu().contiguous().clone() for key, value in scorer.state().items()}
    return safetensors_bytes(state, {"scorer": printable(name or scorer.name)})


@takes_home
def load_scorer(path: str | Path, device: torch.device | str = "cpu") -> Scorer:
    """Read a scorer from a run folder or its `scorer.safetensors`, or NIQE's published parameters from an .npz file.

    A run may also be one on the model hub, hf:OWNER/REPO (extra `hub`).

    Raises:
        UserError: the file is missing or holds no scorer.
    """
    path = fetch(path, "scorer.safetensors") if is_hub_name(path) else Path(path)
    if path.is_dir():
        path = path / "scorer.safetensors"
    if not path.is_file():
        raise UserError(f"scorer {path}: no such file; {INSTEAD}")
    if path.suffix == ".npz":
        return NiqeScorer(load_niqe_model(path, device))
    wrong = f"scorer {path} holds no fitted scorer; give a run's scorer.safetensors"
    try:
        with utf8_name(path) as opened, safe_open(opened, "pt") as file:
            name = (file.metadata() or {}).get("scorer", "")
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        parse_scorer(name)
    except Exception:  # a damaged header makes its reader raise nearly anything
        raise UserError(wrong) from None
    try:
        return restore_scorer(name, state, device)
    except (RuntimeError, KeyError, TypeError, ValueError):
        raise UserError(wrong) from None


@takes_home
def open_scorer(
    scorer: str | Path, device: torch.device | str = "cpu", photographs: Sequence[np.ndarray] = ()
) -> Scorer:
    """The scorer that a user names: a run folder or a file, or one of NAMES that needs no fitting.

    Args:
        scorer: name or path.
        device: where it will score.
        photographs: what an ensemble takes its ranks among, uint8 [H, W, 3] each.

    Raises:
        UserError: no such file or name, or a score that must be fitted first.
    """
    check_ready(str(scorer))
    if not is_name(str(scorer)):
        return load_scorer(scorer, device)
    return make_scorer(str(scorer), photographs, (), device=device)


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
