"""bench/counting in a process of its own: there Triton is not interpreted, and believes in a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parents[1] / "bench"
LAUNCHES = """
import json, torch
from dataclasses import asdict
from counting.machine_code import codes_of
def tensor(*shape, dtype=torch.bfloat16):
    made = torch.empty(shape, device="cuda", dtype=dtype)
    return made.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else made
def wide(*shape):
    return torch.empty(shape, device="cuda")
{script}
codes = codes_of(launch, {architectures})
print(json.dumps([asdict(code) | {{"name": code.name.split()[0], "faults": code.faults}} for code in codes]))
"""


def run_bench(*command: str) -> str:
    """What Python prints, with bench/ in reach.

    Slow, all such tests: so they are left out on the lowest versions, whose inner parts the machine need not know.
    """
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(BENCH), environment.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr[-2000:]
    return done.stdout


def codes_of(script: str, architectures: tuple[int, ...] = (80, 89, 90)) -> list[dict[str, Any]]:
    """The machine code of what a script's `launch()` launches, as fields of `Code` with the kernel's name alone.

    In reach are `tensor(*shape)`, of bfloat16 and channels last, and `wide(*shape)`, of float32.
    """
    return json.loads(run_bench("-c", LAUNCHES.format(script=script, architectures=architectures)).splitlines()[-1])
