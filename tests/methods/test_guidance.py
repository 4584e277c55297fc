"""What a score with a map adds to stage 2: nothing by default, else a gradient that reaches the derainer alone."""

from __future__ import annotations

import torch
from test_rgsud import gradients, images, nets  # noqa: F401 (fixtures)

from rgsud_fast.config import LossConfig
from rgsud_fast.methods.guidance import Guidance
from rgsud_fast.methods.rgsud import stage2, without_generator

BOTH = torch.tensor([True, True])
GRADIENT = LossConfig(reward_gradient=0.01)


def brightness(derained, rainy):
    return derained.mean((1, 2, 3))


def test_by_default_nothing_is_added(nets, images):  # noqa: F811
    plain = stage2(nets, *images, BOTH, LossConfig())
    offered = stage2(nets, *images, BOTH, LossConfig(), guidance=Guidance(score=brightness))
    assert plain.terms.keys() == offered.terms.keys() and torch.equal(plain.loss, offered.loss)
    without = stage2(nets, *images, BOTH, GRADIENT)  # as in the stage whose score has no network
    assert "reward_gradient" not in without.terms


def test_the_rewards_gradient_reaches_the_derainer_alone(nets, images):  # noqa: F811
    step = stage2(nets, *images, BOTH, GRADIENT, guidance=Guidance(score=brightness))
    derainer, *others = gradients(nets, step.terms["reward_gradient"])
    assert all(derainer) and not any(map(any, others))
    rest = {name: term for name, term in step.terms.items() if name != "reward_gradient"}
    plain = stage2(nets, *images, BOTH, LossConfig())
    assert all(torch.equal(rest[name], plain.terms[name]) for name in plain.terms)
    torch.testing.assert_close(step.loss, plain.loss + 0.01 * step.terms["reward_gradient"])


def test_a_coarse_stage_and_a_spoiled_reward_weigh_less(nets, images):  # noqa: F811
    whole = stage2(nets, *images, BOTH, LossConfig()).terms["reward"]
    scaled = stage2(nets, *images, BOTH, LossConfig(), guidance=Guidance(scale=0.4)).terms["reward"]
    torch.testing.assert_close(scaled, 0.4 * whole)
    spoiled = torch.zeros(2, 1, 32, 32)
    spoiled[..., :16] = 1
    masked = stage2(nets, *images, BOTH, LossConfig(), guidance=Guidance(spoiled=spoiled)).terms["reward"]
    assert not torch.equal(masked, whole)


def test_without_a_generator_as_well(nets, images):  # noqa: F811
    rainy, _, reward = images
    weights = LossConfig(adversarial=0, pair=0, pasted=1, reward=0, reward_gradient=0.01)
    step = without_generator(nets, weights, None, rainy, reward, BOTH, guidance=Guidance(score=brightness))
    assert list(step.terms) == ["reward_gradient"]
