"""Run the benchmarks and write bench/results/DEVICE.json and DEVICE.md: figures, limits, device, versions, commit.

python bench/report.py [--minutes 25] [pytest's own options, such as -k high_pass]

Most wanted first, each part in a process of its own, and both files are written after every part: what fails or comes
too late takes nothing away. On a GPU the table of convolutions is made before the step is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import torch
from limits import DEVICE, THREADS, measure_limits, peaks
from shares import shares
from summary import markdown, rows

from rgsud_fast.ops.installation import info
from rgsud_fast.system.files import write_text

HERE = Path(__file__).resolve().parent
PYTEST = [sys.executable, "-m", "pytest", str(HERE), "--benchmark-only", "-q"]


def parts(more: list[str]) -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """What to run, most wanted first: a name, a command, and changes of the environment."""
    if more or DEVICE == "cpu":
        yield "benchmarks", [*PYTEST, *more], {}
        return
    yield "table of convolutions", [sys.executable, str(HERE / "convolutions.py")], {}
    yield "step of preset paper", [*PYTEST, "-k", "stage1_step and paper"], {}
    convolutions, rest = "conv_bias_lrelu or residual_block", "not stage1_step and not sweep"
    yield "convolutions", [*PYTEST, "-k", convolutions], {}
    yield "other ops", [*PYTEST, "-k", f"{rest} and not conv_bias_lrelu and not residual_block"], {}
    yield "sweep", [*PYTEST, "-k", "sweep"], {}
    for precision in ("tf32", "float32"):
        yield f"convolutions in {precision}", [*PYTEST, "-k", convolutions], {"RGSUD_BENCH_PRECISION": precision}
    yield "steps of small presets", [*PYTEST, "-k", "stage1_step and not paper"], {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start nothing, and let nothing run, later")
    given, more = parser.parse_known_args()
    ends = time.monotonic() + 60 * given.minutes
    torch.set_num_threads(THREADS)
    figures: dict[str, Any] = machine() | {"limits": measure_limits(), "peaks": peaks(), "shares": {}, "failed": []}
    figures["benchmarks"] = []
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "lines.jsonl"
        for name, command, environment in parts(more):
            left = ends - time.monotonic()
            if why := run(command, environment | {"RGSUD_BENCH_LINES": str(lines)}, left):
                figures["failed"].append(f"{name}: {why}")
            if lines.exists():
                figures["benchmarks"] = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
            write(figures)
    if time.monotonic() < ends and not more:
        try:
            figures["shares"] = shares()
        except Exception as error:  # it is the least of the figures
            figures["failed"].append(f"shares: {error}")
        write(figures)
    print(*(figures["failed"]), sep="\n")
    sys.exit(bool(figures["failed"]))


def run(command: list[str], environment: dict[str, str], left: float) -> str | None:
    """Run a part for at most `left` seconds; what went wrong, or None."""
    if left <= 0:
        return "no time was left"
    try:
        done = subprocess.run(command, env=os.environ | environment, timeout=None if left == float("inf") else left)
    except subprocess.TimeoutExpired:
        return "time was up"
    return f"ended with {done.returncode}" if done.returncode else None


def write(figures: dict[str, Any]) -> None:
    """Write both files of this device anew."""
    name = "".join(c if c.isalnum() else "-" for c in figures["device"]).strip("-").lower()
    target = HERE / "results" / name
    write_text(target.with_suffix(".json"), json.dumps(figures, indent=2) + "\n")
    limits, known = figures["limits"], figures["peaks"]
    about = {key: value for key, value in figures.items() if not isinstance(value, (dict, list))}
    of_peak = {
        name: f" ({rate / known[name]:.0%} of the data sheet's)" for name, rate in limits.items() if name in known
    }
    products = ", ".join(
        f"{name} {rate / 1e9:.0f} GFLOP/s{of_peak.get(name, '')}" for name, rate in limits.items() if name != "copy"
    )
    kinds = ", ".join(f"{kind} {share:.0%}" for kind, share in figures["shares"].items())
    page = [
        f"# {figures['device']}, {figures['date']}",
        "",
        "  \n".join(f"{key}: {value}" for key, value in about.items()),
        "",
        f"Limits, 100 %: a copy, {limits['copy'] / 1e9:.1f} GB/s{of_peak.get('copy', '')}; products of random matrices,"
        f" {products}. Times are the best of each benchmark's rounds; on a CPU a kernel's speed is the median, over "
        "the rounds, of plain PyTorch's time over its own.",
        "",
        *([f"A plain step of preset small-gan: {kinds}.", ""] if kinds else []),
        *([f"Not measured: {'; '.join(figures['failed'])}.", ""] if figures["failed"] else []),
        markdown(rows(figures["benchmarks"], limits)),
        "",
    ]
    write_text(target.with_suffix(".md"), "\n".join(page))
    print(f"wrote {target}.json and {target.name}.md: {len(figures['benchmarks'])} figures", flush=True)


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    if DEVICE == "cuda":
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True).stdout.split("\n")[0]
        device = torch.cuda.get_device_name()
    else:
        driver, device = None, f"cpu {platform.machine()}"
    commit = subprocess.run(["git", "-C", str(HERE), "describe", "--always", "--dirty"], capture_output=True, text=True)
    return {
        "device": device,
        "driver": driver,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if DEVICE == "cuda" else None,
        "build": info()["build"],
        "commit": commit.stdout.strip() or None,
        "date": date.today().isoformat(),
    }


if __name__ == "__main__":
    main()
