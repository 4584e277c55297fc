"""What a run is made of, from its configuration: the four networks, the scorer and the reward pool."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import Config, RewardConfig
from ..config.scorer_names import name_of
from ..data import Domains
from ..errors import UserError
from ..iqa import DaclipScorer, DomainScorer, Plausibility, Scorer, make_scorer, restore_scorer
from ..networks import Derainer, Discriminator, RainGenerator, UNet, evaluating, init_fan_in
from ..rewards.distributed_pool import ShardedPool
from ..rewards.pool import RewardPool
from ..system.device import memory_layout
from ..system.distributed import Ranks
from .rgsud import Networks


def build_networks(config: Config, device: torch.device, derainer: nn.Module | None = None) -> Networks:
    """Make the four networks, on the device and laid out for it; the same initial weights for the same seed.

    Args:
        config: names sizes, initialisation and seed.
        device: where they will train.
        derainer: a network of the user's own, [N, 3, H, W] -> the same, in place of NAFNet.

    Raises:
        UserError: that network is none, has nothing to train, or changes the shape.
    """
    sizes = config.network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        nets = Networks(
            Derainer(sizes.derainer_width, sizes.derainer_encoder, sizes.derainer_middle, sizes.derainer_decoder)
            if derainer is None
            else derainer,
            UNet(sizes.unet_width, sizes.unet_levels),
            RainGenerator(sizes.generator_width, sizes.generator_blocks),
            Discriminator(sizes.discriminator_width),
        )
        if sizes.initialization == "fan_in":
            for net in nets[1:]:
                init_fan_in(net)
            nets.generator.start_grey()
    if derainer is not None:
        _check_derainer(derainer, config.crop)
        if config.val_local_statistics and not isinstance(derainer, Derainer):
            raise UserError("val_local_statistics is known of NAFNet alone; leave it off with a derainer of your own")
    return Networks(*(net.to(device, memory_format=memory_layout(device)).train() for net in nets))


def _check_derainer(derainer: nn.Module, side: int) -> None:
    """Refuse a network of the user's own that cannot be trained as a derainer, before anything else fails on it."""
    if not isinstance(derainer, nn.Module):
        what = f"the class {derainer.__name__}" if isinstance(derainer, type) else type(derainer).__name__
        raise UserError(f"derainer must be a torch.nn.Module, an object of such a class; got {what}")
    parameters = [parameter for parameter in derainer.parameters() if parameter.requires_grad]
    if not parameters:
        raise UserError(f"derainer {type(derainer).__name__} has no parameters to train")
    with evaluating(derainer):
        got = derainer(torch.zeros(1, 3, side, side, device=parameters[0].device))
    if not isinstance(got, Tensor) or list(got.shape) != [1, 3, side, side]:
        made = list(got.shape) if isinstance(got, Tensor) else type(got).__name__
        raise UserError(f"derainer must keep the shape of its input: it made {made} of {[1, 3, side, side]}")


def build_pool(config: Config, domains: Domains, ranks: Ranks, scratch: Path | None = None) -> RewardPool | ShardedPool:
    """Make the empty reward pool of a run within its budgets of memory; what exceeds them goes to a file in `scratch`.

    Of several ranks each gets its share, and has the budgets for itself.

    Raises:
        UserError: it fits nowhere.
    """
    reward = config.reward
    budgets = (None if gib is None else int(gib * 2**30) for gib in (reward.pool_device_gib, reward.pool_host_gib))
    device_bytes, host_bytes = budgets
    name = "pool.bytes" if ranks.count == 1 else f"pool-{ranks.rank}.bytes"
    options = {
        "keep": reward.keep,
        "margin": reward.margin,
        "device": ranks.device,
        "device_bytes": device_bytes,
        "host_bytes": host_bytes,
        "file": None if scratch is None else scratch / name,
    }
    sizes = domains.rainy.sizes
    return RewardPool(sizes, **options) if ranks.count == 1 else ShardedPool(sizes, ranks, **options)


def choose_scorer(
    config: Config,
    domains: Domains,
    own: Scorer | Callable[[Tensor], Any] | None,
    saved: dict[str, Any] | None,
    ranks: Ranks,
) -> Scorer:
    """The user's scorer, or the configured one: fitted to the two domains, or as the checkpoint holds it.

    Args:
        config: names the scorer and its penalties.
        domains: the images it is fitted to.
        own: the user's own, which comes before the configured one.
        saved: the checkpoint of the run to resume.
        ranks: the processes that judge. A scorer is fitted on the first one, so that all judge alike.

    Raises:
        UserError: the run to resume was scored by another.
    """
    fit = functools.partial(_fit, config, domains, device=ranks.device)
    if own is not None:
        return fit(own)
    if saved is not None:
        return _restore(config, saved["scorer"], ranks.device)
    fitted = fit(config.reward.scorer) if ranks.first else None
    told = ranks.told(None if fitted is None else {"name": fitted.name, "state": fitted.state()})
    return fitted or _restore(config, told, ranks.device)


def _fit(
    config: Config, domains: Domains, wanted: str | Scorer | Callable[[Tensor], Any], device: torch.device
) -> Scorer:
    configure = functools.partial(_set_options, reward=config.reward)
    return make_scorer(wanted, domains.rainy, domains.clean, config.seed, device, configure)


def _restore(config: Config, saved: dict[str, Any], device: torch.device) -> Scorer:
    name, state = saved.get("name"), saved.get("state")
    if name != name_of(config.reward.scorer):
        raise UserError(f"this run was scored by {name}: pass the same scorer, or start a new run")
    try:
        scorer = restore_scorer(config.reward.scorer, state, device)
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"the checkpoint's score {name} cannot be restored ({reason}); start a new run") from None
    for part in [scorer, *getattr(scorer, "members", ())]:
        _set_options(part, config.reward)
    return scorer


def _set_options(scorer: Scorer, reward: RewardConfig) -> None:
    if isinstance(scorer, DomainScorer):
        scorer.plausibility = Plausibility(reward.spread, reward.low_frequency, reward.negative)
    elif isinstance(scorer, DaclipScorer):
        scorer.tiles, scorer.raindrops = reward.daclip_tiles, reward.daclip_raindrops
