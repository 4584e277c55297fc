"""A whole tiny toolbox, and the photographs that it is made of."""

import pytest
import torch
from boxes import TINY_BOX, write_scenes

from rgsud_fast.toolchain.train import train


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    torch.set_num_threads(1)
    return write_scenes(tmp_path_factory.mktemp("scenes") / "clean")


@pytest.fixture(scope="module")
def box(scenes, tmp_path_factory):
    """A whole toolbox, never interrupted."""
    path = tmp_path_factory.mktemp("boxes") / "whole"
    train(scenes, path, config=TINY_BOX, quiet=True)
    return path
