"""The networks compute in bfloat16 where asked for; what they return, and what is trained, stays float32."""

from __future__ import annotations

import pytest
import torch
from tiny import TINY_NETWORKS

from rgsud_fast.assembly import build_networks
from rgsud_fast.config import Config
from rgsud_fast.precision import lowered, pick_precision
from rgsud_fast.stages import stage1

CPU = torch.device("cpu")


@pytest.fixture
def config():
    return Config(preset="small", network=TINY_NETWORKS)


def test_auto_is_float32_on_the_cpu():
    assert pick_precision("auto", CPU) == torch.float32
    assert pick_precision("bfloat16", CPU) == torch.bfloat16


def test_float32_changes_nothing(config):
    nets = build_networks(config, CPU)
    assert lowered(nets, torch.float32) is nets


def test_bfloat16_rounds_inside_and_trains_the_same_float32_weights(config):
    nets = build_networks(config, CPU)
    rainy, clean = torch.rand(2, 2, 3, 32, 32)
    exact, rounded = (
        stage1(nets, rainy, clean, config.loss),
        stage1(lowered(nets, torch.bfloat16), rainy, clean, config.loss),
    )
    assert not torch.equal(exact.terms["adversarial"], rounded.terms["adversarial"])
    torch.testing.assert_close(rounded.loss, exact.loss, rtol=0.02, atol=0.02)
    assert rounded.fakes.dtype == torch.float32
    rounded.loss.backward()
    for net in nets[:3]:
        assert all(p.dtype == p.grad.dtype == torch.float32 for p in net.parameters())
