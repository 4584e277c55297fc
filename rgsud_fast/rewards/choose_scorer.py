"""The scorer of a run: the user's, the configured one fitted, or the checkpoint's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from ..config import Config, RewardConfig
from ..config.scorer_names import name_of, parse_scorer
from ..data import Domains
from ..data.folder_set import digest
from ..errors import UserError, reason
from ..iqa import CallableScorer, DaclipScorer, DomainScorer, FinpercepScorer, Scorer, make_scorer, restore_scorer
from ..system.distributed import Ranks
from ..system.watch import Watch, nobody
from .sweep import plausibility_of

LEAST = 8  # clean images that FinPercep-RM is fitted to


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
        UserError: the run to resume was scored by another, or the configuration asks a score for what it cannot give.
    """
    if own is None and not domains.unpaired:
        return CallableScorer(no_score)
    check_wanted(config, domains, own)
    fit = functools.partial(_fit, config, domains, device=ranks.device, watch=watch)
    if own is not None:
        return fit(own)
    if saved is not None:
        return _restore(config, saved["scorer"], ranks.device)
    fitted = fit(config.reward.scorer) if ranks.first else None
    if isinstance(fitted, FinpercepScorer):
        _refuse_seen(fitted, domains)
    told = ranks.broadcast(None if fitted is None else {"name": fitted.name, "state": fitted.state()})
    return fitted or _restore(config, told, ranks.device)


def no_score(images: Tensor) -> Tensor:
    """What a run on labelled pairs alone is scored by: nothing."""
    return images.new_zeros(len(images))


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


def check_wanted(config: Config, domains: Domains, own: Scorer | Callable[[Tensor], Any] | None) -> None:
    """Demand FinPercep-RM where the configuration asks for stages or maps, and images that it can be fitted to.

    Raises:
        UserError: another score, too few clean images, or a validation image among them.
    """
    reward, loss = config.reward, config.loss
    asked = {"reward.map_weights": reward.map_weights, "reward.regions": reward.regions}
    asked |= {"reward.curriculum": reward.curriculum != "off", "loss.reward_gradient": loss.reward_gradient > 0}
    name = parse_scorer(reward.scorer)[0]
    known = name == "finpercep" if own is None else isinstance(own, FinpercepScorer)
    if not known and any(asked.values()):
        fields = ", ".join(field for field, wanted in asked.items() if wanted)
        raise UserError(f"{fields}: only finpercep has stages and maps; give reward.scorer finpercep, or leave it out")
    if own is not None or reward.scorer != "finpercep":
        return
    if len(domains.clean) < LEAST:
        raise UserError(
            f"reward.scorer finpercep needs {LEAST} clean images or more, and there are {len(domains.clean)}"
        )
    for pair in domains.val or []:
        if digest(pair.clean) in domains.clean.digests:
            raise UserError(
                f"the validation image {pair.name} is also among the clean ones, to which reward.scorer finpercep is "
                "fitted: it would have seen the test; leave it out of data.clean"
            )


def _refuse_seen(scorer: FinpercepScorer, domains: Domains) -> None:
    """Refuse a file that was fitted to a validation image."""
    for pair in domains.val or []:
        if scorer.has_seen(digest(pair.clean)):
            raise UserError(
                f"the validation image {pair.name} is one of those that the file of finpercep was fitted to: it would "
                "have seen the test; fit it to others"
            )


def _set_options(scorer: Scorer, reward: RewardConfig) -> None:
    if isinstance(scorer, DomainScorer):
        scorer.plausibility = plausibility_of(reward)
    elif isinstance(scorer, DaclipScorer):
        scorer.tiles, scorer.raindrops = reward.daclip_tiles, reward.daclip_raindrops
    elif isinstance(scorer, FinpercepScorer):
        scorer.plausibility = scorer.base.plausibility = plausibility_of(reward)
        scorer.map_top = reward.map_top
