"""Run every benchmark and write bench/results/DEVICE.json and DEVICE.md: figures, limits, device, versions, commit.

python bench/report.py [pytest's own options, such as -k high_pass]
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import torch
from limits import DEVICE, THREADS, measure_limits
from shares import shares
from summary import markdown, rows

from rgsud_fast.ops.installation import info
from rgsud_fast.system.files import write_text

HERE = Path(__file__).resolve().parent


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.json"
        command = [sys.executable, "-m", "pytest", str(HERE), "--benchmark-only", f"--benchmark-json={raw}", "-q"]
        done = subprocess.run([*command, *sys.argv[1:]])
        if not raw.exists():
            sys.exit(done.returncode or 1)
        found = json.loads(raw.read_text(encoding="utf-8"))["benchmarks"]
    benchmarks = [bench["extra_info"] | {"seconds": bench["stats"]["min"]} for bench in found]
    torch.set_num_threads(THREADS)
    limits = measure_limits()
    about = machine()
    name = "".join(c if c.isalnum() else "-" for c in about["device"]).strip("-").lower()
    target = HERE / "results" / name
    parts = shares()
    figures = about | {"limits": limits, "shares": parts, "benchmarks": benchmarks}
    write_text(target.with_suffix(".json"), json.dumps(figures, indent=2) + "\n")
    heading = [
        f"# {about['device']}, {about['date']}",
        "",
        "  \n".join(f"{key}: {value}" for key, value in about.items()),
        "",
        f"Limits, 100 %: a copy, {limits['copy'] / 1e9:.1f} GB/s; matrix products, "
        + ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in limits.items() if name != "copy")
        + ". Times are the best of each benchmark's rounds; a kernel's speed is the median, over the rounds, of plain"
        " PyTorch's time over its own.",
        "",
        "A plain step of preset small-gan: " + ", ".join(f"{kind} {share:.0%}" for kind, share in parts.items()) + ".",
        "",
    ]
    write_text(target.with_suffix(".md"), "\n".join([*heading, markdown(rows(benchmarks, limits)), ""]))
    print(f"wrote {target}.json and {target.name}.md")
    sys.exit(done.returncode)


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
