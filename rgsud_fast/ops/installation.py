"""The abilities of this installation: versions, device, and which backend each op uses."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import torch

from . import _backends as backends


def info() -> dict[str, Any]:
    """Gather what a bug report needs.

    Returns:
        `versions`, `device`, `threads`, `build` (what was compiled), `cuda_architectures`, `asked_for` (the backend
        named by RGSUD_BACKEND, or auto) and `ops`: per op the backend `used`, and `off` with the reason for each other.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        from .. import _C

        build, architectures, instructions = _C.build, _C.cuda_architectures(), _C.instruction_set()
    except (ImportError, ValueError) as error:
        build, architectures, instructions = f"rgsud_fast._C cannot run: {error}", [], None
    return {
        "versions": {"python": platform.python_version()}
        | {name: _version(name) for name in ("rgsud-fast", "torch", "triton", "numpy", "pillow", "pyiqa")},
        "device": torch.cuda.get_device_name() if device == "cuda" else f"cpu ({platform.machine()}, no CUDA GPU)",
        "threads": torch.get_num_threads(),
        "build": build,
        "cpu_instructions": instructions,
        "cuda_architectures": architectures,
        "asked_for": backends.requested_backend(),
        "ops": {op: _op(op, device) for op in backends.KERNELS},
    }


def describe() -> str:
    """The same for people: plain lines."""
    gathered = info()
    lines = [" ".join(f"{name} {version}" for name, version in gathered["versions"].items() if version)]
    lines.append(f"device   {gathered['device']}, {gathered['threads']} threads")
    lines.append(f"compiled {gathered['build']}")
    if gathered["cpu_instructions"]:
        lines.append(f"CPU runs {gathered['cpu_instructions']}")
    lines.append(f"backend  {gathered['asked_for']}")
    for (used, off), ops in _alike(gathered["ops"]).items():
        lines.append(f"  {used or 'nothing can run what was asked for'}: {', '.join(ops)}")
        lines += [f"    {name} off: {reason}" for name, reason in off]
    return "\n".join(lines)


def _alike(ops: dict[str, dict[str, Any]]) -> dict[tuple[str | None, tuple[tuple[str, str], ...]], list[str]]:
    """The ops by what they use and why not the others."""
    groups: dict[tuple[str | None, tuple[tuple[str, str], ...]], list[str]] = {}
    for op, entry in ops.items():
        off = tuple((name, reason.removeprefix(f"{op} has ")) for name, reason in entry["off"].items())
        groups.setdefault((entry["used"], off), []).append(op)
    return groups


def _op(op: str, device: str) -> dict[str, Any]:
    reasons = {name: backends.why_not(op, name, device) for name in ("native", "triton", "reference")}
    return {
        "used": backends.active_backend(op, device),
        "off": {name: reason for name, reason in reasons.items() if reason},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def missing_kernels(device: torch.device) -> str | None:
    """Why no compiled kernel can run on this device though the choice is free; None where they run."""
    if backends.requested_backend() != "auto":
        return None
    return backends.why_not("high_pass", "native", device.type)


def compiled_when_launched(device: torch.device) -> str | None:
    """A line for people where kernels are compiled when they are first launched, so that steps seem to hang."""
    if not any(backends.active_backend(op, device.type) == "triton" for op in backends.KERNELS):
        return None
    return "the first steps of each stage compile Triton's kernels: minutes on a new machine, then they are kept"
