"""A toolbox beside everything that it has to beat, on held-out photographs, the same episodes for all.

    rgsud-fast toolbox train CLEAN --out BOX --preset toolbox-small
    python bench/toolbox.py BOX [--clean DIR] [--rival-steps 4500] [--episodes 96] [--whole 4] [--json FILE]

The photographs are those that BOX held out, or those of DIR. The rival is one network of the toolbox's size (DnCNN),
trained here on the training photographs of BOX and damage of all severities. Printed are the ladder, of patches and of
photographs as `toolbox run` takes them, whose tiles vote; the bars that a toolbox has to clear; what becomes of good
photographs; and what one costs.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rgsud_fast.config.toolbox import SEVERITIES, Severity
from rgsud_fast.networks.toolbox import Chain, load_box
from rgsud_fast.optim.adam import set_rate
from rgsud_fast.system.files import write_text
from rgsud_fast.system.side_by_side import sharing_cores
from rgsud_fast.toolchain.environment import decibels
from rgsud_fast.toolchain.episodes import Episodes, stack
from rgsud_fast.toolchain.ladder import LADDER, ladder, rivals_of
from rgsud_fast.toolchain.oracles import forward_selection, in_parts
from rgsud_fast.toolchain.workshop import Workshop, open_box

RIVAL = "one network of the same size"
SIZES = {"small": (9, 45), "paper": (14, 64)}  # layers and width: 130,998 and 448,195 parameters
PHOTOGRAPH = (321, 481)  # rows and columns of the one that is timed
WHOLE = {
    "single_whole": "best single tuned tool, on whole photographs",
    "agent_whole": "agent after joint tuning, on whole photographs",
}
LARGEST = 1024  # pixels of a side: the tools get a photograph at once
STOPS = (0.05, 0.60)  # the share of third steps that stop, at least and at most


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("box", type=Path)
    parser.add_argument("--clean", type=Path, help="photographs in place of those that BOX held out")
    parser.add_argument("--rival-steps", type=int, default=4500, help="0 leaves the rival out")
    parser.add_argument("--episodes", type=int, default=96)
    parser.add_argument("--searched", type=int, default=24)
    parser.add_argument("--whole", type=int, default=4, help="times that each photograph is damaged as a whole")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    workshop = open_box(args.box, args.device, args.clean)
    chain = load_box(args.box).to(workshop.device)
    with sharing_cores(workshop.device):
        found = measure(workshop, args.episodes, args.searched, args.whole)
        found["selection"] = selection(workshop, args.searched)
        found["good"] = good_photographs(workshop, chain)
    if args.rival_steps:
        rival = train_rival(workshop, args.rival_steps)
        for severity in SEVERITIES:
            found[severity]["rival"] = gain_of_rival(workshop, rival, severity, args.episodes)
    found["seconds"] = seconds(chain, workshop.device)
    print(table(found))
    print("\n".join(bars(found)))
    print("tools, each with what the greedy oracle gains by it and those before: " + ", ".join(found["selection"]))
    good = found["good"]
    print(f"good photographs left alone: {good['left alone']} of {good['of']}, the worst at {good['worst']:.1f} dB")
    print(f"a photograph of {PHOTOGRAPH[1]} x {PHOTOGRAPH[0]} pixels takes {found['seconds']:.2f} s")
    if args.json:
        write_text(args.json, json.dumps(found, indent=2) + "\n")


def measure(workshop: Workshop, episodes: int, searched: int, whole: int) -> dict[str, Any]:
    """The ladder of the separate tools for each severity, and the agent and the greedy oracle with the tuned ones.

    Args:
        workshop: of the toolbox.
        episodes: held-out patches of each severity.
        searched: of them, on how many all chains are tried; the rivals are chosen on as many of training photographs.
        whole: times that each held-out photograph is damaged as a whole; 0 leaves that out.
    """
    config, where = workshop.config, workshop.device
    separate, chain = workshop.tools(), load_box(workshop.folder.path).to(where)
    tuned, steps = list(chain.tools), config.agent.steps
    reference = workshop.on_device(workshop.episodes("reference").mixed(range(searched)))
    rivals = rivals_of(separate, *reference, steps)
    networks = {"single_whole": chain.applied(rivals_of(tuned, *reference, 1).single), "agent_whole": chain}
    source, found = workshop.episodes("held out", held_out=True), {}
    for severity in SEVERITIES:
        pairs = workshop.on_device(source.batch(range(episodes), severity))
        how: dict[str, Any] = {"seed": config.seed, "steps": steps}
        found[severity] = ladder(chain.agent, separate, rivals, *pairs, searched=searched, **how)
        joint = ladder(chain.agent, tuned, rivals, *pairs, **how)
        found[severity] |= {f"{name}_joint": joint[name] for name in ("agent", "greedy", "stops")}
        if whole:
            found[severity] |= gains_on_photographs(workshop, networks, severity, whole)
    return found


@torch.no_grad()
def gains_on_photographs(
    workshop: Workshop, networks: Mapping[str, Callable[[Tensor], Tensor]], severity: Severity, times: int
) -> dict[str, float]:
    """Mean decibels over the input on squares as large as the held-out photographs, at most of `LARGEST` pixels a side.

    Args:
        workshop: of the toolbox.
        networks: [1, 3, S, S] -> the same, by their names.
        severity: of the damage.
        times: that each photograph is damaged, otherwise each time.
    """
    config, gains = workshop.config, dict.fromkeys(networks, 0.0)
    photographs = workshop.photographs.held_out
    for place, photograph in enumerate(photographs):
        source = Episodes([photograph], config.seed, min(*photograph.shape[:2], LARGEST), config.damage, "held out")
        for number in range(place * times, (place + 1) * times):
            damaged, clean = workshop.on_device(source.batch([number], severity))
            before = decibels(damaged, clean)
            for name, network in networks.items():
                gains[name] += float(decibels(network(damaged), clean) - before)
    return {name: total / (len(photographs) * times) for name, total in gains.items()}


@torch.no_grad()
def good_photographs(workshop: Workshop, chain: Chain) -> dict[str, float]:
    """What becomes of held-out photographs that have no damage: how many are left alone, and the PSNR of the worst."""
    alone, psnr = 0, []
    for photograph in workshop.photographs.held_out:
        clean = stack([photograph]).to(workshop.device)
        result = chain(clean)
        alone += torch.equal(result, clean)
        psnr.append(float(decibels(result, clean)))
    return {"left alone": alone, "of": len(psnr), "worst": min(psnr)}


def selection(workshop: Workshop, patches: int) -> list[str]:
    """The tools in the order in which they earn their place."""
    pairs = workshop.on_device(workshop.episodes("held out", held_out=True).mixed(range(patches)))
    order = forward_selection(workshop.tools(tuned=True), *pairs, workshop.config.agent.steps)
    return [f"{workshop.names[place]} {gain:+.2f}" for place, gain in order]


class Rival(nn.Module):
    """DnCNN (Zhang et al., TIP 2017): 3x3 convolutions with batch normalisation and ReLU, less what it predicts."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        inner = [
            part
            for _ in range(layers - 2)
            for part in (nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        ]
        first = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(first, nn.ReLU(), *inner, nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        return image - self.body(image)


def train_rival(workshop: Workshop, steps: int) -> nn.Module:
    """Train the network of the toolbox's size on all severities: Adam, one cycle, batches as the tools had.

    It sees the patches that joint tuning sees.
    """
    small = sum(tool.net == "small" for tool in workshop.config.tools) == len(workshop.config.tools)
    torch.manual_seed(workshop.config.seed)
    rival = Rival(*SIZES["small" if small else "paper"]).to(workshop.device)
    optimizer, batch = torch.optim.Adam(rival.parameters()), workshop.config.fit.batch
    episodes = workshop.variety("joint")
    for step in range(steps):
        set_rate(optimizer, 1e-3 * (0.5 + 0.5 * math.cos(math.pi * step / steps)))
        numbers = range(step * batch, (step + 1) * batch)
        damaged, clean = workshop.on_device(episodes.mixed(numbers))
        optimizer.zero_grad()
        (rival(damaged) - clean).square().mean().backward()
        optimizer.step()
        if step % max(steps // 10, 1) == 0:
            print(f"rival: step {step:,} of {steps:,}", flush=True)
    return rival.eval()


@torch.no_grad()
def gain_of_rival(workshop: Workshop, rival: nn.Module, severity: Severity, episodes: int) -> float:
    """Mean decibels over the input, on the same episodes."""
    source = workshop.episodes("held out", held_out=True)
    damaged, clean = workshop.on_device(source.batch(range(episodes), severity))
    return float(in_parts(lambda d, c: decibels(rival(d), c) - decibels(d, c), damaged, clean).mean())


@torch.no_grad()
def seconds(chain: Chain, device: torch.device) -> float:
    """Of a photograph, the best of three."""
    image, taken = torch.rand(1, 3, *PHOTOGRAPH, device=device), []
    for _ in range(3):
        began = time.perf_counter()
        chain(image).cpu()
        taken.append(time.perf_counter() - began)
    return min(taken)


def mean_of(found: dict[str, Any], name: str) -> float:
    """A figure, over severities."""
    return sum(found[severity][name] for severity in SEVERITIES) / len(SEVERITIES)


def table(found: dict[str, Any]) -> str:
    """The ladder in Markdown."""
    lines = [f"| gain over the input, dB | {' | '.join(SEVERITIES)} | mean |", "|---|" + "---|" * (len(SEVERITIES) + 1)]
    for name, label in (LADDER | {"rival": RIVAL} | WHOLE).items():
        if name in found[SEVERITIES[0]]:
            cells = [*(found[severity][name] for severity in SEVERITIES), mean_of(found, name)]
            lines.append(f"| {label} | " + " | ".join(f"{cell:+.2f}" for cell in cells) + " |")
    return "\n".join(lines)


def bars(found: dict[str, Any]) -> list[str]:
    """What a toolbox has to show, a line each: cleared or not."""
    of = {name: mean_of(found, name) for name in found[SEVERITIES[0]] if name not in ("actions", "input_psnr")}
    told = {
        "nothing < best single tool < agent": 0 < of["single"] < of["agent"],
        "random chain < best single tool": of["random"] < of["single"],
        "agent ≤ full search": of["agent_searched"] <= of["searched"],
        f"agent ≥ 85 % of the greedy oracle ({of['agent'] / of['greedy']:.0%})": of["agent"] >= 0.85 * of["greedy"],
        f"agent ≥ best fixed chain ({of['agent'] - of['fixed']:+.2f} dB)": of["agent"] >= of["fixed"],
        f"joint tuning ≥ +0.2 dB ({of['agent_joint'] - of['agent']:+.2f} dB)": of["agent_joint"] >= of["agent"] + 0.2,
        f"third steps that stop: 5 to 60 % ({of['stops']:.0%})": STOPS[0] <= of["stops"] <= STOPS[1],
    }
    return [f"{'cleared' if cleared else 'MISSED '}  {what}" for what, cleared in told.items()]


if __name__ == "__main__":
    main()
