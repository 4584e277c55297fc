"""NLCL: its step is the formula written out, and each term reaches the networks that it should."""

from __future__ import annotations

import pytest
import torch
from steps import L1_REWARDS, step_in_bfloat16
from test_non_local import brute_force

from rgsud_fast.config import Config
from rgsud_fast.data.sampler import draw_places
from rgsud_fast.errors import UserError
from rgsud_fast.methods import nlcl
from rgsud_fast.methods.build import build_networks

TINY = {"width": 4, "blocks": 3, "judge_width": 4, "projector": 8, "patch": 5, "reach": 6, "patches": 10}
TINY |= {"background_patches": 3, "rain_patches": 6, "pair": 3.0}
SIDE = 40


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_presets_have_the_published_and_the_small_numbers_of_parameters():
    numbers = {}
    for preset in ("paper", "small"):
        with torch.device("meta"):
            numbers[preset] = [count(net) for net in nlcl.build(Config(preset=preset, method="nlcl"))]
    assert numbers["paper"] == [316_195, 316_195, 371_200, 576_768, 576_768, 2_764_737]
    assert numbers["small"] == [33_363, 33_363, 20_992, 24_256, 24_256, 175_857]
    assert sum(numbers["small"][2:5]) == 69_504


@pytest.fixture
def setting():
    config = Config(preset="small", method="nlcl", nlcl=TINY, loss=L1_REWARDS, crop=SIDE, seed=3)
    nets = build_networks(config, torch.device("cpu"), None, nlcl)
    nets = type(nets)(*(net.double() for net in nets))
    for net in nets:  # away from their near-identity start, so that every path carries a gradient
        for parameter in net.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    names = ("rainy", "clean", "clean_reals", "rewards")
    inputs = {name: torch.rand(2, 3, SIDE, SIDE, dtype=torch.float64) for name in names}
    for name, (places, bounds) in nlcl.draws(config).items():
        inputs[name] = draw_places(0, 0, places, bounds)
    return config, nets, inputs | {"improved": torch.tensor([True, False])}


def without_rewards(inputs):
    return {name: images for name, images in inputs.items() if name not in ("rewards", "improved")}


def vectors_at(mlp, layer, places):
    """What a sampler's layer makes of one image's features, [C, h, w], at places of the whole image; of length 1."""
    _, height, width = layer.shape
    found = torch.stack([layer[:, p // SIDE * height // SIDE, p % SIDE * width // SIDE] for p in places])
    made = mlp(found)
    return made / (made.norm(dim=1, keepdim=True) + 1e-7)


def searched(image, corner, much):
    across = SIDE - 5 + 1
    return brute_force(image.detach().float(), int(corner) // across, int(corner) % across, 5, 6, much)


def nce(nets, x, y, corner):
    """PatchNCE at places found by brute force in the first layer of x, image by image and place by place."""
    keys, queries = nets.derainer.features(x), nets.derainer.features(y)
    parts = []
    for image in range(len(x)):
        places = searched(keys[0][image], corner, 10)
        for mlp, key, query in zip(nets.projector.layers, keys, queries, strict=True):
            k, q = vectors_at(mlp, key[image], places).detach(), vectors_at(mlp, query[image], places)
            parts += [torch.logsumexp(k @ q[i] / 0.07, 0) - k[i] @ q[i] / 0.07 for i in range(10)]
    return sum(parts) / len(parts)


def contrast(nets, background, rain, corners, layers=4):
    """The supervised contrast, vector by vector, at places found by brute force in the images themselves."""
    maps = nets.clean_judge.features(background), nets.clean_judge.features(rain + 0.5)
    parts = []
    for image in range(len(rain)):
        places = searched(background[image], corners[0], 3), searched(rain[image], corners[1], 6)
        for layer in range(layers):
            sides = zip((nets.background_projector, nets.rain_projector), maps, places, strict=True)
            v = torch.cat([vectors_at(p.layers[layer], m[layer][image], where) for p, m, where in sides])
            for i in range(9):
                others = [j for j in range(9) if j != i]
                whole = torch.logsumexp(torch.stack([v[i] @ v[j] / 0.07 for j in others]), 0)
                alike = [j for j in others if (j < 3) == (i < 3)]
                parts.append(sum(whole - v[i] @ v[j] / 0.07 for j in alike) / len(alike))
    return sum(parts) / len(parts)


def terms_of(nets, inputs):
    o, b, reward, corners = (inputs[name] for name in ("rainy", "clean", "rewards", "corners"))
    b_r, r = nets.derainer(o), nets.rain_separator(o)
    return {
        "adversarial": (nets.clean_judge(b_r) - 1).square().mean(),
        "sum": (b_r + r - o).square().mean(),
        "background": (b_r - o).abs().mean(),
        "contrast": nce(nets, o, b_r, corners[0]),
        "contrast_identity": nce(nets, b, nets.derainer(b), corners[1]),
        "layers": contrast(nets, b_r, r, corners[2:]),
        "pair": (nets.derainer((b + r).detach()) - b).abs().mean(),
        "reward": (b_r - reward)[0].abs().mean(),
        "switch": (r - (o - reward))[0].square().mean(),
    }


WEIGHTS = {"adversarial": 1, "sum": 4, "background": 0.2, "contrast": 0.5, "contrast_identity": 0.5, "layers": 1}
WEIGHTS["pair"] = 3
MORE = {"reward": 4, "switch": 4}


@pytest.mark.parametrize("stage", [1, 2])
def test_the_step_is_its_formula_term_by_term(setting, stage):
    config, nets, inputs = setting
    weights = WEIGHTS | (MORE if stage == 2 else {})
    got = nlcl.step(nets, stage, inputs if stage == 2 else without_rewards(inputs), config)
    wanted = terms_of(nets, inputs)
    assert got.terms.keys() == weights.keys()
    for name, term in got.terms.items():
        torch.testing.assert_close(term.double(), wanted[name], rtol=1e-4, atol=1e-6, msg=lambda text, n=name: n + text)
    torch.testing.assert_close(
        got.loss.double(), sum(weights[name] * wanted[name] for name in weights), rtol=1e-4, atol=0
    )
    torch.testing.assert_close(got.judged["clean_judge"].fake, nets.derainer(inputs["rainy"]))


@pytest.mark.parametrize("layers", [1, 5])
def test_the_judges_layers_that_count_are_a_field(setting, layers):
    _, _, inputs = setting
    config = Config(preset="small", method="nlcl", nlcl=TINY | {"judge_layers": layers}, crop=SIDE, seed=3)
    nets = nlcl.build(config)
    nets = type(nets)(*(net.double() for net in nets))
    background, rain = inputs["rainy"], inputs["clean"] - 0.5
    got = nlcl.layer_contrast(nets, background, rain, inputs["corners"][2:], config)
    wanted = contrast(nets, background, rain, inputs["corners"][2:], layers)
    torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=0)


def test_weights_of_the_paper_are_those_of_its_code_on_images_from_0_to_1():
    weights = Config(method="nlcl").nlcl
    assert (weights.adversarial, weights.contrast, weights.contrast_identity, weights.layers) == (1, 0.5, 0.5, 1)
    assert (weights.sum, weights.background, weights.pair) == (4 * 1, 2 * 0.1, 0)
    assert (weights.patches, weights.background_patches, weights.rain_patches, weights.judge_layers) == (256, 8, 128, 5)


BACKGROUND, RAIN = "derainer", "rain_separator"
REACHED = {
    "adversarial": {BACKGROUND},
    "sum": {BACKGROUND, RAIN},
    "background": {BACKGROUND},
    "contrast": {BACKGROUND, "projector"},
    "contrast_identity": {BACKGROUND, "projector"},
    "layers": {BACKGROUND, RAIN, "background_projector", "rain_projector"},
    "pair": {BACKGROUND},
    "reward": {BACKGROUND},
    "switch": {RAIN},
}


@pytest.mark.parametrize("name", REACHED)
def test_each_term_reaches_the_networks_that_it_should(setting, name):
    """So each sampler is stepped by gradients of its own."""
    config, nets, inputs = setting
    nets.clean_judge.requires_grad_(False)
    nlcl.step(nets, 2, inputs, config).terms[name].backward()
    for part, net in nets._asdict().items():
        weights = [parameter for parameter in net.parameters() if parameter.ndim > 1]
        if part in REACHED[name]:
            assert all(p.grad is not None and bool(p.grad.any()) for p in weights), part
        else:
            assert all(p.grad is None for p in weights), part


def test_keys_and_the_pseudo_pairs_input_are_detached(setting):
    config, nets, inputs = setting
    o, b = inputs["rainy"].requires_grad_(), inputs["clean"]
    nlcl.location_contrast(nets, o, b, inputs["corners"][0], config).backward()
    assert o.grad is None


def test_the_judge_learns_alone(setting):
    config, nets, inputs = setting
    judged = nlcl.step(nets, 1, without_rewards(inputs), config).judged
    loss = nlcl.judge(nets, judged, config)["clean_judge"]
    d, fake = nets.clean_judge, judged["clean_judge"].fake.detach()
    wanted = (d(inputs["clean_reals"]) - 1).square().mean() / 2 + d(fake).square().mean() / 2
    torch.testing.assert_close(loss.double(), wanted)
    loss.backward()
    assert all(p.grad is None for net in nets[:5] for p in net.parameters())


def test_terms_of_weight_0_are_not_computed(setting):
    _, nets, inputs = setting
    none = TINY | dict.fromkeys(("contrast", "contrast_identity", "layers", "pair", "switch"), 0.0)
    config = Config(preset="small", method="nlcl", nlcl=none, crop=SIDE)
    terms = nlcl.step(nets, 2, inputs, config).terms
    assert terms.keys() == {"adversarial", "sum", "background", "reward"}


def test_the_rain_layer_is_laid_on_other_scenes(setting):
    _, nets, inputs = setting
    painted = nlcl.paint(nets._asdict(), inputs["clean"], inputs["rainy"], inputs["rainy"])
    torch.testing.assert_close(painted, inputs["clean"] + nets.rain_separator(inputs["rainy"]))


def test_places_and_crops_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="within 4 pixels of a corner lie 25 places"):
        Config(preset="small", method="nlcl", nlcl={"reach": 4})
    config = Config(preset="small", method="nlcl", crop=32, nlcl={"patch": 16, "reach": 20})
    with pytest.raises(UserError, match="crop 32 holds no place within 20 pixels"):
        nlcl.build(config)


def test_it_trains_in_bfloat16(setting):
    config, nets, inputs = setting
    step_in_bfloat16(nlcl, nets, inputs, config)
    assert all(p.grad is not None for net in nets[:5] for p in net.parameters() if p.ndim > 1)
