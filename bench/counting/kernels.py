"""Launches of Triton and of `_C`, recorded in place of being done."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from triton.backends.compiler import GPUTarget
from triton.compiler import make_backend
from triton.runtime import driver
from triton.runtime.jit import JITFunction, create_function_from_signature

import rgsud_fast.ops._native as native

from .fake_gpu import STREAM
from .recorder import Recorder

CUDA_SOURCES = Path(__file__).resolve().parents[2] / "kernels" / "cuda"
# Triton's products; their bytes are counted with PyTorch's convolutions.
CONVOLUTIONS = {"conv_kernel", "correlate_kernel", "matrices_kernel"}


@dataclass(frozen=True)
class Specialisation:
    """One compilation of a Triton kernel, as its launches ask for it."""

    kernel: JITFunction
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[tuple[int, ...], Any], ...]
    aligned: tuple[tuple[int, ...], ...]  # arguments that are multiples of 16
    options: tuple[tuple[str, Any], ...]  # num_warps and the like

    @property
    def name(self) -> str:
        """The kernel and what tells its compilations apart."""
        dtypes = sorted({kind for _, kind in self.signature if kind.startswith("*")})
        return f"{self.kernel.fn.__name__} {' '.join(dtypes)} " + " ".join(str(value) for _, value in self.constants)


@contextlib.contextmanager
def recorded_kernels(recorder: Recorder, found: dict[Specialisation, int], capability: int = 90) -> Iterator[None]:
    """Let every launch be noted and none be done; `found` gets the Triton specialisations and their launches."""
    target = GPUTarget("cuda", capability, 32)
    backend = make_backend(target)
    binders: dict[JITFunction, Callable] = {}

    def launch(kernel: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        if kernel not in binders:
            binders[kernel] = create_function_from_signature(kernel.signature, kernel.params, backend)
        kwargs["debug"] = False
        bound, specialization, options = binders[kernel](*args, **kwargs)
        _, signature, constants, attrs = kernel._pack_args(backend, kwargs, bound, specialization, options)
        given = {key: value for key, value in kwargs.items() if key not in bound and key != "debug"}
        key = Specialisation(
            kernel,
            tuple(signature.items()),
            tuple(constants.items()),
            tuple(path for path, attributes in attrs.items() if attributes),
            tuple(sorted(given.items())),
        )
        found[key] = found.get(key, 0) + 1
        tensors = [value for value in bound.values() if isinstance(value, torch.Tensor)]
        for value in list(tensors):  # a table of addresses says whose they are
            tensors += getattr(value, "sources", [])
        name = f"{kernel.module.rpartition('.')[2]}.{kernel.fn.__name__}"
        recorder.note(name, "triton", 1, tensors, kernel.fn.__name__ in CONVOLUTIONS)

    active = SimpleNamespace(
        get_current_target=lambda: target, get_current_device=lambda: 0, get_current_stream=lambda device: STREAM
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(JITFunction, "run", launch))
        stack.enter_context(mock.patch.object(driver, "_active", active))
        _record_compiled(recorder, stack)
        yield


def _record_compiled(recorder: Recorder, stack: contextlib.ExitStack) -> None:
    """Let `_C`'s CUDA functions note the tensors whose addresses were asked for since the last one."""
    asked: list[torch.Tensor] = []
    counts = launches_of_sources()

    def address(tensor: torch.Tensor | None) -> int:
        if tensor is not None:
            asked.append(tensor)
        return 0

    class Compiled:
        def __getattr__(self, name: str) -> Any:
            real = getattr(native._C, name)
            if name not in counts:
                return real

            def note(*args: Any) -> None:
                recorder.note(name, "cuda", counts[name], [x for x in asked if x.is_cuda])
                asked.clear()

            return note

    compiled = Compiled()
    for module in pkgutil.iter_modules(native.__path__):
        loaded = importlib.import_module(f"{native.__name__}.{module.name}")
        for name, value in (("_C", compiled), ("address", address)):
            if hasattr(loaded, name):
                stack.enter_context(mock.patch.object(loaded, name, value))


def launches_of_sources() -> dict[str, int]:
    """How many kernels each launcher of kernels/cuda launches, by its name: at most, where branches differ."""
    counts = {}
    for source in sorted(CUDA_SOURCES.glob("*.cu")):
        for name, body in re.findall(r"^void (\w+_cuda)\((.*?)^}", source.read_text(), re.DOTALL | re.MULTILINE):
            counts[name] = body.count("<<<")
    return counts
