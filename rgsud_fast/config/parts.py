"""The networks of a method by name, as files, figures and the command line know them; their classes are `KINDS`."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["derainer", "unet", "generator", "discriminator"]


class Part(NamedTuple):
    """One network: what it is called, takes and gives, and what it does beside the derainer."""

    label: str  # for people
    takes: str  # name of its input in an exported file
    channels: int  # of that input
    gives: str  # name of its output
    does: str = ""  # a model card says so


PARTS: dict[str, Part] = {
    "derainer": Part("derainer", "rainy", 3, "derained"),
    "unet": Part(
        "U-Net", "rainy", 3, "clean_estimate", "estimates the clean image of a rainy one, which the generator takes "
        "rain from",
    ),
    "generator": Part(
        "generator", "scene", 6, "rainy", "paints rain: clean image and rain information [N, 6, H, W] to rainy image"
    ),
    "discriminator": Part("discriminator", "image", 3, "scores", "tells real rain from painted rain"),
}  # fmt: skip
JUDGES = ("discriminator",)  # trained by what they are shown, each by an optimiser of its own
TOGETHER = tuple(name for name in PARTS if name not in JUDGES)  # trained by the loss of a stage
