"""The choice of an op's implementation: the only place that decides.

A backend of an op is a module with `forward` and, where there is a gradient to compute, `backward`. The reference is
plain PyTorch, needs neither, and is what `auto` takes where no kernel can run.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
from types import ModuleType
from typing import cast

import torch

from ..errors import UserError

# Per op and device: the backends that have a kernel, the fastest first.
KERNELS: dict[str, dict[str, tuple[str, ...]]] = {
    "high_pass": {"cpu": ("native",), "cuda": ("native",)},
    "ssim": {"cpu": ("native",), "cuda": ("native",)},
    "derain_loss": {"cpu": ("native",), "cuda": ("native",)},
    "rain_residual": {"cpu": ("native", "triton"), "cuda": ("triton",)},
    "pool_update": {"cpu": ("native", "triton"), "cuda": ("triton",)},
    "nss_features": {"cpu": ("native",), "cuda": ("native",)},
    "clip_preprocess": {"cpu": ("native", "triton"), "cuda": ("triton",)},
    "reward_candidate": {"cpu": ("native",), "cuda": ("native",)},
    "take_crops": {"cpu": ("native", "triton"), "cuda": ("triton",)},
    "layernorm2d": {"cpu": ("native", "triton"), "cuda": ("triton",)},
    "conv_bias_lrelu": {"cpu": ("native", "triton"), "cuda": ("triton",)},  # and residual_block, made of it
    "instance_norm_lrelu": {"cpu": ("native", "triton"), "cuda": ("triton",)},
    "nafblock": {"cpu": ("native", "triton"), "cuda": ("triton",)},
    "gated_dconv": {"cpu": ("native", "triton"), "cuda": ("triton",)},
    "pixel_shuffle_skip": {"cpu": ("triton",), "cuda": ("triton",)},  # on the CPU PyTorch's own is as fast
}
COMPILED = cast(ModuleType, "compiled")  # a mark, compared by `is` and never entered
NAMES = ("auto", "native", "triton", "reference")
_PACKAGES = {"native": "rgsud_fast.ops._native", "triton": "rgsud_fast.kernels.triton"}

_resolved: dict[tuple[str, str, str], ModuleType | None] = {}  # what `choose` answered before
_chosen: str | None = None  # None until use_backend is called: then RGSUD_BACKEND, or auto


class use_backend:
    """Choose the implementation of every op, from here on or for one `with` block.

    Args:
        name: `auto` (the fastest that can run), `native` (C++ or CUDA), `triton` or `reference` (plain PyTorch).

    Raises:
        UserError: there is no such backend. One that exists but cannot run here is an error at the op's call.
    """

    def __init__(self, name: str) -> None:
        global _chosen
        self._before = _chosen
        _chosen = _check(name, "use_backend")

    def __enter__(self) -> use_backend:
        return self

    def __exit__(self, *exc: object) -> None:
        global _chosen
        _chosen = self._before


def choose(op: str, tensor: torch.Tensor) -> ModuleType | None:
    """The backend that computes `op` on this tensor's device.

    Returns:
        The backend's module; None for the reference; COMPILED where torch.compile traces and a kernel would run: the
        graph then holds the op of `_library`, which chooses again when it runs.

    Raises:
        UserError: the backend asked for has no kernel here; the message says what is missing.
    """
    key = op, tensor.device.type, requested_backend()
    if torch.compiler.is_compiling():
        return None if _name(*key) == "reference" else COMPILED
    if key not in _resolved:
        name = _name(*key)
        _resolved[key] = None if name == "reference" else importlib.import_module(f"{_PACKAGES[name]}.{op}")
    return _resolved[key]


def kernel(op: str, tensor: torch.Tensor) -> ModuleType:
    """The backend of a graph that was compiled with kernels, and cannot turn to the reference any more.

    Raises:
        UserError: the reference is chosen by now.
    """
    impl = choose(op, tensor)
    if impl is None:
        raise UserError(f"{op} was compiled with its kernels; call torch.compiler.reset() to run the reference")
    return impl


def requested_backend() -> str:
    """The backend named by `use_backend`, else by RGSUD_BACKEND, else `auto`."""
    return _chosen or _check(os.environ.get("RGSUD_BACKEND", "auto"), "RGSUD_BACKEND")


def why_not(op: str, backend: str, device: str) -> str | None:
    """What keeps a backend of an op from running on a device type, with the mend; None where it runs."""
    if backend == "reference":
        return None
    if backend not in KERNELS[op].get(device, ()):
        return f"{op} has no {backend} kernel for {device}"
    return _missing_native(device) if backend == "native" else _missing_triton(device)


def active_backend(op: str, device: str) -> str | None:
    """The backend that runs on a device type as things are set; None where the one asked for cannot."""
    asked = requested_backend()
    return None if asked != "auto" and why_not(op, asked, device) else _name(op, device, asked)


def _name(op: str, device: str, asked: str) -> str:
    if asked != "auto":
        if reason := why_not(op, asked, device):
            raise UserError(f"backend {asked}: {reason}")
        return asked
    for name in KERNELS[op].get(device, ()):
        if not why_not(op, name, device) and not _is_interpreted_only(name, device):
            return name
    return "reference"


def _check(name: str, source: str) -> str:
    if name not in NAMES:
        raise UserError(f"{source}: no backend {name!r}; there are {', '.join(NAMES)}")
    return name


def _is_interpreted_only(backend: str, device: str) -> bool:
    # Triton on the CPU is its interpreter: right, and about 0.5 ms per program instance.
    return backend == "triton" and device == "cpu"


def _missing_native(device: str) -> str | None:
    try:
        from .. import _C
    except ImportError as error:
        build = "run pip install -e . to build it (RGSUD_CUDA=0 in front: its CPU part alone)"
        return f"the compiled extension rgsud_fast._C does not import ({error}); {build}"
    if device == "cpu":
        return None
    built = _C.cuda_architectures()
    if not built:
        return "built without CUDA; install the CUDA toolkit, then RGSUD_CUDA=1 pip install -e ."
    major, minor = torch.cuda.get_device_capability()
    if 10 * major + minor < min(built):
        return f"the GPU is sm_{major}{minor}; built for {built}; RGSUD_CUDA_ARCHS={major}{minor} pip install -e ."
    return _old_driver(_C.build)


def _old_driver(build: str) -> str | None:
    """What to do where the driver is of an older CUDA than `build` names: its kernels would fail when launched."""
    toolkit = re.search(r"CUDA ((\d+)[\d.]*)", build)
    driver = _driver()
    if toolkit is None or driver is None or driver // 1000 >= int(toolkit[2]):
        return None
    return (
        f"the driver is of CUDA {driver // 1000}.{driver % 1000 // 10}, the kernels were built with {toolkit[1]}; "
        f"update the driver, or build with a toolkit of CUDA {driver // 1000}: CUDACXX=.../nvcc pip install -e ."
    )


def _driver() -> int | None:
    """The driver's CUDA: 12080 is 12.8. It runs every minor version of its major one. None: it does not say."""
    version = ctypes.c_int()
    try:
        failed = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1").cuDriverGetVersion(
            ctypes.byref(version)
        )
    except (OSError, AttributeError):
        return None
    return None if failed else version.value


def _missing_triton(device: str) -> str | None:
    try:
        import triton
    except ImportError as error:
        return f"triton does not import ({error}); pip install triton"
    if device == "cpu" and not triton.knobs.runtime.interpret:
        return "Triton runs on the CPU only interpreted; set TRITON_INTERPRET=1 before the start"
    return None
