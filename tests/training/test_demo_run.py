"""The embedded demo, trained for a few iterations: it ends in figures and in a gallery with images."""

from __future__ import annotations

import json
import re

from tiny import TINY_NETWORKS

from rgsud_fast.training import train

TINY = {
    "preset": "demo",
    "batch": 2,
    "crop": 32,
    "device": "cpu",
    "threads": 1,
    "stage1_iterations": 2,
    "stage2_iterations": 2,
    "network": TINY_NETWORKS,
    "reward": {"sweep_start": 1.0},
}


def test_the_demo_trains_both_stages_and_shows_them(tmp_path):
    def darkness(images):
        return -images.mean(dim=(1, 2, 3))

    result = train(TINY | {"out": str(tmp_path / "run")}, scorer=darkness, quiet=True)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics == result.metrics
    assert {"psnr_rgb", "filter_psnr_rgb", "input_psnr_rgb", "stage1_psnr_rgb"} <= metrics.keys()
    assert metrics["steps"] == 4
    page = (tmp_path / "run" / "gallery.html").read_text()
    images = re.findall(r"data:image/jpeg;base64,[A-Za-z0-9+/=]{200,}", page)
    assert len(images) >= 2 * 3 + 3 * 8  # both sides of three validation images, three panels of eight training images
    assert len(set(images)) > len(images) / 2
