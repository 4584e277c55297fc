"""Weather rendered onto photographs: numpy alone, each image a function of its seed."""

from .drops import DropStyle, render_drops
from .night import Night, NightStyle, night_scene, render_night_rain
from .types import RenderedPair, render_pair

__all__ = [
    "DropStyle",
    "Night",
    "NightStyle",
    "RenderedPair",
    "night_scene",
    "render_drops",
    "render_night_rain",
    "render_pair",
]
