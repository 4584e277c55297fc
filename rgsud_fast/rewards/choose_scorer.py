"""The scorer of a run: the user's, the configured one fitted, or the checkpoint's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from ..config import Config, RewardConfig
from ..config.scorer_names import name_of
from ..data import Domains
from ..errors import UserError, reason
from ..iqa import DaclipScorer, DomainScorer, Scorer, make_scorer, restore_scorer
from ..system.distributed import Ranks
from ..system.watch import Watch, nobody
from .sweep import plausibility_of


def choose_scorer(
    config: Config,
    domains: Domains,
    own: Scorer | Callable[[Tensor], Any] | None,
    saved: dict[str, Any] | None,
    ranks: Ranks,
    watch: Watch = nobody,
) -> Scorer:
    """The user's scorer, or the configured one: fitted to the two domains, or as the checkpoint holds it.

    Args:
        config: names the scorer and its penalties.
        domains: the images it is fitted to.
        own: the user's own, which comes before the configured one.
        saved: the checkpoint of the run to resume.
        ranks: the processes that judge. A scorer is fitted on the first one, so that all judge alike.
        watch: told how far the fitting is.

    Raises:
        UserError: the run to resume was scored by another.
    """
    fit = functools.partial(_fit, config, domains, device=ranks.device, watch=watch)
    if own is not None:
        return fit(own)
    if saved is not None:
        return _restore(config, saved["scorer"], ranks.device)
    fitted = fit(config.reward.scorer) if ranks.first else None
    told = ranks.broadcast(None if fitted is None else {"name": fitted.name, "state": fitted.state()})
    return fitted or _restore(config, told, ranks.device)


def _fit(
    config: Config,
    domains: Domains,
    wanted: str | Scorer | Callable[[Tensor], Any],
    device: torch.device,
    watch: Watch,
) -> Scorer:
    configure = functools.partial(_set_options, reward=config.reward)
    return make_scorer(wanted, domains.rainy, domains.clean, config.seed, device, configure, watch)


def _restore(config: Config, saved: dict[str, Any], device: torch.device) -> Scorer:
    name, state = saved.get("name"), cast(dict[str, Tensor], saved.get("state"))
    if name != name_of(config.reward.scorer):
        raise UserError(f"this run was scored by {name}: pass the same scorer, or start a new run")
    try:
        scorer = restore_scorer(config.reward.scorer, state, device)
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        why = reason(error)
        raise UserError(f"the checkpoint's score {name} cannot be restored ({why}); start a new run") from None
    for part in [scorer, *getattr(scorer, "members", ())]:
        _set_options(part, config.reward)
    return scorer


def _set_options(scorer: Scorer, reward: RewardConfig) -> None:
    if isinstance(scorer, DomainScorer):
        scorer.plausibility = plausibility_of(reward)
    elif isinstance(scorer, DaclipScorer):
        scorer.tiles, scorer.raindrops = reward.daclip_tiles, reward.daclip_raindrops
