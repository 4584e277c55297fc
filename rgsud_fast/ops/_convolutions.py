"""The choice between the library's convolution (on a GPU cuDNN's) and our own implicit GEMM, per shape.

The library's is the floor: ours runs only where a table of measurements, made on this very GPU by
bench/convolutions.py, says that it is the faster one. The table is the file that RGSUD_CONVOLUTIONS names, else
~/.cache/rgsud_fast/convolutions.json; without it, and in float32 and float64, every convolution is the library's.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..errors import UserError

Part = Literal["forward", "at_x", "at_weight"]
PARTS: tuple[Part, ...] = ("forward", "at_x", "at_weight")  # the output, the gradients at x and at the weights
HALVES = (torch.bfloat16, torch.float16)  # ours has no TF32, which the library takes for float32
_MOST = 2**31  # elements that its 32-bit offsets reach


class Case(NamedTuple):
    """One part of one convolution, as a row of the table names it."""

    part: str
    dtype: str
    images: int
    channels: int  # of x
    channels_out: int
    taps: int  # side of the window
    height: int
    width: int


class use_own:
    """Take our own convolution everywhere, or nowhere, for one `with` block: for tests and for measuring.

    Args:
        own: True or False; None leaves it to the table.
    """

    _forced: bool | None = None

    def __init__(self, own: bool | None) -> None:
        self._own = own

    def __enter__(self) -> use_own:
        self._before, use_own._forced = use_own._forced, self._own
        return self

    def __exit__(self, *exc: object) -> None:
        use_own._forced = self._before


def takes_own(part: Part, x: Tensor, weight: Tensor) -> bool:
    """Whether our own kernel computes this part of the convolution of x, [N, C, H, W], by weight, [D, C, K, K].

    Raises:
        UserError: the table is none.
    """
    if x.numel() >= _MOST or x.numel() // x.shape[1] * weight.shape[0] >= _MOST:
        return False
    if use_own._forced is not None:
        return use_own._forced
    if x.dtype not in HALVES or not x.is_cuda:
        return False
    table = read_table(table_path())
    return bool(table) and case_of(part, x, weight) in table.get(_device_name(x.device), ())


def case_of(part: Part, x: Tensor, weight: Tensor) -> Case:
    """The row of the table that tells of this part."""
    images, channels, height, width = x.shape
    dtype = str(x.dtype).removeprefix("torch.")
    return Case(part, dtype, images, channels, weight.shape[0], weight.shape[2], height, width)


def table_path() -> Path:
    """Where the table lies."""
    return Path(os.environ.get("RGSUD_CONVOLUTIONS") or Path.home() / ".cache" / "rgsud_fast" / "convolutions.json")


@functools.cache
def read_table(path: Path) -> dict[str, frozenset[Case]]:
    """Per name of a GPU the cases in which our own kernel is the faster one; read once per process.

    Args:
        path: a JSON file: per GPU a list of rows with the fields of Case, `library_us` and `own_us`. None: empty.

    Raises:
        UserError: it is something else.
    """
    try:
        devices = json.loads(path.read_text(encoding="utf-8"))
        return {device: frozenset(_won(rows)) for device, rows in devices.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        told = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} is no table of convolutions ({told}); remove it, or make it again") from error


def _won(rows: list[dict[str, Any]]) -> list[Case]:
    faster = [row for row in rows if row["own_us"] < row["library_us"]]
    return [Case(**{field: row[field] for field in Case._fields}) for row in faster]


@functools.cache
def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device)
