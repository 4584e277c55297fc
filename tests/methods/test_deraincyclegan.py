"""DerainCycleGAN: its step is the formula written out, and each term reaches the networks that it should."""

from __future__ import annotations

import pytest
import torch
from steps import L1_REWARDS, assert_terms, step_in_bfloat16

from rgsud_fast.config import Config
from rgsud_fast.errors import UserError
from rgsud_fast.methods import deraincyclegan
from rgsud_fast.methods.build import build_networks

TINY = {"width": 4, "around": 0, "dilations": [2], "detector_width": 4, "steps": 2, "blocks": 1, "judge_width": 4}


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_presets_have_the_published_and_the_small_numbers_of_parameters():
    numbers = {}
    for preset in ("paper", "small"):
        with torch.device("meta"):
            numbers[preset] = [
                count(net) for net in deraincyclegan.build(Config(preset=preset, method="deraincyclegan"))
            ]
    assert numbers["paper"] == [167_809 + 6_066_179, 6_066_179, 8_271_171, 8_271_171]
    assert numbers["small"] == [7_345 + 54_835, 54_835, 175_857, 175_857]


@pytest.fixture(params=[0, 2], ids=["one scale", "two scales"])
def setting(request):
    weights = TINY | {"scales": request.param, "rainy_mask": 3.0, "switch": 7.0}
    config = Config(preset="small", method="deraincyclegan", deraincyclegan=weights, loss=L1_REWARDS, seed=3)
    nets = build_networks(config, torch.device("cpu"), None, deraincyclegan)
    nets = type(nets)(*(net.double() for net in nets))
    for net in nets:  # away from their near-identity start, so that every path carries a gradient
        for parameter in net.parameters():
            parameter.data.add_(0.05 * torch.randn_like(parameter))
    names = ("rainy", "clean", "reals", "clean_reals", "rewards")
    inputs = {name: torch.rand(2, 3, 40, 40, dtype=torch.float64) for name in names}
    return config, nets, inputs | {"improved": torch.tensor([True, False])}


def without_rewards(inputs):
    return {name: images for name, images in inputs.items() if name not in ("rewards", "improved")}


def terms_of(nets, inputs):
    """The published formula, and those of the switch, by the names of the terms."""
    o, b, reward = inputs["rainy"], inputs["clean"], inputs["rewards"]
    m, (derainer, f, d_c, d_r) = nets.derainer.detector, nets

    def g(x):
        return derainer.translator(torch.cat([x, m(x)], 1))

    b_r, o_u = g(o), f(torch.cat([b, m(b)], 1))
    back, forth = f(torch.cat([b_r, m(b_r)], 1)), g(o_u)
    sums = torch.cat([m(o)] * 3, 1) + b_r - o
    wetted = f(torch.cat([reward, m(o)], 1))
    return {
        "adversarial": (d_r(o_u) - 1).square().mean() + (d_c(b_r) - 1).square().mean(),
        "cycle": (back - o).abs().mean() + (forth - b).abs().mean(),
        "clean_mask": m(b).square().mean(),
        "layer": sums.square().mean(),
        "rainy_mask": (m(o) - 0.25).square().mean(),
        "reward": (b_r - reward)[0].abs().mean(),
        "switch": (wetted - o)[0].abs().mean(),
        "switch_mask": (m(o)[0] - (o - reward)[0].mean(0)).square().mean(),
    }


WEIGHTS = {"adversarial": 1, "cycle": 4, "clean_mask": 40, "layer": 40, "rainy_mask": 3}
MORE = {"reward": 4, "switch": 7, "switch_mask": 40}


@pytest.mark.parametrize("stage", [1, 2])
def test_the_step_is_its_formula_term_by_term(setting, stage):
    config, nets, inputs = setting
    weights = WEIGHTS | (MORE if stage == 2 else {})
    got = deraincyclegan.step(nets, stage, inputs if stage == 2 else without_rewards(inputs), config)
    wanted = terms_of(nets, inputs)
    assert_terms(got, {name: wanted[name] for name in weights})
    torch.testing.assert_close(got.loss.double(), sum(weights[name] * wanted[name] for name in weights))
    torch.testing.assert_close(got.judged["clean_judge"].fake, nets.derainer(inputs["rainy"]))
    mask = nets.derainer.mask(inputs["clean"])
    torch.testing.assert_close(got.judged["rainy_judge"].fake, nets.painter(torch.cat([inputs["clean"], mask], 1)))


def test_weights_of_the_paper_are_those_of_its_code_on_images_from_0_to_1():
    weights = Config(method="deraincyclegan").deraincyclegan
    assert (weights.adversarial, weights.cycle) == (1, 2 * 10)
    assert (weights.clean_mask, weights.layer, weights.rainy_mask) == (4 * 10, 4 * 10, 0)


REACHED = {  # detector, translator of the derainer, painter
    "adversarial": (True, True, True),
    "cycle": (True, True, True),
    "clean_mask": (True, False, False),
    "layer": (True, True, False),
    "rainy_mask": (True, False, False),
    "reward": (True, True, False),
    "switch": (True, False, True),
    "switch_mask": (True, False, False),
}


@pytest.mark.parametrize("name", REACHED)
def test_each_term_reaches_the_networks_that_it_should(setting, name):
    config, nets, inputs = setting
    for judge in nets[2:]:
        judge.requires_grad_(False)
    deraincyclegan.step(nets, 2, inputs, config).terms[name].backward()
    parts = nets.derainer.detector, nets.derainer.translator, nets.painter
    reached = [all(p.grad is not None and bool(p.grad.any()) for p in part.parameters()) for part in parts]
    touched = [any(p.grad is not None for p in part.parameters()) for part in parts]
    assert tuple(touched) == REACHED[name] and reached == touched


def test_both_cycles_reach_the_detector(setting):
    """There and back, each by two masks, of what is real and of what was made."""
    config, nets, inputs = setting
    calls = []
    nets.derainer.detector.register_forward_hook(lambda module, given, mask: calls.append(mask.retain_grad() or mask))
    deraincyclegan.step(nets, 1, without_rewards(inputs), config).terms["cycle"].backward()
    assert len(calls) == 4 and all(bool(mask.grad.any()) for mask in calls)


def test_judges_learn_alone_from_their_domains_at_every_scale(setting):
    config, nets, inputs = setting
    judged = deraincyclegan.step(nets, 1, without_rewards(inputs), config).judged
    losses = deraincyclegan.judge(nets, judged, config)
    for name, real in (("clean_judge", "clean_reals"), ("rainy_judge", "reals")):
        network, fake = getattr(nets, name), judged[name].fake.detach()
        several = config.deraincyclegan.scales > 0
        pairs = zip(network.features(inputs[real]), network.features(fake), strict=True)
        each = [(a - 1).square().mean() / 2 + b.square().mean() / 2 for a, b in pairs] if several else []
        one = (network(inputs[real]) - 1).square().mean() / 2 + network(fake).square().mean() / 2
        torch.testing.assert_close(losses[name].double(), sum(each) / len(each) if several else one)
    sum(losses.values()).backward()
    assert all(p.grad is None for net in nets[:2] for p in net.parameters())
    assert all(p.grad is not None for net in nets[2:] for p in net.parameters())


def test_grey_rain_that_is_found_and_taken_away_costs_nothing(setting):
    config, nets, inputs = setting

    class Knowing(torch.nn.Module):
        def features(self, image):
            return [image - rain, rain]

        def mask(self, image):
            return torch.zeros_like(image[:, :1])

        def forward(self, image):
            return image

    rain = torch.rand(2, 1, 40, 40, dtype=torch.float64)
    terms = deraincyclegan.step(nets._replace(derainer=Knowing()), 1, without_rewards(inputs), config).terms
    assert terms["layer"].item() < 1e-30 and terms["clean_mask"] == 0


def test_terms_of_weight_0_are_not_computed(setting):
    _, nets, inputs = setting
    none = TINY | {"scales": 2, "switch": 0.0, "switch_mask": 0.0}
    config = Config(preset="small", method="deraincyclegan", deraincyclegan=none)
    assert deraincyclegan.step(nets, 2, inputs, config).terms.keys() == {*WEIGHTS, "reward"} - {"rainy_mask"}


def test_rain_is_painted_by_the_mask_of_the_rainy_image(setting):
    _, nets, inputs = setting
    rainy, clean = inputs["rainy"], inputs["clean"]
    wanted = nets.painter(torch.cat([clean, nets.derainer.detector(rainy)], 1))
    painted = deraincyclegan.paint(nets._asdict(), clean, rainy, torch.full_like(rainy, torch.nan))
    torch.testing.assert_close(painted, wanted)


def test_crops_that_the_judges_cannot_halve_are_refused():
    config = Config(preset="small", method="deraincyclegan", crop=48, deraincyclegan={"scales": 3})
    with pytest.raises(UserError, match="crop 48 is too small for judges of 3 scales: give a crop of 61"):
        deraincyclegan.build(config)


def test_it_trains_in_bfloat16(setting):
    config, nets, inputs = setting
    low, step = step_in_bfloat16(deraincyclegan, nets, inputs, config)
    assert all(p.grad is not None for p in nets.derainer.parameters())
    assert all(loss.dtype == torch.float32 for loss in deraincyclegan.judge(low, step.judged, config).values())
