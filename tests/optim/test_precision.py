"""The policy of `precision`, a test per statement: what computes in bfloat16, and what stays float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import TINY_NETWORKS, darkness
from torch import nn

from rgsud_fast.config import Config
from rgsud_fast.data import Domains, FolderSet, Pair
from rgsud_fast.iqa import make_scorer
from rgsud_fast.methods.build import build_networks
from rgsud_fast.methods.rgsud import Networks, stage1
from rgsud_fast.ops import instance_norm_lrelu, layernorm2d
from rgsud_fast.optim.precision import in_precision, pick_precision
from rgsud_fast.training.trainer import Trainer
from rgsud_fast.training.validation import validate

CPU = torch.device("cpu")


@pytest.fixture
def config():
    return Config(preset="small-gan", network=TINY_NETWORKS)


def test_auto_is_float32_on_the_cpu():
    assert pick_precision("auto", CPU) == torch.float32
    assert pick_precision("bfloat16", CPU) == torch.bfloat16


@pytest.mark.parametrize("capability, dtype", [((8, 0), torch.bfloat16), ((7, 5), torch.float32)])
def test_auto_is_bfloat16_on_a_gpu_that_has_it(capability, dtype, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert pick_precision("auto", torch.device("cuda", 0)) == dtype


def test_float32_changes_nothing(config):
    for net in build_networks(config, CPU):
        assert in_precision(net, torch.float32) is net


def test_bfloat16_rounds_inside_and_trains_the_same_float32_weights(config):
    nets = build_networks(config, CPU)
    rainy, clean = torch.rand(2, 2, 3, 32, 32)
    exact, rounded = (
        stage1(nets, rainy, clean, config.loss),
        stage1(Networks(*(in_precision(net, torch.bfloat16) for net in nets)), rainy, clean, config.loss),
    )
    assert not torch.equal(exact.terms["adversarial"], rounded.terms["adversarial"])
    torch.testing.assert_close(rounded.loss, exact.loss, rtol=0.02, atol=0.02)
    assert rounded.fakes.dtype == torch.float32
    rounded.loss.backward()
    for net in nets[:3]:
        assert all(p.dtype == p.grad.dtype == torch.float32 for p in net.parameters())


class Recording(nn.Module):
    """A derainer that notes what its convolution computes in."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)
        self.seen: set[torch.dtype] = set()

    def forward(self, image):
        out = self.layer(image)
        self.seen.add(out.dtype)
        return image + out


def trainer_of(derainer: nn.Module | None = None) -> Trainer:
    images = FolderSet.from_arrays(["a"], [np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)])
    optim = {"discriminator_warmup": 1, "ema_decay": 0.9}
    config = Config(
        preset="small-gan",
        batch=2,
        crop=32,
        stage1_iterations=1,
        precision="bfloat16",
        network=TINY_NETWORKS,
        optim=optim,
    )
    return Trainer(config, Domains(images, images), make_scorer(darkness, images, images), CPU, derainer)


def floats(value) -> set[torch.dtype]:
    """Types of all floating-point tensors in a nest of dicts and lists."""
    if isinstance(value, torch.Tensor):
        return {value.dtype} if value.is_floating_point() else set()
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return set().union(*map(floats, parts))


def test_losses_norms_and_all_that_is_kept_are_float32():
    trainer = trainer_of()
    done = trainer.iterate()
    assert floats([done.loss, done.terms, done.term_gradients]) == {torch.float32}
    assert {f"norm_{name}" for name in ("derainer", "unet", "generator", "discriminator")} <= done.terms.keys()
    state = trainer.state_dict()
    for kept in ("networks", "average", "optimizer", "discriminator_optimizer"):
        assert floats(state[kept]) == {torch.float32}, kept


def test_training_alone_computes_in_bfloat16():
    own = Recording()
    trainer = trainer_of(own)
    own.seen.clear()  # what building it has tried
    trainer.iterate()
    assert own.seen == {torch.bfloat16}
    shown = trainer.derainer
    shown.seen.clear()
    trainer.sweep()
    rainy = np.zeros((32, 32, 3), dtype=np.uint8)
    validate(shown, [Pair("a", rainy, rainy)], CPU)
    assert shown.seen == {torch.float32}


@pytest.mark.parametrize("dim", [1, (2, 3)], ids=["layernorm2d", "instance_norm_lrelu"])
def test_statistics_of_normalisations_are_float32(dim):
    x = (20 + torch.randn(2, 16, 24, 24)).bfloat16()  # whose mean bfloat16 rounds by up to 1 / 16
    with torch.autocast("cpu", torch.bfloat16):
        got = layernorm2d(x, torch.ones(16), torch.zeros(16)) if dim == 1 else instance_norm_lrelu(x)
    wide = x.double()
    expected = (wide - wide.mean(dim, keepdim=True)) / wide.std(dim, correction=0, keepdim=True)
    expected = expected if dim == 1 else F.leaky_relu(expected, 0.2)
    torch.testing.assert_close(got.double(), expected, rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize("name", ["derainer", "unet", "generator"])
def test_the_addition_of_the_input_is_not_rounded(config, name):
    nets = build_networks(config, CPU)
    last = getattr(nets, name).last
    nn.init.zeros_(last.weight), nn.init.zeros_(last.bias)
    image = torch.rand(1, 3, 32, 32)
    given = torch.cat([image, torch.zeros_like(image)], 1) if name == "generator" else image
    assert torch.equal(in_precision(getattr(nets, name), torch.bfloat16)(given), image)


def test_bfloat16_needs_no_scaling_of_losses():
    wide, narrow = torch.finfo(torch.float32), torch.finfo(torch.bfloat16)
    assert narrow.smallest_normal == wide.smallest_normal
    assert narrow.max > 0.99 * wide.max
