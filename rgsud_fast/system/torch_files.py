"""Files of torch.save from anybody: tensors and plain values, never code, and no claim beyond the file."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import reason
from .files import NO_MAPS
from .names import utf8_name


def load_tensors(path: Path) -> Any:
    """Read nested dicts, lists and tuples of dense tensors, numbers and strings onto the CPU.

    Args:
        path: a file of torch.save in the format of PyTorch 1.6 and later, a zip archive.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it holds something else, or is damaged; the message says which.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("no archive of torch.save")
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("compressed, which torch.save never does")
        with utf8_name(path) as name:
            loaded = _load(name)
        for tensor in _tensors(loaded):
            _check(tensor)
    except OSError:
        raise
    except pickle.UnpicklingError:  # whose message explains how to run the code all the same
        raise ValueError("it holds objects or code; only tensors and plain values are read") from None
    except Exception as error:  # a damaged pickle can fail in any way
        raise ValueError(reason(error, 100) or type(error).__name__) from None
    return loaded


def _load(name: str) -> Any:
    """Read through a map of the file, or plainly where its mount gives none, which torch tells in a RuntimeError."""
    try:
        return torch.load(name, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError) as error:
        refused = isinstance(error, OSError) and error.errno in NO_MAPS
        if not refused and "unable to mmap" not in str(error):
            raise
    return torch.load(name, map_location="cpu", weights_only=True)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(part)


def _check(tensor: Tensor) -> None:
    """Refuse a tensor with fewer elements in memory, from its first on, than its shape says: kernels count on them."""
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        raise ValueError(f"a tensor of layout {tensor.layout} on {tensor.device}")
    held = tensor.untyped_storage().nbytes() // tensor.element_size() - tensor.storage_offset()
    if tensor.numel() > held:
        raise ValueError(f"a tensor {list(tensor.shape)} of which the file holds {held} elements")
