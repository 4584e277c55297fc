"""A sweep: derain whole training images, score the results, and offer them to the reward pool."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import RewardConfig
from ..data import ImageSet, to_batch
from ..iqa import Plausibility, Scorer
from ..iqa.judge import knows_where
from ..methods.pasting import rain_light
from ..networks import evaluating, local_statistics
from ..networks.tiles import Network, run_tiled, window_of
from ..networks.toolbox import Chain, load_box
from ..ops import RemovedLayer, removed_layer, reward_candidate
from ..ops.pool_update import EMPTY
from ..system.device import to_device
from ..system.watch import Watch, nobody, watched
from .distributed_pool import Pool
from .first import first_reward, oriented_layer
from .regions import composite

VARIANCE = 1e-4  # smallest variance of a photograph in [0, 1]; less is blank
REMOVED = 1e-3  # smallest mean change, in [0, 1]: a quarter of a grey level. A rainy reward would teach to do nothing.
# What becomes of a candidate, in the order in which the guards are asked.
OUTCOMES = (
    *("entered", "no better", "not finite", "blank", "another picture"),
    *("nothing removed", "not like rain", "not scored"),
)


class Sweep(NamedTuple):
    """What a sweep did."""

    images: int  # scored
    entered: int  # taken into the pool
    refused: int  # stopped by the guards, or with a score that is not finite
    mean_score: float  # mean of the pool's best scores afterwards
    reasons: dict[str, int]  # of OUTCOMES, how often; what never happened is left out
    toolbox: int | None = None  # images whose candidate of the toolbox was taken into the pool; None without one


class Judged(NamedTuple):
    """A candidate for the pool, [1, 3, H, W], its score [1] (NaN where refused) and its place in OUTCOMES [1] int64."""

    image: Tensor
    score: Tensor
    outcome: Tensor  # "no better" until it is offered
    spoiled: Tensor | None = None  # its map, [1, 1, H, W], where maps are needed and known


def sweep(
    derainer: nn.Module,
    rainy: ImageSet,
    indices: Sequence[int],
    scorer: Scorer,
    pool: Pool,
    device: torch.device,
    reward: RewardConfig,
    watch: Watch = nobody,
    window: int = 0,
) -> tuple[Sweep, list[int]]:
    """Offer the derainer's present output on whole images to the pool, and after it the toolbox's where there is one.

    One image at a time, so that a score never depends on its neighbours; the host waits once, at the end, and with
    first rewards for the direction of each image's streaks, with a toolbox for the choice of each image's chain, with
    rewards by regions for each image.

    Args:
        derainer: network to run, [1, 3, H, W] -> the same; put in evaluation mode meanwhile.
        rainy: the rainy training images.
        indices: which of them.
        scorer: image-quality score, higher is better.
        pool: is updated.
        device: where networks and pool live.
        reward: the guards, what is done to a candidate, and what becomes of older versions.
        watch: told how many images are done.
        window: side of the windows of local statistics, in pixels; 0: none.

    Returns:
        What it did, and the place in OUTCOMES of each image.
    """
    outcomes, ours = [], []
    box = open_toolbox(reward, device)
    if reward.decay:
        pool.decay(reward.decay * getattr(scorer, "unit", 1.0))
    with evaluating(derainer), local_statistics(derainer, window):
        for index in watched(indices, watch):
            image = to_device(to_batch(rainy[index]), device)
            if reward.rescore:
                rescore(pool, index, image, scorer)
            judged = judge(derainer, image, scorer, reward)
            if reward.newest:
                pool.evict(index, torch.where(torch.isfinite(judged.score), torch.inf, EMPTY)[0])
            if reward.evict:
                pool.evict(index, torch.where(torch.isfinite(judged.score), judged.score, EMPTY)[0])
            mixed = mixed_with_stored(judged, image, index, scorer, pool, reward)
            entered = _offer(pool, index, judged)
            if mixed is not None:
                entered = entered | _offer(pool, index, mixed)
            if box is not None and min(image.shape[-2:]) >= box.agent.side:
                other = judge(box.for_photo(window_of(image), *image.shape[-2:]), image, scorer, reward)
                ours.append(_offer(pool, index, other))
                entered = entered | ours[-1]
            outcomes.append(torch.where(entered, 0, judged.outcome))
    places = torch.cat(outcomes).tolist() if outcomes else []
    from_box = None if box is None else int(torch.cat(ours).sum()) if ours else 0
    return summary_of(places, pool)._replace(toolbox=from_box), places


def open_toolbox(reward: RewardConfig, device: torch.device) -> Chain | None:
    """The toolbox whose results compete for the pool, read once; None where there is none.

    Raises:
        UserError: it cannot be used.
    """
    return None if reward.toolbox is None else _open_toolbox(reward.toolbox, device)


@functools.lru_cache(maxsize=1)
def _open_toolbox(path: Path, device: torch.device) -> Chain:
    return load_box(path).to(device)


def offer_first(rainy: Tensor, index: int, scorer: Scorer, pool: Pool, reward: RewardConfig) -> int:
    """Offer the first reward of an image, [1, 3, H, W], of the kind `reward.first`, through the guards and the score.

    Returns:
        Its place in OUTCOMES; "nothing removed" where no streak was found.
    """
    first = first_reward(rainy, reward.first)
    judged = judge_candidate(rainy, first, removed_layer(rainy, first), scorer, reward)
    return int(torch.where(_offer(pool, index, judged), 0, judged.outcome))


def summary_of(places: Sequence[int], pool: Pool) -> Sweep:
    """What a sweep did, from the places in OUTCOMES of its images and the pool afterwards."""
    reasons = {name: places.count(place) for place, name in enumerate(OUTCOMES) if place in places}
    refused = sum(place > 1 for place in places)
    return Sweep(len(places), places.count(0), refused, float(pool.mean_score()), reasons)


def judge(derainer: Network, rainy: Tensor, scorer: Scorer, reward: RewardConfig) -> Judged:
    """Derain one image, [1, 3, H, W], and say whether the result may be a reward; `sweep` says when the host waits."""
    return judge_candidate(rainy, *candidate(derainer, rainy, reward), scorer, reward)


def judge_candidate(rainy: Tensor, image: Tensor, layer: RemovedLayer, scorer: Scorer, reward: RewardConfig) -> Judged:
    """Score a candidate and ask the guards about the layer that it takes away."""
    spoiled = None
    known = {"layer": layer} if getattr(scorer, "reads_layer", False) else {}  # which saves describing it twice
    if (reward.map_weights or reward.regions) and knows_where(scorer):
        score, spoiled = scorer.score_and_map(image, rainy, **known)
    else:
        score = scorer.score(image, rainy=rainy, **known)
    outcome = verdict(layer, score, reward)
    return Judged(image, torch.where(outcome == 1, score, torch.nan), outcome, spoiled)


def mixed_with_stored(
    judged: Judged, rainy: Tensor, index: int, scorer: Scorer, pool: Pool, reward: RewardConfig
) -> Judged | None:
    """The less spoiled blocks of a candidate and of the best stored version, as one more candidate.

    Its score is NaN, which refuses it, unless it beats both: no harm is done that the score does not see. None without
    `reward.regions`, where the candidate is refused or nothing is stored, or of a scorer that gives no map.
    """
    if not reward.regions or judged.spoiled is None or not knows_where(scorer) or not pool.holds(index):
        return None
    if not bool(torch.isfinite(judged.score)):
        return None
    stored, stored_score = pool.best(index)
    old = to_device(stored, rainy.device).permute(2, 0, 1)[None].float() / 255
    image = composite(judged.image, old, judged.spoiled, scorer.map(old, rainy), reward.region_margin)
    mixed = judge_candidate(rainy, image, removed_layer(rainy, image), scorer, reward)
    best = torch.maximum(judged.score, stored_score.to(judged.score))
    return mixed._replace(score=torch.where(mixed.score > best, mixed.score, torch.nan))


def _offer(pool: Pool, index: int, judged: Judged) -> Tensor:
    """Offer a candidate to the pool, with its map; whether it entered, [1] bool."""
    entered = pool.update([index], judged.image, judged.score)
    if judged.spoiled is not None:
        pool.put_map(index, judged.spoiled, torch.where(entered, judged.score, -torch.inf))
    return entered


def rescore(pool: Pool, index: int, rainy: Tensor, scorer: Scorer) -> None:
    """Score the stored versions of an image, [1, 3, H, W], as the scorer now is, and map the best of them anew."""
    versions = pool.versions(index)
    pool.rescore(index, _scores_of(versions, rainy, scorer))
    if pool.keeps_maps and knows_where(scorer) and pool.holds(index):
        best = to_device(pool.best(index)[0], rainy.device).permute(2, 0, 1)[None].float() / 255
        pool.put_map(index, scorer.map(best, rainy))


def candidate(derainer: Network, rainy: Tensor, reward: RewardConfig) -> tuple[Tensor, RemovedLayer]:
    """What is offered as the reward of a rainy image [1, 3, H, W]: the derainer's output, made better where asked for.

    With `reward.mirror` the mean of it and of what comes of the mirrored image, mirrored back: their errors differ in
    part. With `reward.grey_layer` what is taken away is made grey and nowhere negative, as rain is (method, section 4:
    the same two properties that the plausibility penalties ask for). With first rewards inside an oriented mask it is
    `with_first`.

    Returns:
        The image, and what the guards ask about the layer that it takes away.
    """
    mirrored = run_tiled(derainer, rainy.flip(3)) if reward.mirror else None
    image, layer = reward_candidate(rainy, run_tiled(derainer, rainy), mirrored, reward.grey_layer)
    if reward.first in ("none", "filter"):
        return image, layer
    image = with_first(rainy, image)
    return image, removed_layer(rainy, image)


def with_first(rainy: Tensor, image: Tensor) -> Tensor:
    """A candidate that keeps away what `oriented_layer` L takes away: all of it as long as the derainer has learned
    little, then where the derainer sees rain too.

    min(image, rainy - K), clamped. With N the grey light that the candidate takes away, K is L where N is on average
    less than half of L, and else min(L, 2 * largest of N within 2 pixels). Without K what is pasted grows fainter from
    sweep to sweep, and on faint rain the derainer ends in doing nothing.
    """
    light, taken = oriented_layer(rainy), rain_light(rainy, image)
    near = 2 * F.max_pool2d(taken, 5, 1, 2)
    young = taken.mean((1, 2, 3), keepdim=True) < light.mean((1, 2, 3), keepdim=True) / 2
    kept = torch.where(young, light, torch.minimum(light, near))
    return torch.minimum(image, (rainy - kept).clamp(0, 1))


def verdict(layer: RemovedLayer, score: Tensor, reward: RewardConfig) -> Tensor:
    """Keep gamed scores out: which guard stops a candidate.

    Args:
        layer: what the candidates take away, of N of them.
        score: of each, [N].
        reward: `fidelity`, the largest mean low-frequency change that rain removal explains, in [0, 1] (more is another
            picture); `implausible`, the largest plausibility penalty of the removed layer.

    Returns:
        The place of each in OUTCOMES, [N] int64; 1 where none stops it.
    """
    tests = [
        ~torch.isfinite(layer.variance),
        ~(layer.variance > VARIANCE),
        ~(layer.change < reward.fidelity),
        ~(layer.removed > REMOVED),
        plausibility_of(reward).of(layer) > reward.implausible,
        ~torch.isfinite(score),
    ]
    outcome = torch.ones(len(score), dtype=torch.int64, device=score.device)
    for place, stops in reversed(list(enumerate(tests, OUTCOMES.index("not finite")))):
        outcome = torch.where(stops, place, outcome)
    return outcome


def plausibility_of(reward: RewardConfig) -> Plausibility:
    """The penalties of a removed layer as the configuration weighs them."""
    return Plausibility(reward.spread, reward.low_frequency, reward.negative)


def _scores_of(versions: Tensor, rainy: Tensor, scorer: Scorer) -> Tensor:
    """Present scores of stored versions [keep, H, W, 3] -> [keep]; what empty slots hold is scored for nothing."""
    images = to_device(versions, rainy.device).permute(0, 3, 1, 2).float() / 255
    return torch.cat([scorer.score(image[None], rainy=rainy) for image in images])
