"""FinPercep-RM as a score: a number for the whole image, a map of where it is spoiled, stages that grow finer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...networks.tiles import run_tiled, spans
from ...ops import RemovedLayer
from ...system.watch import Watch, nobody
from ..domain import DomainScorer, fit_domain_scorer
from ..ensemble import fit_ensemble, rank
from ..plausibility import Plausibility
from ..scorer import below, check_images
from .load import like
from .network import ScoreNet

VERSION = 1
WEIGHTS = ((1.0, 0.0), (0.85, 0.15), (0.65, 0.35), (0.5, 0.5))  # of score and map, by stage; stage 0 is the base score
SPAN = 0.05  # of the scores here, 1, over that of logits, 20
PENALTY = 0.01  # of the plausibility's weights: with SPAN it ranks results worse than S and M alone (docs/finpercep.md)
LARGEST, WINDOW = 1024**2, 512  # pixels of an image that is done whole, and the side of the windows of larger ones
OVERLAP = 32
ANCHORS = (0.5, 0.95)  # of the lowest and the highest rank of the base score: below them there is room for faults
TOP = 0.01  # share of the most spoiled pixels that the reward's gradient acts on


class FinpercepScorer:
    """R_k = l1 S + l2 (1 - P(M)) - 0.01 penalty(rainy - image), with the score S and the map M of stage k's network.

    P is the mean of the highest share `map_top` of the map's pixels. Stage 0 is the base score, which knows no map. A
    score of one stage says nothing beside a score of another.

    Args:
        base: the score of stage 0, which also anchors the others.
        reference: its scores of the user's photographs, in order and all different, [M].
        networks: of the stages 1, 2 and 3, or none while none is fitted.
        side: of the crops that they were fitted with, in pixels.
        plausibility: weights of the penalties on the removed layer.
    """

    name = "finpercep"
    reads_layer = True  # `score` takes it, too
    differentiable = True  # see `reward`

    def __init__(
        self,
        base: DomainScorer,
        reference: Tensor,
        networks: Sequence[ScoreNet] = (),
        side: int = 96,
        plausibility: Plausibility | None = None,
    ) -> None:
        self.base, self.reference, self.side = base, reference, side
        self.map_top = 1.0
        self.images: Tensor = torch.zeros(0, dtype=torch.int64)  # what it was fitted to; see `remember`
        self.plausibility = plausibility or Plausibility()
        self.networks: list[ScoreNet] = []
        self.stage = 0
        self.take(networks)

    def take(self, networks: Sequence[ScoreNet]) -> None:
        """Take over fitted networks; the last stage scores from now on."""
        nhwc = torch.channels_last  # a third off the time of an image on a CPU
        self.networks = [network.eval().requires_grad_(False).to(memory_format=nhwc) for network in networks]
        self.stage = len(self.networks)

    def remember(self, digests: Sequence[str]) -> None:
        """Keep which photographs it was fitted to, by digests in hexadecimal, of which 15 digits are kept."""
        self.images = torch.tensor([int(digest[:15], 16) for digest in digests], dtype=torch.int64)

    def has_seen(self, digest: str) -> bool:
        """Whether it was fitted to the photograph of this digest."""
        return bool((self.images == int(digest[:15], 16)).any())

    @property
    def maps(self) -> bool:
        """Whether the present stage knows where an image is spoiled."""
        return self.stage > 0

    @property
    def unit(self) -> float:
        """What is as much here as 1 is of the base score's logits: `reward.decay` is taken times this."""
        return SPAN if self.maps else 1.0

    def score(self, images: Tensor, rainy: Tensor | None = None, layer: RemovedLayer | None = None) -> Tensor:
        """Score each image by itself; see `Scorer.score`.

        Args:
            images, rainy: see `Scorer.score`; without `rainy` the network is told that the layer is not known.
            layer: what `removed_layer` says of rainy - images, where the caller knows it already.
        """
        check_images(images, rainy)
        if not self.maps:
            return self.base.score(images, rainy, layer)
        return self._weigh(*self.parts(images, rainy), images, rainy, layer)

    def map(self, images: Tensor, rainy: Tensor | None = None) -> Tensor:
        """Where each image is spoiled, [N, 1, H, W] in [0, 1]; 0 everywhere in stage 0."""
        check_images(images, rainy)
        return self.parts(images, rainy)[1] if self.maps else torch.zeros_like(images[:, :1])

    def score_and_map(
        self, images: Tensor, rainy: Tensor | None = None, layer: RemovedLayer | None = None
    ) -> tuple[Tensor, Tensor]:
        """`score` and `map` for the time of one of them."""
        check_images(images, rainy)
        if not self.maps:
            return self.score(images, rainy, layer), torch.zeros_like(images[:, :1])
        scores, spoiled = self.parts(images, rainy)
        return self._weigh(scores, spoiled, images, rainy, layer), spoiled

    def reward(self, images: Tensor, rainy: Tensor) -> Tensor:
        """l1 S + l2 (1 - P(M)) - 0.05 penalty of crops with P over the most spoiled 1 %, [N]; with the gradient to
        `images`. The penalty weighs more than in `score`: a gradient finds what no candidate shows.

        Raises:
            ValueError: in stage 0, whose score is no reward of this scale.
        """
        if not self.maps:
            raise ValueError("stage 0 has no reward to follow: it has no network")
        logits, spoiled = self.networks[self.stage - 1](images.float(), (rainy - images).float(), self.stage)
        of_score, of_map = WEIGHTS[self.stage]
        result = of_score * logits.sigmoid() + of_map * (1 - _highest(spoiled.sigmoid(), TOP))
        return result - SPAN * self.plausibility.differentiable(rainy, images)

    def anchors(self, images: Tensor) -> Tensor:
        """Where the base score of images [N, 3, H, W] lies among the user's photographs, [N] in 0.5 ... 0.95."""
        low, high = ANCHORS
        return low + (high - low) * rank(self.base.score(images), self.reference.to(images.device)).clamp(0, 1)

    def state(self) -> dict[str, Tensor]:
        """The base score, what it is ranked among, and the networks of all stages, on the CPU."""
        literal = any(network.gate == "literal" for network in self.networks)
        state = {f"base.{name}": value for name, value in self.base.state().items()}
        state |= {"reference": self.reference.cpu(), "images": self.images.cpu()}
        state["options"] = torch.tensor([VERSION, self.stage, self.side, literal])
        for stage, network in enumerate(self.networks, 1):
            state |= {f"{stage}.{name}": _copy(value) for name, value in network.state_dict().items()}
        return state

    @classmethod
    def from_state(cls, state: dict[str, Tensor], device: torch.device | str = "cpu") -> FinpercepScorer:
        """Rebuild the scorer that `state` was taken of.

        Raises:
            KeyError, RuntimeError, ValueError: it is the state of something else, or of another version.
        """
        version, stage, side, literal = (int(value) for value in state["options"].tolist())
        if version != VERSION:
            raise ValueError(f"version {version}, and this one is {VERSION}")
        parts = [below(state, f"{number}.") for number in (1, 2, 3)]
        networks = [like(part, "literal" if literal else "kept").to(device) for part in parts if part]
        base = DomainScorer.from_state(below(state, "base."), device)
        scorer = cls(base, state["reference"].to(device).float(), networks, side)
        if not 0 <= stage <= len(networks):
            raise ValueError(f"stage {stage} of {len(networks)}")
        scorer.stage, scorer.images = stage, state["images"].to(torch.int64)
        return scorer

    def _weigh(
        self, scores: Tensor, spoiled: Tensor, images: Tensor, rainy: Tensor | None, layer: RemovedLayer | None
    ) -> Tensor:
        of_score, of_map = WEIGHTS[self.stage]
        result = of_score * scores + of_map * (1 - _highest(spoiled, self.map_top))
        if rainy is None:
            return result
        penalty = self.plausibility.penalty(rainy, images) if layer is None else self.plausibility.of(layer)
        return result - PENALTY * penalty

    @torch.no_grad()
    def parts(self, images: Tensor, rainy: Tensor | None) -> tuple[Tensor, Tensor]:
        """S and M, of which `score` is made, in a stage that has a network: [N], [N, 1, H, W].

        One image after another: no score may depend on its neighbours.
        """
        layers = torch.zeros_like(images) if rainy is None else rainy - images
        found = [self._one(torch.cat(both, 1).float()) for both in zip(images.split(1), layers.split(1), strict=True)]
        return torch.cat([score for score, _ in found]), torch.cat([spoiled for _, spoiled in found])

    def _one(self, both: Tensor) -> tuple[Tensor, Tensor]:
        """Of one image and its layer, [1, 6, H, W]; a large one by windows."""
        height, width = both.shape[2:]
        if height * width <= LARGEST:
            score, spoiled = self._network(both)
            return score, spoiled
        spoiled = run_tiled(lambda window: self._network(window)[1], both, WINDOW, OVERLAP)
        windows = [
            both[..., top:bottom, left:right]
            for top, bottom in spans(height, WINDOW, 0)
            for left, right in spans(width, WINDOW, 0)
        ]
        return torch.cat([self._network(window)[0] for window in windows]).mean(0, keepdim=True), spoiled

    def _network(self, both: Tensor) -> tuple[Tensor, Tensor]:
        both = both.contiguous(memory_format=torch.channels_last)
        logit, spoiled = self.networks[self.stage - 1](both[:, :3], both[:, 3:], self.stage)
        whole = F.interpolate(spoiled, size=both.shape[2:], mode="bilinear", align_corners=False)
        return logit.sigmoid(), whole.sigmoid()


def base_scorer(
    rainy: Sequence[np.ndarray],
    clean: Sequence[np.ndarray],
    seed: int,
    device: torch.device | str = "cpu",
    watch: Watch = nobody,
) -> FinpercepScorer:
    """The scorer before its networks are fitted: stage 0 alone, the domain score of the user's photographs.

    Args: see `fit_domain_scorer`.
    """
    base = fit_domain_scorer(rainy, clean, seed, device=device, watch=watch)
    return FinpercepScorer(base, fit_ensemble([base], (rainy, clean), device).references[0])


def _copy(value: Tensor) -> Tensor:
    """A tensor of one's own on the CPU, laid out as files hold it."""
    return value.detach().cpu().clone(memory_format=torch.contiguous_format)


def _highest(spoiled: Tensor, share: float) -> Tensor:
    """Mean of the highest share of the pixels of maps [N, 1, h, w] -> [N]."""
    flat = spoiled.flatten(1)
    count = max(round(share * flat.shape[1]), 1)
    return (flat if count >= flat.shape[1] else flat.topk(count, dim=1).values).mean(1)
