"""Parts of comparisons over seeds: arguments, folders, copies of a state, differences with a standard error."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import Any

import torch


def parse_arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line with the options that every comparison over seeds has."""
    data = os.environ.get("RGSUD_DATA")
    parser.add_argument("--data", type=Path, default=data, help="default: $RGSUD_DATA")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--read", type=Path, nargs="+", help="files of --json to print together, training nothing")
    parser.add_argument("--json", type=Path, help="file for all figures")
    args = parser.parse_args()
    if args.data is None and not args.read:
        parser.error("give --data, or set RGSUD_DATA")
    return args


def folders(data: Path) -> dict[str, Path]:
    """The folders of DATA as a run's."""
    pairs = data / "rain100l/val"
    return {
        "rainy": data / "rain100l/train_rainy",
        "clean": data / "clean",
        "val_rainy": pairs / "rainy",
        "val_clean": pairs / "clean",
    }


def snapshot(state: Any) -> Any:
    """A deep copy of nested dicts and lists of tensors."""
    if isinstance(state, torch.Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {key: snapshot(value) for key, value in state.items()}
    return [snapshot(value) for value in state] if isinstance(state, list) else state


def paired_difference(values: list[float], against: list[float]) -> str:
    """The mean difference, paired over seeds, and its standard error."""
    differences = [a - b for a, b in zip(values, against, strict=True)]
    count, mean = len(differences), sum(differences) / len(differences)
    if count < 2:
        return f"{mean:+.2f}"
    error = math.sqrt(sum((d - mean) ** 2 for d in differences) / (count - 1) / count)
    return f"{mean:+.2f} ± {error:.2f}"
