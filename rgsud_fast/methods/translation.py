"""What the methods of translators share: their networks, and the places at which features are compared."""

from __future__ import annotations

from torch import nn

from ..config import Config
from ..config.hosts import Contrasted, Host
from ..errors import UserError
from ..networks import Discriminator, initialize
from ..networks.translators import SCALE, Translator


def translators_and_judges(
    config: Config, sizes: Host, domains: int, derainer: nn.Module | None = None
) -> list[nn.Module]:
    """A translator to each of one or two domains, then a judge of each, their weights drawn in this order.

    Raises:
        UserError: the user's own derainer has no place here.
    """
    if derainer is not None:
        raise UserError(
            f"method {config.method} derains by its own translator: leave derainer= out, or take method rgsud"
        )
    shape = (sizes.width, sizes.blocks, sizes.antialias, sizes.residual)
    translators = [Translator(*shape) for _ in range(domains)]
    judges = [Discriminator(sizes.judge_width, sizes.high_pass, sizes.antialias) for _ in range(domains)]
    initialize([*translators, *judges], config.network.initialization)
    for translator in translators:
        translator.start_near_identity()
    return [*translators, *judges]


def feature_channels(sizes: Host) -> list[int]:
    """The channels of each layer of `Translator.features`."""
    width = sizes.width
    return [3, 2 * width, 4 * width, 4 * width, 4 * width][: 3 + min(sizes.blocks, 2)]


def feature_places(config: Config, sizes: Contrasted, first: int = 0) -> tuple[int, list[int]]:
    """How many places are compared, and how many there are, in each layer of `Translator.features` from the first."""
    side = -(-config.crop // SCALE) * SCALE  # as the translator pads
    sides = [side + 6, side, side // 2] if sizes.antialias else [side + 6, side // 2, side // 4]
    bounds = [one**2 for one in (*sides, *[side // SCALE] * min(sizes.blocks, 2))][first:]
    return min(sizes.patches, *bounds), bounds
