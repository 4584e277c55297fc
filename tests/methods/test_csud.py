"""CSUD: its step is the formula written out, each term reaches the networks that it should, its judge is not halved."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from steps import L1_REWARDS, assert_terms
from tiny import TINY_NETWORKS, darkness, same_bits

from rgsud_fast.config import Config
from rgsud_fast.data import Domains, FolderSet
from rgsud_fast.inference.export import export
from rgsud_fast.iqa import make_scorer
from rgsud_fast.methods import csud, losses
from rgsud_fast.methods.build import build_networks
from rgsud_fast.networks import NAFNet
from rgsud_fast.networks.weights import save_network
from rgsud_fast.ops import ssim, use_backend
from rgsud_fast.training.feed import Feed
from rgsud_fast.training.trainer import Trainer

TINY = {"width": 4, "blocks": 1, "judge_width": 4}
WEIGHTS = {
    "adversarial": 1, "channel_consistency": 10, "clean_guides": 5, "pair": 1, "structure": 1, "derained_guides": 0.5,
    "background_guidance": 0.3, "switch": 5, "reward": 4,
}  # fmt: skip


@pytest.fixture
def setting():
    sizes = TINY | {"background_guidance": 0.3, "pair": 1.0, "structure": 1.0}
    config = Config(preset="small", method="csud", csud=sizes, loss=L1_REWARDS, network=TINY_NETWORKS, seed=3)
    nets = build_networks(config, torch.device("cpu"), None, csud)
    torch.manual_seed(0)
    for net in nets[:2]:  # away from where they start, so that every path carries a gradient
        for parameter in net.parameters():
            parameter.data.add_(0.05 * torch.randn_like(parameter))
    nets = type(nets)(*(net.double().eval() for net in nets))  # in eval T has one norm, whatever it is called
    names = ("rainy", "clean", "reals", "rewards")
    inputs = {name: torch.rand(2, 3, 32, 32, dtype=torch.float64) for name in names}
    with use_backend("reference"):
        yield config, nets, inputs | {"improved": torch.tensor([True, False])}


def formulas(nets, inputs, stage):
    """Every term, written out."""
    der, judge = nets.derainer, nets.rainy_judge
    o, b = inputs["rainy"], inputs["clean"]

    def t(scene, guide):
        return nets.transfer(torch.cat([scene, guide], 1))

    def l1(x, y):
        return (x - y).abs().mean()

    o_u1, b_r = t(b, o), der(o)
    b_u1 = der(o_u1.detach())
    fakes = (o_u1, t(b_r, o), t(b_r, o_u1), t(b_u1, o_u1))
    s1, s2, s3 = t(b, b), t(b, b_r), t(b, b_u1)
    r, g, bl = (b - o_u1).unbind(1)
    terms = {
        "adversarial": sum((judge(fake) - 1).square().mean() for fake in fakes),
        "channel_consistency": l1(r, g) + l1(g, bl) + l1(bl, r),
        "clean_guides": l1(s1, b) + l1(s2, b),
        "pair": l1(b_u1, b),
        "structure": -torch.log10(ssim(b_u1, b)),
        "derained_guides": l1(s3, b) + l1(s2, b),
        "background_guidance": sum(w * F.avg_pool2d(o_u1 - b, k, 1).abs().mean() for k, w in losses.GUIDANCE),
    }
    if stage == 2:
        terms["reward"] = l1(b_r[0], inputs["rewards"][0])
        terms["switch"] = l1(t(inputs["rewards"], o)[0], o[0])
    return terms


@pytest.mark.parametrize("stage", [1, 2])
def test_the_step_is_its_formula_term_by_term(setting, stage):
    config, nets, inputs = setting
    if stage == 1:
        del inputs["rewards"], inputs["improved"]
    got, wanted = csud.step(nets, stage, inputs, config), formulas(nets, inputs, stage)
    assert_terms(got, wanted)
    loss = sum(WEIGHTS[name] * term for name, term in wanted.items())
    torch.testing.assert_close(got.loss.double(), loss, rtol=1e-6, atol=1e-6)
    assert torch.equal(got.judged["rainy_judge"].real, inputs["reals"])
    painted = nets.transfer(torch.cat([inputs["clean"], inputs["rainy"]], 1))
    torch.testing.assert_close(got.judged["rainy_judge"].fake, painted)


@pytest.mark.parametrize("stage", [1, 2])
def test_its_gradients_are_those_of_the_formula(setting, stage):
    config, nets, inputs = setting
    if stage == 1:
        del inputs["rewards"], inputs["improved"]
    trained = [parameter for net in nets[:2] for parameter in net.parameters()]
    got = torch.autograd.grad(csud.step(nets, stage, inputs, config).loss, trained)
    wanted = torch.autograd.grad(
        sum(WEIGHTS[name] * term for name, term in formulas(nets, inputs, stage).items()), trained
    )
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-7)


def test_each_term_reaches_the_networks_that_it_should(setting):
    config, nets, inputs = setting
    reached = {
        "adversarial": (True, True),
        "channel_consistency": (False, True),
        "clean_guides": (True, True),
        "pair": (True, False),
        "structure": (True, False),
        "derained_guides": (True, True),
        "background_guidance": (False, True),
        "reward": (True, False),
        "switch": (False, True),
    }
    terms = csud.step(nets, 2, inputs, config).terms
    assert set(terms) == set(reached)
    for name, wanted in reached.items():
        for net in nets:
            net.zero_grad()
        terms[name].backward(inputs=[p for net in nets[:2] for p in net.parameters()], retain_graph=True)
        got = tuple(any(p.grad is not None and bool(p.grad.any()) for p in net.parameters()) for net in nets)
        assert got == (*wanted, False), name


def test_reward_and_switch_are_means_over_the_rewards_of_all_ranks(setting):
    config, nets, inputs = setting
    alone, shared = (csud.step(nets, 2, inputs | more, config).terms for more in ({}, {"rewarded": torch.tensor(2.0)}))
    for name in ("reward", "switch"):
        torch.testing.assert_close(shared[name], alone[name] / 2)


def test_unused_terms_and_the_switch_are_fields(setting):
    config, nets, inputs = setting
    quiet = config.model_copy(update={"csud": config.csud.model_copy(update={"background_guidance": 0, "switch": 0})})
    assert not {"switch", "background_guidance"} & set(csud.step(nets, 2, inputs, quiet).terms)
    unswitched = config.model_copy(update={"reward": config.reward.model_copy(update={"switch": False})})
    assert "switch" not in csud.step(nets, 2, inputs, unswitched).terms
    assert "reward" in csud.step(nets, 2, inputs, unswitched).terms


def test_the_judges_loss_is_not_halved(setting):
    config, nets, inputs = setting
    judged = csud.step(nets, 1, inputs, config).judged
    loss = csud.judge(nets, judged, config)["rainy_judge"]
    fake = judged["rainy_judge"].fake.detach()
    wanted = (nets.rainy_judge(inputs["reals"]) - 1).square().mean() + nets.rainy_judge(fake).square().mean()
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-6, atol=1e-7)
    loss.backward()
    assert all(p.grad is None for net in nets[:2] for p in net.parameters())


def trainer_of(seed: int = 0) -> Trainer:
    torch.manual_seed(seed)
    arrays = [torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8).numpy() for _ in range(3)]
    images = FolderSet.from_arrays(["a", "b", "c"], arrays)
    optim = {"discriminator_warmup": 0, "warmup": 0, "ema_decay": 0.9}  # else skipped steps raise the rate
    config = Config(preset="small", method="csud", batch=2, crop=32, csud=TINY, network=TINY_NETWORKS, optim=optim)
    return Trainer(config, Domains(images, images), make_scorer(darkness, images, images), torch.device("cpu"))


def test_the_vectors_of_the_spectral_norm_survive_skipped_steps(monkeypatch):
    def spoil(batch):
        return {name: image + float("nan") for name, image in batch.items()}

    def run(order):
        trainer = trainer_of()
        batches = iter([spoil(images(trainer.feed, 0)) if n is None else images(trainer.feed, n) for n in order])
        monkeypatch.setattr(Feed, "images", lambda *_: next(batches))
        for _ in order:
            trainer.iterate()
        return trainer

    images = Feed.images
    fresh, good, spoiled = trainer_of(), run([0, 1]), run([None, 0, None, None, 1])
    kept = ("networks", "average", "optimizer", "discriminator_optimizer")
    assert all(same_bits(good.state_dict()[name], spoiled.state_dict()[name]) for name in kept)
    before, after = (list(trainer.nets.transfer.buffers()) for trainer in (fresh, good))
    assert len(after) == 6  # u and v of three convolutions
    assert not any(torch.equal(*vectors) for vectors in zip(before, after, strict=True))


def test_measured_gradients_leave_the_vectors_alone():
    trainer = trainer_of()
    before = {name: buffer.clone() for name, buffer in trainer.nets.transfer.named_buffers()}
    assert trainer.train_step.term_gradients(1, trainer.feed.images(0))
    assert same_bits(before, dict(trainer.nets.transfer.named_buffers()))


def test_small_networks_begin_near_the_identity_and_the_published_do_not():
    image = torch.rand(2, 3, 32, 32)
    for residual in (True, False):
        torch.manual_seed(0)
        nets = csud.build(Config(preset="small", method="csud", csud={"residual": residual}))
        far = [(nets.derainer(image) - image).std(), (nets.transfer(torch.cat([image, image], 1)) - image).std()]
        assert all(bool(one < 0.03) == residual for one in far), far


def test_a_derainer_of_ones_own_is_taken():
    config = Config(preset="small", method="csud", csud=TINY)
    own = NAFNet(4, (1,), 1, (1,))
    assert build_networks(config, torch.device("cpu"), own, csud).derainer is own


@pytest.mark.parametrize("to", ["torchscript", pytest.param("onnx", marks=pytest.mark.slow)])
def test_the_transfer_network_is_exported(tmp_path, to):
    nets = build_networks(Config(preset="small", method="csud", csud=TINY), torch.device("cpu"), None, csud)
    save_network(tmp_path / "transfer.safetensors", nets.transfer, "transfer", {"method": "csud"})
    assert export(tmp_path / "transfer.safetensors", to, tmp_path, network="transfer").difference <= 1e-5


def test_the_sizes_of_two_cores_are_those_of_the_specification():
    config = Config(preset="small", method="csud")
    nets = build_networks(config, torch.device("cpu"), None, csud)
    counts = [sum(parameter.numel() for parameter in net.parameters()) for net in nets]
    assert counts == [42_423, 97_139, 175_857]
