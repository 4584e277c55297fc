"""Memory of derain: a photograph of 24 megapixels with the paper's network stays under 3 GiB, all told."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from rgsud_fast.networks import NAFNet
from rgsud_fast.networks.derainers.nafnet import NAFBlock
from rgsud_fast.networks.weights import save_network

PAPER = 29_159_715  # parameters
DERAIN = """
import resource, sys
import torch
import rgsud_fast

torch.set_num_threads(2)
rgsud_fast.derain(sys.argv[1], sys.argv[2], sys.argv[3], device="cpu")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # KiB
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read as Linux tells it")
def test_24_megapixels_by_the_papers_network_stay_under_3_gib(tmp_path):
    """One block a level where the paper has up to twelve: what a block needs is free for the next, but its weights."""
    network = NAFNet(32, [1, 1, 1, 1], 1, [1, 1, 1, 1])
    for block in network.modules():
        if isinstance(block, NAFBlock):  # a fresh block passes its input on
            torch.nn.init.normal_(block.beta, std=0.1)
            torch.nn.init.normal_(block.gamma, std=0.1)
    save_network(tmp_path / "derainer.safetensors", network, "derainer")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((6000, 4000)).save(tmp_path / "in.png", compress_level=1)
    paths = [str(tmp_path / name) for name in ("derainer.safetensors", "in.png", "out.png")]
    done = subprocess.run([sys.executable, "-c", DERAIN, *paths], capture_output=True, text=True, check=True)
    with Image.open(tmp_path / "out.png") as derained:
        assert derained.size == (6000, 4000)
    other_weights = 4 * (PAPER - sum(parameter.numel() for parameter in network.parameters()))
    assert int(done.stdout) * 1024 + other_weights < 3 * 2**30
