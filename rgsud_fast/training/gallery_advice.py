"""What a gallery is called, and what it says of training images: columns, and what to change where rain looks wrong."""

from __future__ import annotations

from typing import Any

from ..config import Config
from ..methods.method import Painter

_LONGER = "Without streaks, train longer"
_COLOURS = "where the colour shifts or the other scene shows through, raise {0}.channel_consistency and"
_COLOURS += " {0}.background_guidance."
_SAME_SCENE = "A good pseudo rainy image has the photograph's streaks on an otherwise unchanged scene."
_ANY_RAIN = "A good pseudo rainy image has rain like the photographs', not just this one's, on an unchanged scene."
_SEEN = "Streaks that are missing there stay in derained images; texture that came along with them goes from those."
_ADVICE = {  # by method: what a good pseudo rainy image is, and what to change
    "rgsud": f"{_SAME_SCENE} {_LONGER}; {_COLOURS.format('loss')}",
    "csud": f"{_SAME_SCENE} {_LONGER}; {_COLOURS.format('csud')}",
    "cyclegan": f"{_ANY_RAIN} {_LONGER}; where the colour shifts, raise cyclegan.identity.",
    "dcdgan": f"{_ANY_RAIN} {_LONGER}; where the colour shifts, raise dcdgan.identity.",
    "nlcl": f"{_SAME_SCENE} {_SEEN}",
    "deraincyclegan": f"{_SAME_SCENE} {_LONGER}: until deraincyclegan.switch of stage 2 its painter met empty masks.",
}


def title(method: Any, run: str) -> str:
    """The title of a run's gallery."""
    return f"{'RGSUD' if method.NAME == 'rgsud' else method.NAME} run {run}"


def outcomes_text(config: Config) -> str:
    """What the images of each outcome of a sweep show, and when a candidate enters."""
    entered = (
        "The newest candidate that the guards let pass takes the place of the one before it, whatever their scores."
        if config.reward.newest
        else "A candidate entered when it was among the best kept, and was no better when it scored below all of them."
    )
    return (
        "A few images of each outcome of their last sweep: the photograph, the candidate that the finished derainer "
        f"makes of it now, and the reward that is stored. {entered}"
    )


def training_text(method: Any, config: Config) -> str:
    """What the columns of a training image are and, where rain is painted, how to read that."""
    derained = "The rainy photograph; what the derainer makes of it;"
    newest = "the newest" if config.reward.newest else "the best"
    reward = f"and {newest} derained version so far, the reward."
    name = method.NAME
    if not isinstance(method, Painter):
        return f"{derained} {reward}"
    pasted = name == "rgsud" and not config.loss.generator
    advice = f"{_SAME_SCENE} {_SEEN}" if pasted else _ADVICE.get(name, _SAME_SCENE)
    return f"{derained} rain painted onto an unrelated clean photograph; {reward} {advice}"
