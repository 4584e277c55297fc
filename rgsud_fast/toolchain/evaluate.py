"""A finished toolbox measured on other photographs, beside every baseline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..config.toolbox import SEVERITIES, Severity
from ..data import list_images, read_image
from ..networks.toolbox import load_box
from ..networks.toolbox.box import configured
from ..runs.folder import RunFolder
from ..system.device import pick_device
from ..system.names import takes_home
from ..system.side_by_side import sharing_cores
from ..system.watch import Watch, nobody
from .episodes import Episodes
from .ladder import Rivals, ladder, rivals_of
from .workshop import LEAST_SIDE

MOST_PHOTOGRAPHS = 300


@takes_home
def evaluate(
    box: str | Path,
    clean: str | Path,
    *,
    severity: Severity | None = None,
    episodes: int = 96,
    searched: int = 24,
    device: str = "auto",
    tools: Mapping[str, nn.Module] | None = None,
    watch: Watch = nobody,
) -> dict[str, Any]:
    """The ladder of a toolbox on episodes made of other photographs, the same for all.

    Args:
        box: the folder of a finished toolbox.
        clean: folder of clean photographs that it was not trained on; at most 300 are taken.
        severity: one alone; None takes all three.
        episodes: per severity.
        searched: on how many of them all chains are tried.
        device: auto, cpu, cuda or cuda:N.
        tools: networks of your own that the toolbox was trained with.
        watch: told how many severities are done.

    Returns:
        By severity, decibels gained over the input by everything in `ladder.LADDER`.

    Raises:
        UserError: no finished toolbox, or a folder without photographs that are large enough.
    """
    box, where = Path(box), pick_device(device)
    config, chain = configured(box), load_box(box, tools).to(where)
    photographs = [read_image(path, LEAST_SIDE) for path in list_images(clean)[:MOST_PHOTOGRAPHS]]
    source = Episodes(photographs, config.seed, config.agent.side, config.damage, "held out")
    networks, steps = list(chain.tools), config.agent.steps
    rivals = _rivals(box, chain.names)
    found: dict[str, Any] = {}
    asked = SEVERITIES if severity is None else (severity,)
    with sharing_cores(where, foreign=bool(tools)):
        for done, one in enumerate(asked):
            damaged, truth = (images.to(where) for images in source.batch(range(episodes), one))
            if rivals is None:
                rivals = rivals_of(networks, damaged[:searched], truth[:searched], steps)
            found[one] = ladder(
                chain.agent, networks, rivals, damaged, truth, seed=config.seed, steps=steps, searched=searched
            )
            watch(done + 1, len(asked))
    return found


def _rivals(box: Path, names: list[str]) -> Rivals | None:
    """The best single tool and chain on the training photographs, as the toolbox's metrics tell them."""
    try:
        told = json.loads(RunFolder(box).metrics.read_text(encoding="utf-8"))["rivals"]
        single, fixed = (tuple(names.index(name) for name in told[kind]) for kind in Rivals._fields)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Rivals(single, fixed)
