"""Deep supervision: NeRD-Rain's coarser images learn from the clean image's means, in every form of the loop."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from tiny import PASTED, TINY_DERAINERS, darkness

from rgsud_fast.config import load_config, merge
from rgsud_fast.errors import UserError
from rgsud_fast.methods.build import build_networks
from rgsud_fast.methods.deep import deep_terms, derain_scales
from rgsud_fast.methods.pasting import Pasted, pasted_terms
from rgsud_fast.ops.derain_loss import FLOOR
from rgsud_fast.training import train

DEEP = {"crop": 44, "loss": {"deep": 0.5}, "network": {"derainer": "nerd_rain", **TINY_DERAINERS["nerd_rain"]}}


def test_scales_are_held_against_means_of_the_clean_image():
    config = load_config(DEEP | {"network": DEEP["network"]})
    network = build_networks(config, torch.device("cpu")).derainer
    torch.nn.init.normal_(network.output_mid.weight, std=0.1)
    a, b, clean = (torch.rand(2, 3, 46, 51) for _ in range(3))
    (first, second), coarse = derain_scales(network, config.loss, a, b)
    assert torch.equal(first, network(torch.cat([a, b]))[:2]) and second.shape == b.shape
    half, quarter = (scale[2:] for scale in network(torch.cat([a, b]), True)[1:])
    wanted = {"deep_psnr": 0.0, "deep_ssim": 0.0}
    for made, side in ((half[..., :23, :25], 2), (quarter[..., :11, :12], 4)):
        terms = pasted_terms(made, Pasted(made, F.avg_pool2d(clean, side)), 1e-4)
        wanted = {name: value + terms[name.replace("deep", "pasted")] for name, value in wanted.items()}
    torch.testing.assert_close(deep_terms(coarse, {1: (clean, 1e-4)}), wanted)
    assert deep_terms([], {1: (clean, FLOOR)}) == {}


def test_without_its_weight_the_derainer_is_asked_as_before():
    config = load_config(merge(DEEP, {"loss": {"deep": 0.0}}))
    images, coarse = derain_scales(
        lambda image: 2 * image, config.loss, torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    )
    assert coarse == [] and [float(image.mean()) for image in images] == [2.0, 0.0]


@pytest.mark.parametrize("form", PASTED)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_all_weights_learn_in_every_form_of_the_loop(config, form, precision):
    fields = merge(merge(config, PASTED[form]), DEEP) | {"precision": precision}
    before = build_networks(load_config(fields), torch.device("cpu")).derainer.state_dict()
    result = train(fields, scorer=darkness, quiet=True)
    lines = [row for row in map(json.loads, (result.run_dir / "metrics.jsonl").open()) if row["event"] == "train"]
    assert {row["stage"] for row in lines} == {1, 2}
    assert all({"deep_psnr", "deep_ssim"} <= row.keys() for row in lines)
    from rgsud_fast.networks.weights import load_network

    after = load_network(result.weights, "derainer").state_dict()
    for name in ("output_small.weight", "output_mid.weight", "output_max.weight"):
        assert not torch.equal(before[name], after[name]), name


def test_what_has_one_scale_is_refused_and_so_are_small_crops():
    with pytest.raises(UserError, match=r"loss\.deep: NAFNet has one scale; give network\.derainer nerd_rain"):
        build_networks(load_config({"preset": "small", "loss": {"deep": 1.0}}), torch.device("cpu"))
    with pytest.raises(UserError, match=r"loss\.deep needs a crop of 44 pixels at least, got 40"):
        build_networks(load_config(DEEP | {"crop": 40}), torch.device("cpu"))
