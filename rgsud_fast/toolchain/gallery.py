"""The gallery of a toolbox: ladder, gains of each tool on each band, curves, and chains picture by picture."""

from __future__ import annotations

from html import escape
from typing import Any

import torch
from torch import Tensor

from ..config.load import flatten_fields
from ..config.toolbox import SEVERITIES, STOP
from ..networks.toolbox import AGENT
from ..networks.toolbox.agent import NONE
from ..networks.toolbox.box import read_agent
from ..runs.html import Panel, Row, curves, facts, figures, rows, write_gallery
from ..system.watch import Watch, nobody
from .environment import decibels, play
from .ladder import LADDER
from .workshop import Workshop

CHAINS, WORST, LOOKED_AT = 8, 4, 48


def write_box_gallery(workshop: Workshop, metrics: dict[str, Any], watch: Watch = nobody) -> None:
    """Write gallery.html from the metrics, the log, and chains on held-out episodes."""
    folder = workshop.folder
    chosen, worst = chains(workshop)
    watch(1, 2)
    names = [*workshop.names, STOP]
    write_gallery(
        folder.gallery,
        f"Toolbox {folder.path.name}",
        _ladder(metrics),
        heat_table(
            "What each tool does to damage of each band",
            metrics["matrix"],
            "Decibels gained, a row per tool. A tool alone misleads: one that sharpens raises noise, which the next "
            "one takes away. What counts are chains.",
        ),
        rows("Chains", chosen, "Each step: the action, the worth that the agent gave it, and the PSNR after it."),
        rows("The worst of them", worst, f"Of {LOOKED_AT} held-out episodes those that gained least."),
        *(_histogram(metrics, severity, names) for severity in SEVERITIES),
        *(
            curves(f"Curves: {phase}", [row for row in folder.read_log() if row.get("phase") == phase])
            for phase in ("tools", "agent", "joint tuning")
        ),
        facts("Configuration", _flat(workshop)),
        subtitle=f"preset {workshop.config.preset}, {len(workshop.names)} tools",
    )
    watch(2, 2)


def heat_table(title: str, matrix: dict[str, dict[str, float]], text: str = "") -> str:
    """A section with a table of numbers, greener above 0 and redder below; rows and columns by name."""
    if not matrix:
        return ""
    columns = list(next(iter(matrix.values())))
    most = max((abs(value) for row in matrix.values() for value in row.values()), default=1) or 1
    lines = ["<tr><th></th>" + "".join(f"<th>{escape(name)}</th>" for name in columns) + "</tr>"]
    for name, row in matrix.items():
        cells = "".join(
            f'<td data-name="{escape(column)}" style="background:{_shade(row[column] / most)}">{row[column]:+.2f}</td>'
            for column in columns
        )
        lines.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
    lead = f'<p class="lead">{escape(text)}</p>' if text else ""
    table = f'<div class="card scroll"><table>{"".join(lines)}</table></div>'
    return f"<section><h2>{escape(title)}</h2>{lead}{table}</section>"


def _shade(share: float) -> str:
    colour = "60,160,90" if share > 0 else "200,70,60"
    return f"rgba({colour},{min(abs(share) ** 0.5, 1) * 0.6:.2f})"


@torch.no_grad()
def chains(workshop: Workshop) -> tuple[list[Row], list[Row]]:
    """Rows of a few chains, spread over the severities, and of those that gained least."""
    agent = read_agent(workshop.folder.path / AGENT, workshop.names).to(workshop.device)
    tools, steps = workshop.tools(tuned=True), workshop.config.agent.steps
    episodes = workshop.episodes("held out", held_out=True)
    damaged, clean = workshop.on_device(episodes.mixed(range(LOOKED_AT)))
    played = play(agent, tools, damaged, clean, steps)
    gains = played.rewards.sum(1)
    actions = [*workshop.names, STOP]

    def row(i: int) -> Row:
        image, level = damaged[i : i + 1], float(decibels(damaged[i : i + 1], clean[i : i + 1]))
        panels = [Panel("input", _shown(image), f"{level:.2f} dB")]
        for step, action in enumerate(played.actions[i].tolist()):
            if action == NONE:
                break
            worth = float(played.worth[i, step, action])
            if action == agent.stop:
                panels.append(Panel(STOP, _shown(image), f"worth {worth:+.2f}"))
                break
            image = tools[action](image)
            level = float(decibels(image, clean[i : i + 1]))
            panels.append(Panel(actions[action], _shown(image), f"worth {worth:+.2f}, {level:.2f} dB"))
        panels.append(Panel("truth", _shown(clean[i : i + 1])))
        return Row(f"episode {i}, {SEVERITIES[i % len(SEVERITIES)]}", panels, {"gain, dB": float(gains[i])})

    worst = gains.argsort()[:WORST].tolist()
    return [row(i) for i in range(CHAINS)], [row(i) for i in worst]


def _shown(image: Tensor) -> Tensor:
    return image[0].clamp(0, 1).cpu()


def _ladder(metrics: dict[str, Any]) -> str:
    ladder = metrics["ladder"]
    kept = [name for name in LADDER if name in ladder["mean"]]
    columns = [*SEVERITIES, "mean"]
    table = {LADDER[name]: {column: ladder[column][name] for column in columns} for name in kept}
    tiles = {"agent over the input": f"{ladder['mean']['agent']:+.2f} dB"}
    if "agent_joint" in ladder["mean"]:
        tiles["after joint tuning"] = f"{ladder['mean']['agent_joint']:+.2f} dB"
    rivals = {kind: " → ".join(chain) or "nothing" for kind, chain in metrics["rivals"].items()}
    text = (
        "Decibels gained over the input, the same held-out episodes for all. Best single tool and best fixed chain "
        f"were chosen on training photographs: {rivals['single']}; {rivals['fixed']}."
    )
    best = "agent_joint" if "agent_joint" in kept else "agent"
    return figures("Ladder", table, tiles, text, LADDER[best])


def _histogram(metrics: dict[str, Any], severity: str, names: list[str]) -> str:
    """How often each action was taken at each step."""
    found = metrics["ladder"][severity]
    counts = found.get("actions_joint", found["actions"])
    table = {f"step {i + 1}": dict(zip(names, map(float, row), strict=True)) for i, row in enumerate(counts)}
    stops = found.get("stops_joint", found["stops"])
    return figures(f"Actions, {severity}", table, {"third steps without a tool": f"{100 * stops:.0f} %"})


def _flat(workshop: Workshop) -> dict[str, Any]:
    fields = workshop.config.model_dump(mode="json", exclude={"tools", "clean"})
    return flatten_fields(fields)
