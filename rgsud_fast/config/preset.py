"""Which preset a run takes where none is named: the same from the command line, from a file and from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .config import Config
from .load import read_yaml


def default_preset(folders: bool, device: str = "auto") -> tuple[str, str]:
    """Demo without folders; with folders what the device can train.

    Args:
        folders: whether the user names images of their own.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        The preset, and a line that says why.
    """
    if not folders:
        return "demo", "preset demo: embedded photographs, since no --data.rainy and --data.clean are given"
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        return "paper", "preset paper: a CUDA GPU trains; --preset small is the CPU-sized one"
    return "small", "preset small: a CPU trains; --preset paper has the full sizes"


def with_preset(source: Config | dict[str, Any] | str | Path | None) -> tuple[Config | dict[str, Any], str]:
    """A configuration as a user gives it, with a preset chosen where it names none; and a line that says so, or ""."""
    if isinstance(source, Config):
        return source, ""
    given = read_yaml(Path(source)) if isinstance(source, (str, Path)) else {} if source is None else source
    if not isinstance(given, dict) or "preset" in given:
        return given, ""
    data = given.get("data")
    folders = isinstance(data, dict) and any(data.get(field) for field in ("rainy", "clean"))
    preset, line = default_preset(folders, str(given.get("device", "auto")))
    return {**given, "preset": preset}, line
