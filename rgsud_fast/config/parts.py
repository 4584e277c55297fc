"""The networks of a method by name, as files, figures and the command line know them; their classes are `KINDS`."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

MethodName = Literal["rgsud", "cyclegan", "cut", "csud", "dcdgan", "nlcl", "deraincyclegan", "unirain"]
LABELLED: tuple[MethodName, ...] = ("rgsud", "unirain")  # learn from labelled pairs, which `reweight` weighs
Kind: TypeAlias = str  # name of a network in its method
# The names of all methods' networks; a test holds it to PARTS.
NetworkName = Literal[
    "derainer",
    "unet",
    "generator",
    "discriminator",
    "painter",
    "transfer",
    "projector",
    "painter_projector",
    "clean_judge",
    "rainy_judge",
    "rain_separator",
    "background_projector",
    "rain_projector",
]


class Part(NamedTuple):
    """One network: what it is called, takes and gives, and what it does beside the derainer."""

    label: str  # for people
    takes: str  # name of its input in an exported file
    channels: int  # of that input
    gives: str  # name of its output
    does: str = ""  # a model card says so


_DERAINER = Part("derainer", "rainy", 3, "derained")
_CLEAN_JUDGE = Part("judge of clean images", "image", 3, "scores", "tells clean images from derained ones")
_RAINY_JUDGE = Part("judge of rainy images", "image", 3, "scores", "tells real rain from painted rain")
_PAINTER = Part("painter", "clean", 3, "rainy", "makes a clean image rainy")
_PROJECTOR = Part("projector", "features", 3, "vectors", "makes features of patches comparable")
PARTS: dict[str, dict[str, Part]] = {
    "rgsud": {
        "derainer": _DERAINER,
        "unet": Part(
            "U-Net", "rainy", 3, "clean_estimate", "estimates the clean image of a rainy one, which the generator "
            "takes rain from",
        ),
        "generator": Part(
            "generator", "scene", 6, "rainy", "paints rain: clean image and rain information [N, 6, H, W] to rainy "
            "image",
        ),
        "discriminator": Part("discriminator", "image", 3, "scores", "tells real rain from painted rain"),
    },
    "cyclegan": {
        "derainer": _DERAINER,
        "painter": _PAINTER,
        "clean_judge": _CLEAN_JUDGE,
        "rainy_judge": _RAINY_JUDGE,
    },
    "cut": {
        "derainer": _DERAINER,
        "projector": _PROJECTOR,
        "clean_judge": _CLEAN_JUDGE,
    },
    "unirain": {"derainer": _DERAINER},
    "csud": {
        "derainer": _DERAINER,
        "transfer": Part(
            "transfer network", "scene", 6, "rainy", "paints rain: clean image and rainy image [N, 6, H, W] to rainy "
            "image",
        ),
        "rainy_judge": _RAINY_JUDGE,
    },
    "dcdgan": {
        "derainer": _DERAINER,
        "painter": _PAINTER,
        "projector": _PROJECTOR,
        "painter_projector": Part(
            "painter's projector", "features", 3, "vectors", "makes the painter's features of patches comparable"
        ),
        "clean_judge": _CLEAN_JUDGE,
        "rainy_judge": _RAINY_JUDGE,
    },
    "nlcl": {
        "derainer": _DERAINER,
        "rain_separator": Part("rain separator", "rainy", 3, "rain", "makes the rain layer of a rainy image"),
        "projector": _PROJECTOR,
        "background_projector": Part(
            "background projector", "features", 3, "vectors", "makes the judge's features of the background comparable"
        ),
        "rain_projector": Part(
            "rain projector", "features", 3, "vectors", "makes the judge's features of the rain layer comparable"
        ),
        "clean_judge": _CLEAN_JUDGE,
    },
    "deraincyclegan": {
        "derainer": _DERAINER,
        "painter": Part(
            "painter", "scene", 4, "rainy", "paints rain: clean image and mask of rain [N, 4, H, W] to rainy image"
        ),
        "clean_judge": _CLEAN_JUDGE,
        "rainy_judge": _RAINY_JUDGE,
    },
}  # fmt: skip


def part_of(kind: str, method: str = "rgsud") -> Part:
    """What is known of a network; of one of the user's own method its name alone."""
    known = PARTS.get(method, {}).get(kind)
    return known or Part(kind.replace("_", " "), "image", 3, "output")
