"""The limits of the machine: a copy, and matrix products. And the CPU threads of every measurement."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
THREADS = int(os.environ.get("RGSUD_THREADS", "2"))
CACHES = 3  # times the second-level cache that the inputs of a benchmark fill, so that they are not read there
# Dense, as data sheets give them: operations a second of bfloat16, TF32 and float32, and bytes a second.
PEAKS = {
    "H200": (989e12, 495e12, 67e12, 4.8e12),
    "H100": (989e12, 495e12, 67e12, 3.35e12),
    "A100": (312e12, 156e12, 19.5e12, 2.0e12),
    "L40S": (362e12, 183e12, 91.6e12, 0.864e12),
    "RTX 4090": (165e12, 82.6e12, 82.6e12, 1.008e12),
    "RTX 3090": (71e12, 35.6e12, 35.6e12, 0.936e12),
}


def measure_limits() -> dict[str, float]:
    """`copy` in bytes per second; operations per second of a matrix product under the name of each dtype.

    On a GPU `float32` is IEEE's, and `tf32` what PyTorch may round it to.
    """
    limits = {"copy": copy_rate(), "float32": product_rate(torch.float32)}
    if DEVICE == "cuda":
        limits |= {"tf32": product_rate(torch.float32, tf32=True), "bfloat16": product_rate(torch.bfloat16)}
    return limits


def peaks() -> dict[str, float]:
    """What the GPU's data sheet promises, under the names of `measure_limits`; empty where it is not known."""
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else ""
    found = next((rates for known, rates in PEAKS.items() if known in name), None)
    return dict(zip(("bfloat16", "tf32", "float32", "copy"), found, strict=True)) if found else {}


def copy_rate() -> float:
    """Bytes per second, read and written, of a copy that fits no cache."""
    source = torch.zeros(64 << 20, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best(lambda: target.copy_(source))


def product_rate(dtype: torch.dtype, tf32: bool = False) -> float:
    """Floating-point operations per second of a square matrix product of random numbers.

    Of ones it would look faster: bits that do not change take no power, and the clock stays higher.
    """
    size = 1024 if DEVICE == "cpu" else 8192
    a, b = (torch.randn(size, size, device=DEVICE).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    with tf32_allowed(tf32):
        return 2 * size**3 / _best(lambda: torch.mm(a, b, out=out))


@contextlib.contextmanager
def tf32_allowed(allowed: bool) -> Iterator[None]:
    """Let products and convolutions of float32 be rounded to TF32, or not."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def copies_beyond_the_cache(bytes_of_one: int) -> int:
    """How many copies of its inputs a benchmark goes round in: on a GPU so many that none is still in its cache."""
    if DEVICE == "cpu":
        return 1
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return max(1, -(-CACHES * cache // max(bytes_of_one, 1)))


def _best(run: Callable[[], object]) -> float:
    from timing import seconds  # which needs DEVICE

    return min(seconds(run, rounds=10))
