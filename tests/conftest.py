"""Every test strict: fixed seed, deterministic algorithms, fresh memory filled with NaN, one thread."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY_RUN

# Before the package or triton is imported: without a GPU, Triton's kernels run in its interpreter.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def _strict():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)  # tiny tensors gain nothing from a second thread, and lose 10x on busy cores
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True, scope="session")
def _floats_of_launches():
    """The interpreter takes a float argument of a kernel as it is; a compiled kernel gets it as float32."""
    try:
        from triton.runtime import interpreter
    except ImportError:
        yield
        return
    plain = interpreter._implicit_cvt
    interpreter._implicit_cvt = lambda arg: float(np.float32(arg)) if type(arg) is float else plain(arg)
    yield
    interpreter._implicit_cvt = plain


@pytest.fixture
def config(tmp_path):
    """A tiny run on images of noise, as a dict of its fields."""
    generator = np.random.default_rng(0)
    folders = {"rainy": (3, (40, 50)), "clean": (2, (48, 36)), "val_rainy": (1, (36, 44)), "val_clean": (1, (36, 44))}
    for name, (count, size) in folders.items():
        (tmp_path / name).mkdir()
        for i in range(count):
            pixels = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    return TINY_RUN | {"data": {name: str(tmp_path / name) for name in folders}, "out": str(tmp_path / "run")}


@pytest.fixture
def photos(tmp_path) -> Path:
    """A folder of five images of noise."""
    from tars import write_photos

    return write_photos(tmp_path / "photos")


@pytest.fixture
def pattern(photos, tmp_path) -> str:
    """The same images in tar shards."""
    from tars import write_shards

    return write_shards(photos, tmp_path / "shards")


@pytest.fixture
def opened(tmp_path):
    """Open shards with a cache of their indices."""
    from rgsud_fast.data.shard_set import ShardSet

    return lambda pattern, gib=1.0: ShardSet.open(pattern, tmp_path / "indices", gib)


@pytest.fixture(scope="session")
def rgsud_data() -> Path:
    """The folder of real images, where there is one."""
    folder = os.environ.get("RGSUD_DATA")
    if not folder:
        pytest.skip("RGSUD_DATA names no folder of real images")
    return Path(folder)


def pytest_report_header() -> str:
    """Say whose tests these are: the clone's package, or one that is installed."""
    import rgsud_fast

    return f"rgsud_fast: {Path(rgsud_fast.__file__).parent}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none, and say so."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU; the kernels are compiled by test_build.py"))
