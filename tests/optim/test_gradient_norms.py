"""Gradient norms of loss terms are those of a backward pass of each alone, and measuring them changes nothing."""

from __future__ import annotations

import json

import pytest
import torch
from tiny import darkness, same_bits
from torch import nn

from rgsud_fast.config import LossConfig
from rgsud_fast.methods.rgsud import Networks, stage2, weighted_terms
from rgsud_fast.networks import Discriminator, NAFNet, RainGenerator, UNet
from rgsud_fast.optim.gradient_norms import gradient_norms
from rgsud_fast.runs.checkpoint import load_checkpoint
from rgsud_fast.training import train

EVERYTHING = LossConfig(pair=0.5, channel_consistency=10, background_guidance=2, self_reconstruction=1)
TRAINED = ("derainer", "unet", "generator")


@pytest.fixture
def nets():
    made = Networks(NAFNet(4, (1,), 1, (1,)), UNet(4, 2), RainGenerator(4, 1), Discriminator(4))
    for net in made:  # away from their near-identity start, so that every path carries a gradient
        for parameter in net.parameters():
            parameter.data.add_(0.05 * torch.randn_like(parameter))
    return made


def test_norms_are_those_of_one_backward_pass_per_weighted_term(nets):
    rainy, clean, reward = torch.rand(3, 2, 3, 32, 32)

    def terms():
        return stage2(nets, rainy, clean, reward, torch.tensor([True, False]), EVERYTHING).terms

    networks = {name: getattr(nets, name) for name in TRAINED}
    got = gradient_norms(weighted_terms(terms(), EVERYTHING), networks)
    assert all(parameter.grad is None for net in nets for parameter in net.parameters())
    expected = {}
    for term in ("adversarial", "pair", "channel_consistency", "background_guidance", "self_reconstruction", "reward"):
        for net in nets:
            net.zero_grad(set_to_none=True)
        parts = [value for name, value in terms().items() if name.startswith(term)]
        (getattr(EVERYTHING, term) * sum(parts)).backward()
        for name, net in networks.items():
            gradients = [parameter.grad.flatten() for parameter in net.parameters() if parameter.grad is not None]
            if gradients:
                expected[f"gradient_{term}_{name}"] = torch.cat(gradients).norm()
    assert got.keys() == expected.keys()
    assert {name for name in got if "derainer" in name} == {
        "gradient_adversarial_derainer", "gradient_pair_derainer", "gradient_reward_derainer"
    }  # fmt: skip
    for name, norm in expected.items():
        torch.testing.assert_close(got[name], norm, rtol=1e-5, atol=0)


def test_the_scale_of_the_reward_loss_is_seen_at_the_derainer(nets):
    rainy, clean, reward = torch.rand(3, 2, 3, 32, 32)
    found = {}
    for form in ("sum", "mean"):
        weights = LossConfig(reward_form=form)
        terms = stage2(nets, rainy, clean, reward, torch.tensor([True, True]), weights).terms
        found[form] = gradient_norms(weighted_terms(terms, weights), {"derainer": nets.derainer})
    assert found["sum"]["gradient_pair_derainer"] == found["mean"]["gradient_pair_derainer"]
    ratio = found["sum"]["gradient_reward_derainer"] / found["mean"]["gradient_reward_derainer"]
    assert ratio.item() == pytest.approx(3 * 32 * 32, rel=1e-4)


class Noisy(nn.Module):
    """A user's own derainer with running statistics and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Dropout(0.2))

    def forward(self, image):
        return image + self.layers(image)


def test_measuring_does_not_change_the_bits_of_training(config, tmp_path):
    states, rows = [], []
    for measured in (True, False):
        torch.manual_seed(0)
        given = config | {"log_gradients": measured, "out": str(tmp_path / str(measured))}
        run_dir = train(given, derainer=Noisy(), scorer=darkness, quiet=True).run_dir
        state = load_checkpoint(run_dir / "checkpoint.pt")
        states.append({name: state[name] for name in ("networks", "average", "optimizer", "discriminator_optimizer")})
        rows.append([json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()])
    assert same_bits(*states)
    lines = [row for row in rows[0] if row["event"] == "train"]
    assert all(row["gradient_adversarial_derainer"] > 0 and row["gradient_pair_derainer"] > 0 for row in lines)
    assert all(("gradient_reward_derainer" in row) == (row["stage"] == 2) for row in lines)
    assert not any(name.startswith("gradient_") for row in rows[1] for name in row)
