"""DCD-GAN: its step is the formula written out, terms reach the networks that they should, projectors learn apart."""

from __future__ import annotations

import pytest
import torch
from steps import L1_REWARDS, assert_terms
from tiny import darkness

from rgsud_fast.config import Config
from rgsud_fast.data import Domains, FolderSet
from rgsud_fast.data.sampler import draw_places
from rgsud_fast.errors import UserError
from rgsud_fast.iqa import make_scorer
from rgsud_fast.methods import cyclegan, dcdgan, losses
from rgsud_fast.methods.build import build_networks
from rgsud_fast.methods.translation import feature_channels
from rgsud_fast.networks import NAFNet
from rgsud_fast.networks.projector import Projector
from rgsud_fast.ops import use_backend
from rgsud_fast.training.trainer import Trainer

TINY = {"width": 4, "blocks": 2, "judge_width": 4, "projector": 8, "patches": 8}
UNUSED = {"cycle": 0.7, "unpaired": 0.3, "frequency": 1e-4}
WEIGHTS = {"adversarial": 0.5, "contrast": 1, "identity": 10, "switch": 4, "reward": 4, **UNUSED}


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_networks_have_the_published_numbers_of_parameters():
    with torch.device("meta"):
        nets = dcdgan.build(Config(method="dcdgan"))
        assert [count(net) for net in nets] == [11_378_179] * 2 + [493_568] * 2 + [2_764_737] * 2
        nets = dcdgan.build(Config(preset="small", method="dcdgan"))
        assert [count(net) for net in nets] == [272_515] * 2 + [31_232] * 2 + [175_857] * 2


def test_projectors_fit_the_features_that_are_compared():
    config = Config(preset="small", method="dcdgan")
    assert feature_channels(config.dcdgan) == [3, 32, 64, 64, 64]
    ((places, bounds),) = dcdgan.draws(config).values()
    assert (places, bounds) == (64, [32**2, 16**2, 16**2, 16**2])
    assert feature_channels(Config(method="dcdgan").dcdgan)[1:] == [128, 256, 256, 256]
    ((places, bounds),) = dcdgan.draws(Config(method="dcdgan")).values()
    assert (places, bounds) == (256, [256**2, 128**2, 64**2, 64**2])


@pytest.fixture
def setting():
    config = Config(preset="small", method="dcdgan", dcdgan=TINY | UNUSED, loss=L1_REWARDS, crop=36, seed=3)
    nets = build_networks(config, torch.device("cpu"), None, dcdgan)
    torch.manual_seed(0)
    for net in nets:
        for parameter in net.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    nets = type(nets)(*(net.double() for net in nets))
    names = ("rainy", "clean", "reals", "clean_reals", "rewards")
    inputs = {name: torch.rand(2, 3, 36, 36, dtype=torch.float64) for name in names}
    inputs["improved"] = torch.tensor([True, False])
    ((places, bounds),) = dcdgan.draws(config).values()
    inputs["places"] = draw_places(0, 0, places, bounds)
    with use_backend("reference"):
        yield config, nets, inputs


def nce(queries, keys):
    """Of each row of q, minus the logarithm of its share of exp(q k / T) over the keys of its image."""
    layers = []
    for q, k in zip(queries, keys, strict=True):
        rows = [
            torch.logsumexp(k[image] @ q[image, i] / 0.07, 0) - (k[image, i] @ q[image, i]) / 0.07
            for image in range(q.shape[0])
            for i in range(q.shape[1])
        ]
        layers.append(sum(rows) / len(rows))
    return sum(layers) / 4


def formulas(nets, inputs, stage):
    """Every term, written out."""
    g, f, f1, f2, d_c, d_r = nets
    o, b, places = inputs["rainy"], inputs["clean"], inputs["places"]

    def l1(x, y):
        return (x - y).abs().mean()

    def hinge(scores):
        return torch.maximum(1 - scores, torch.zeros_like(scores)).mean()

    def detached(vectors):
        return [vector.detach() for vector in vectors]

    def spectra(x, y):
        half = torch.fft.fft2(x - y)[..., : x.shape[-1] // 2 + 1]
        return (half.real.square() + half.imag.square()).sum() / len(x)

    derained, painted = g(o), f(b)
    nce1 = nce(f2(f.features(derained)[1:], places), detached(f1(g.features(o)[1:], places)))
    nce2 = nce(f1(g.features(painted)[1:], places), detached(f2(f.features(b)[1:], places)))
    terms = {
        "adversarial": hinge(d_c(derained)) + hinge(d_r(painted)),
        "contrast": nce1 + nce2,
        "identity": l1(g(b), b) + l1(f(o), o),
        "cycle": l1(f(derained), o) + l1(g(painted), b),
        "unpaired": l1(derained, b) + l1(painted, o),
        "frequency": spectra(derained, b) + spectra(painted, o),
    }
    if stage == 2:
        terms["reward"] = l1(derained[0], inputs["rewards"][0])
        terms["switch"] = l1(f(inputs["rewards"])[0], o[0])
    return terms


@pytest.mark.parametrize("stage", [1, 2])
def test_the_step_is_its_formula_term_by_term(setting, stage):
    config, nets, inputs = setting
    if stage == 1:
        del inputs["rewards"], inputs["improved"]
    got, wanted = dcdgan.step(nets, stage, inputs, config), formulas(nets, inputs, stage)
    assert_terms(got, wanted)
    loss = sum(WEIGHTS[name] * term for name, term in wanted.items())
    torch.testing.assert_close(got.loss.double(), loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(got.judged["clean_judge"].fake, nets.derainer(inputs["rainy"]))
    torch.testing.assert_close(got.judged["rainy_judge"].fake, nets.painter(inputs["clean"]))
    assert torch.equal(got.judged["clean_judge"].real, inputs["clean_reals"])
    assert torch.equal(got.judged["rainy_judge"].real, inputs["reals"])


@pytest.mark.parametrize("stage", [1, 2])
def test_its_gradients_are_those_of_the_formula(setting, stage):
    config, nets, inputs = setting
    if stage == 1:
        del inputs["rewards"], inputs["improved"]
    trained = [parameter for net in nets[:4] for parameter in net.parameters()]
    got = torch.autograd.grad(dcdgan.step(nets, stage, inputs, config).loss, trained)
    terms = formulas(nets, inputs, stage)
    wanted = torch.autograd.grad(sum(WEIGHTS[name] * term for name, term in terms.items()), trained)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def test_each_term_reaches_the_networks_that_it_should(setting):
    config, nets, inputs = setting
    both = {"derainer", "painter"}
    reached = {
        "adversarial": both,
        "contrast": {*both, "projector", "painter_projector"},
        "identity": both,
        "cycle": both,
        "unpaired": both,
        "frequency": both,
        "reward": {"derainer"},
        "switch": {"painter"},
    }
    step = dcdgan.step(nets, 2, inputs, config)
    assert set(step.terms) == set(reached)
    trained = [p for name in dcdgan.TOGETHER for p in getattr(nets, name).parameters()]
    for name, wanted in reached.items():
        for net in nets:
            net.zero_grad()
        step.terms[name].backward(inputs=trained, retain_graph=True)
        got = {part for part, net in nets._asdict().items() if any(p.grad is not None for p in net.parameters())}
        assert got == wanted, name


def test_keys_are_detached_in_both_contrasts(setting):
    _, nets, inputs = setting
    places = inputs["places"]
    rainy, clean, derained, painted = (inputs[name].requires_grad_() for name in ("rainy", "clean", "reals", "rewards"))
    dcdgan.contrast(nets, rainy, derained, clean, painted, places, 0.07).backward()
    assert rainy.grad is None and clean.grad is None
    assert derained.grad.any() and painted.grad.any()


def test_permuted_batches_permute_the_contrast(setting):
    _, nets, inputs = setting
    four = [inputs[name] for name in ("rainy", "reals", "clean", "rewards")]
    whole = dcdgan.contrast(nets, *four, inputs["places"], 0.07)
    each = [dcdgan.contrast(nets, *(one[i : i + 1] for one in four), inputs["places"], 0.07) for i in range(2)]
    torch.testing.assert_close(whole, sum(each) / 2)


def test_reward_and_switch_are_means_over_the_rewards_of_all_ranks(setting):
    config, nets, inputs = setting
    alone, shared = (
        dcdgan.step(nets, 2, inputs | more, config).terms for more in ({}, {"rewarded": torch.tensor(2.0)})
    )
    for name in ("reward", "switch"):
        torch.testing.assert_close(shared[name], alone[name] / 2)


def test_unused_terms_and_the_switch_are_fields_of_weight_0(setting):
    config, nets, inputs = setting
    assert {name: getattr(Config(method="dcdgan").dcdgan, name) for name in UNUSED} == dict.fromkeys(UNUSED, 0)
    off = dict.fromkeys((*UNUSED, "switch", "identity"), 0.0)
    quiet = config.model_copy(update={"dcdgan": config.dcdgan.model_copy(update=off)})
    assert set(dcdgan.step(nets, 2, inputs, quiet).terms) == {"adversarial", "contrast", "reward"}
    unswitched = config.model_copy(update={"reward": config.reward.model_copy(update={"switch": False})})
    assert "switch" not in dcdgan.step(nets, 2, inputs, unswitched).terms


def test_terms_vanish_where_both_translators_are_the_identity(setting):
    config, nets, inputs = setting

    class Same(torch.nn.Identity):
        def features(self, image):
            return nets.derainer.features(image)

    terms = dcdgan.step(nets._replace(derainer=Same(), painter=Same()), 1, inputs, config).terms
    assert terms["cycle"] == terms["identity"] == 0


@pytest.mark.parametrize("score, pushed", [(-2.0, True), (0.0, True), (2.0, False)])
def test_hinge_pushes_patches_below_its_margin_alone(score, pushed):
    scores = torch.full((1, 1, 2, 3), score, requires_grad=True)
    loss = losses.hinge(scores, 1.0)
    loss.backward()
    assert loss == max(0.0, 1 - score)
    assert bool(scores.grad.any()) == pushed
    assert losses.hinge(scores, -1.0) == max(0.0, 1 + score)


def test_each_judge_learns_by_hinge_from_its_own_domain(setting):
    config, nets, inputs = setting
    judged = dcdgan.step(nets, 1, inputs, config).judged
    got = dcdgan.judge(nets, judged, config)
    for name, real in (("clean_judge", "clean_reals"), ("rainy_judge", "reals")):
        network, fake = getattr(nets, name), judged[name].fake.detach()
        wanted = ((1 - network(inputs[real])).clamp(min=0).mean() + (1 + network(fake)).clamp(min=0).mean()) / 2
        torch.testing.assert_close(got[name].double(), wanted, rtol=1e-6, atol=1e-7)
    sum(got.values()).backward()
    assert all(p.grad is None for net in nets[:4] for p in net.parameters())


def test_projectors_have_their_own_rate_and_moments():
    torch.manual_seed(0)
    arrays = [torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8).numpy() for _ in range(2)]
    images = FolderSet.from_arrays(["a", "b"], arrays)
    config = Config(preset="small", method="dcdgan", batch=2, crop=32, dcdgan=TINY, optim={"discriminator_warmup": 0})
    trainer = Trainer(config, Domains(images, images), make_scorer(darkness, images, images), torch.device("cpu"))
    trainer.iterate()
    groups = {group["name"]: group for group in trainer.train_step.optimizer.param_groups}
    for name, ratio, betas in (("derainer", 1, (0.5, 0.999)), ("painter", 1, (0.5, 0.999))):
        assert (groups[name]["lr"], groups[name]["betas"]) == (ratio * 5e-4, betas)
    for name in ("projector", "painter_projector"):
        assert groups[name]["lr"] == pytest.approx(5e-3)
        assert groups[name]["betas"] == (0.9, 0.999)
    assert trainer.train_step.rate == 5e-4
    other = Trainer(config, Domains(images, images), make_scorer(darkness, images, images), torch.device("cpu"))
    other.load_state_dict(trainer.state_dict())
    assert {g["name"]: g["betas"] for g in other.train_step.optimizer.param_groups}["projector"] == (0.9, 0.999)


def test_a_derainer_of_ones_own_is_refused_by_name():
    config = Config(preset="small", method="dcdgan", dcdgan=TINY)
    with pytest.raises(UserError, match="method dcdgan derains by its own translator"):
        build_networks(config, torch.device("cpu"), NAFNet(4, (1,), 1, (1,)), dcdgan)


def test_it_has_the_weights_of_cyclegan_for_the_same_seed():
    torch.manual_seed(0)
    theirs = cyclegan.build(Config(preset="small", method="cyclegan", cyclegan={"width": 4, "judge_width": 4}))
    torch.manual_seed(0)
    mine = dcdgan.build(Config(preset="small", method="dcdgan", dcdgan={"width": 4, "judge_width": 4}))
    assert isinstance(mine.projector, Projector)
    for name in ("derainer", "painter", "clean_judge", "rainy_judge"):
        pairs = zip(getattr(mine, name).parameters(), getattr(theirs, name).parameters(), strict=True)
        assert all(torch.equal(*pair) for pair in pairs)
