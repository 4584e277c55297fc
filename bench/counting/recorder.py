"""What a step does on a GPU, by count: launches, bytes, mixed layouts, waits for the device, memory.

A launch reads each of its inputs and writes each of its outputs once: what a kernel reads twice, or finds in a cache,
is not counted. PyTorch's operations launch one kernel each, but for those of `_LAUNCHES` and lists of tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
LARGE = 1 << 20  # bytes from which a layout matters
_FREE = {  # allocate or describe, and launch nothing
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "alias", "_reshape_alias",
    "lift_fresh", "_unsafe_view", "set_", "resize_", "is_pinned", "record_stream", "squeeze_", "unsqueeze_", "t_",
}  # fmt: skip
_LAUNCHES = {"_local_scalar_dense": 0, "convolution_backward": 0, "nonzero": 3, "sort": 3, "native_batch_norm": 2}
_PRODUCTS = {"convolution", "convolution_backward", "mm", "bmm", "addmm", "baddbmm", "addmm_"}
_WAITS = {"_local_scalar_dense", "nonzero", "item", "equal", "masked_select", "_unique2", "unique_dim"}
# Tensors and chunks of one launch over a list, by how many lists it walks (ATen's MultiTensorApply.cuh).
_TENSORS, _CHUNKS, _CHUNK = {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}, 320, 65536


@dataclass
class Launch:
    """One kernel, or what PyTorch launches for one operation."""

    name: str
    kind: str  # aten, triton, cuda
    launches: int
    moved: int  # bytes
    convolution: bool  # or a matrix product, which is what eager PyTorch's 1x1 convolutions are elsewhere
    layouts: str = ""  # of its large images, where they are mixed


@dataclass
class Record:
    """Everything that was counted."""

    calls: list[Launch] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    peak: int = 0  # bytes alive at once

    def launches(self, kind: str | None = None) -> int:
        """How many kernels are launched, of one kind or in all."""
        return sum(call.launches for call in self.calls if kind in (None, call.kind))

    def moved(self, convolutions: bool) -> int:
        """Bytes that the convolutions move, or all else."""
        return sum(call.moved for call in self.calls if call.convolution == convolutions)

    @property
    def mixes(self) -> list[Launch]:
        """The calls that read or write large images in more than one layout."""
        return [call for call in self.calls if call.layouts]


class Recorder(TorchDispatchMode):
    """Counts what PyTorch does within; `note` takes the launches of others."""

    def __init__(self) -> None:
        super().__init__()
        self.record = Record()
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self._bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        self._look_for_waits(name, given, args, kwargs or {})
        out = _as_cudnn_lays_it(name, args, func(*args, **(kwargs or {})))
        made = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        self._keep(made)
        if (
            func.namespace != "prim"
            and not func.is_view
            and name not in _FREE
            and any(x.is_cuda for x in (*given, *made))
        ):
            launches = _LAUNCHES.get(name, 1)
            if name == "convolution_backward":
                launches = sum(1 for x in made)
            elif any(isinstance(x, (list, tuple)) and len(x) and isinstance(x[0], Tensor) for x in args):
                launches = _launches_of_lists(name, args)
            written = _written(func, args, kwargs or {})
            overwrites = name in _OVERWRITE or func._overloadname in _OUT
            read = [x for x in given if not any(x is y for y in written)] if overwrites else given
            tensors = [*_distinct([x for x in read if x.is_cuda]), *(written or made)]
            self._note(name, "aten", launches, tensors, name in _PRODUCTS)
        return out

    def note(self, name: str, kind: str, launches: int, tensors: Sequence[Tensor], convolution: bool = False) -> None:
        """Count the launch of a kernel that reads or writes each of these tensors once."""
        self._note(name, kind, launches, _distinct(tensors), convolution)

    def _note(self, name: str, kind: str, launches: int, tensors: Sequence[Tensor], convolution: bool) -> None:
        moved = sum(extent(tensor) for tensor in tensors)
        layouts = sorted({layout for tensor in tensors if (layout := layout_of(tensor))})
        mixed = " and ".join(layouts) if len(layouts) > 1 else ""
        self.record.calls.append(Launch(name, kind, launches, moved, convolution, mixed))

    def _look_for_waits(self, name: str, given: list[Tensor], args: Any, kwargs: dict[str, Any]) -> None:
        on_gpu = any(x.is_cuda for x in given)
        blocking = not kwargs.get("non_blocking")
        to, reason = kwargs.get("device"), None
        if name in _WAITS and on_gpu:
            reason = name
        elif name in ("index", "index_put", "index_put_", "_index_put_impl_") and on_gpu:
            if any(isinstance(x, Tensor) and x.dtype in (torch.bool, torch.uint8) for x in args[1]):
                reason = f"{name} by booleans"
        elif name == "_to_copy" and to is not None and blocking:
            reason = f"copy to {to}" if (torch.device(to).type == "cuda") != given[0].is_cuda else None
        elif name == "copy_" and given[0].is_cuda != given[1].is_cuda and given[1].ndim:
            reason = f"copy to {given[0].device}" if blocking and not args[2:] else None
        if reason:
            self.record.waits.append(reason)

    def _keep(self, made: list[Tensor]) -> None:
        for tensor in made:
            if not tensor.is_cuda:
                continue
            storage = tensor.untyped_storage()
            if storage._cdata not in self._alive or self._alive[storage._cdata][0].expired():
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
                self._bytes += storage.nbytes()
        if self._bytes > self.record.peak:  # what has died meanwhile is still in the sum
            self._alive = {key: kept for key, kept in self._alive.items() if not kept[0].expired()}
            self._bytes = sum(size for _, size in self._alive.values())
            self.record.peak = max(self.record.peak, self._bytes)


def _as_cudnn_lays_it(name: str, args: Any, out: Any) -> Any:
    """What a convolution returns has its channels last where its input or weight has; a fake one has not, as without a
    GPU there is no cuDNN to ask."""
    place = {"convolution": 0, "convolution_backward": 1}.get(name)
    if place is None or not args[place].is_cuda:
        return out
    if not any(x.is_contiguous(memory_format=torch.channels_last) for x in args[place : place + 2] if x.ndim == 4):
        return out

    def last(x: Any) -> Any:
        return x.contiguous(memory_format=torch.channels_last) if isinstance(x, Tensor) and x.ndim == 4 else x

    return last(out) if isinstance(out, Tensor) else tuple(map(last, out))


_OVERWRITE = {"copy_", "fill_", "zero_", "_foreach_zero_", "_foreach_copy_", "normal_", "uniform_"}
_OUT = {"out", "dtype_out"}  # overloads that write into what they are given and do not read it


def extent(tensor: Tensor) -> int:
    """Bytes of a tensor's distinct elements: what is broadcast by a stride of 0 lies in memory once."""
    sides = [size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or size == 0]
    return math.prod(sides) * tensor.element_size()


def layout_of(tensor: Tensor) -> str | None:
    """NCHW or NHWC, for an image or features of more than 1 MB whose layout tells; None of the rest."""
    if tensor.ndim != 4 or extent(tensor) < LARGE or min(tensor.shape[1], tensor.shape[2] * tensor.shape[3]) == 1:
        return None
    last, first = tensor.stride(1) == 1, tensor.stride(3) == 1
    return "NHWC" if last and not first else "NCHW" if first and not last else None


def _distinct(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of different elements: one and its transpose lie in the same bytes, whatever their axes are called."""
    found = {(x.untyped_storage()._cdata, x.storage_offset(), *_axes(x)): x for x in tensors}
    return list(found.values())


def _axes(x: Tensor) -> list[tuple[int, int]]:
    return sorted((stride, size) for size, stride in zip(x.shape, x.stride(), strict=True) if size != 1)


def _written(func: Any, args: Any, kwargs: dict[str, Any]) -> list[Tensor]:
    """The arguments that an operation writes into."""
    found: list[Tensor] = []
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            found.extend(x for x in tree_leaves(value) if isinstance(x, Tensor) and x.is_cuda)
    return found


def _launches_of_lists(name: str, args: Any) -> int:
    """Launches of an operation over lists of tensors."""
    lists = [x for x in args if isinstance(x, (list, tuple)) and len(x) and isinstance(x[0], Tensor)]
    if name in ("cat", "stack", "index", "index_put", "index_put_"):
        return 1
    most = _TENSORS[min(len(lists) + ("foreach" in name and not name.endswith("_") and "norm" not in name), 5)]
    launches = tensors = chunks = 0
    for size in _sizes(lists[0]):
        left = math.ceil(size / _CHUNK)
        tensors += 1
        while left:
            taken = min(left, _CHUNKS - chunks)
            left, chunks = left - taken, chunks + taken
            if chunks == _CHUNKS or (tensors == most and not left):
                launches, tensors, chunks = launches + 1, int(left > 0), 0
    return launches + (chunks > 0) + ("norm" in name)


def _sizes(tensors: Sequence[Tensor]) -> Iterator[int]:
    return (tensor.numel() for tensor in tensors if tensor.numel())
