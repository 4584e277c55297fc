"""The loss terms, against their formulas written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from rgsud_fast.methods import losses
from rgsud_fast.ops import derain_loss


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, 3, 33, 40, generator=generator, dtype=torch.float64) for _ in range(2)]


def test_lsgan_has_no_half():
    assert losses.lsgan(torch.zeros(2, 1, 3, 3), 1.0).item() == 1


@pytest.mark.parametrize("form", ["psnr", "sum", "mean"])
def test_reward_loss_averages_over_accepted_images(pair, form):
    reward, derained = pair
    every = [losses.reward_loss(reward[i : i + 1], derained[i : i + 1], torch.tensor([True]), form) for i in range(3)]
    masked = losses.reward_loss(reward, derained, torch.tensor([True, False, True]), form)
    assert masked.item() == pytest.approx(((every[0] + every[2]) / 2).item(), rel=1e-5)


def test_reward_loss_without_rewards_is_zero_and_has_zero_gradient(pair):
    reward, derained = torch.zeros_like(pair[0]), pair[1].requires_grad_()
    loss = losses.reward_loss(reward, derained, torch.zeros(3, dtype=torch.bool), "psnr")
    (v_derained,) = torch.autograd.grad(loss, derained)
    assert loss.item() == 0
    assert (v_derained == 0).all()


def test_reward_forms_differ_as_the_spec_says(pair):
    # At equal errors the gradient of "psnr" is that of the pair loss; of "sum", C*H*W*(ln 10/10)*MSE times it.
    reward, derained = pair[0], pair[1].requires_grad_()
    accepted = torch.ones(3, dtype=torch.bool)
    gradient = {
        form: torch.autograd.grad(losses.reward_loss(reward, derained, accepted, form), derained)[0][0].norm().item()
        for form in ("psnr", "sum", "mean")
    }
    paired = torch.autograd.grad(derain_loss(derained, reward)[0], derained)[0][0].norm().item()
    mse = ((reward - derained) ** 2)[0].mean().item()
    assert gradient["psnr"] == pytest.approx(paired, rel=1e-4)
    assert gradient["mean"] / paired == pytest.approx(math.log(10) / 10 * mse, rel=1e-3)
    assert gradient["sum"] / gradient["mean"] == pytest.approx(3 * 33 * 40, rel=1e-3)


def test_grey_rain_is_free(pair):
    clean = pair[0]
    assert losses.channel_consistency(clean + torch.rand(3, 1, 33, 40), clean).item() == pytest.approx(0, abs=1e-6)


def test_coloured_rain_costs_what_the_formula_says(pair):
    clean = pair[0]
    rainy = clean + torch.tensor([0.1, 0.2, 0.4]).view(1, 3, 1, 1)
    assert losses.channel_consistency(rainy, clean).item() == pytest.approx(0.1 + 0.2 + 0.3, abs=1e-6)


def test_background_guidance_sees_a_shift_but_hardly_a_fine_texture(pair):
    clean = pair[0].float()
    checks = torch.tensor([[0.1, -0.1] * 20, [-0.1, 0.1] * 20]).repeat(17, 1)[:33]
    shift = losses.background_guidance(clean + 0.1, clean).item()
    assert shift == pytest.approx(0.1 * 1.11, rel=1e-4)
    assert losses.background_guidance(clean + checks, clean).item() < 0.02 * shift


def test_background_guidance_is_the_distance_of_box_means(pair):
    clean, rainy = pair[0].float(), pair[1].float().requires_grad_()
    pooled = sum(
        weight * (F.avg_pool2d(rainy, side, 1) - F.avg_pool2d(clean, side, 1)).abs().mean()
        for side, weight in losses.GUIDANCE
    )
    loss = losses.background_guidance(rainy, clean)
    torch.testing.assert_close(loss, pooled)
    torch.testing.assert_close(*(torch.autograd.grad(value, rainy)[0] for value in (loss, pooled)))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(losses.background_guidance(rainy, clean), loss)
    with pytest.raises(ValueError, match="at least 15 pixels"):
        losses.background_guidance(rainy[:, :, :14], clean[:, :, :14])


def test_losses_are_float32_for_half_precision_inputs(pair):
    x, y = (image.bfloat16() for image in pair)
    accepted = torch.ones(3, dtype=torch.bool)
    terms = [*derain_loss(x, y), losses.lsgan(x, 1.0), losses.reward_loss(x, y, accepted, "psnr")]
    terms += [losses.channel_consistency(x, y), losses.background_guidance(x, y)]
    assert all(term.dtype == torch.float32 for term in terms)


def test_spoiled_pixels_of_a_reward_count_less(pair):
    reward, derained = pair
    improved = torch.ones(len(reward), dtype=torch.bool)
    none = torch.zeros(len(reward), 1, *reward.shape[2:])
    plain = losses.reward_loss(reward, derained, improved, "mean")
    assert losses.reward_loss(reward, derained, improved, "mean", spoiled=none).item() == pytest.approx(plain.item())
    spoiled = none.clone()
    spoiled[..., :3] = 1
    faulty = reward.clone()
    faulty[..., :3] = 9.0  # where nobody looks
    kept = losses.reward_loss(faulty, derained, improved, "mean", spoiled=spoiled)
    assert kept.item() == pytest.approx(losses.reward_loss(reward, derained, improved, "mean", spoiled=spoiled).item())
    whole = torch.ones_like(none)
    assert losses.reward_loss(reward, derained, improved, "mean", spoiled=whole).item() == 0


def test_a_reward_that_is_spoiled_all_over_gives_no_gradient_that_is_not_finite(pair):
    derained, reward = pair
    derained = derained.detach().requires_grad_()
    improved = torch.ones(len(derained), dtype=torch.bool)
    spoiled = torch.zeros(len(derained), 1, *derained.shape[2:])
    plain = losses.reward_loss(reward, derained, improved, "l1")
    same = losses.reward_loss(reward, derained, improved, "l1", spoiled=spoiled)
    torch.testing.assert_close(same, plain)
    loss = losses.reward_loss(reward, derained, improved, "l1", spoiled=spoiled + 1)
    loss.backward()
    assert loss.item() == 0 and torch.isfinite(derained.grad).all()


def test_reward_gradient_asks_for_reward_and_is_guarded():
    rainy = torch.rand(2, 3, 20, 20)
    derained = rainy.clone().requires_grad_()
    value = losses.reward_gradient(derained.mean((1, 2, 3)), rainy, derained, 0.1)
    assert value.item() == pytest.approx(1 - rainy.mean().item(), abs=1e-5)  # nothing is changed: no guard
    value.backward()
    assert (derained.grad < 0).all()  # more of what is rewarded
    assert losses.reward_gradient(torch.full((2,), 2.0), rainy, rainy, 0.1) == 0
    assert losses.reward_gradient(torch.ones(2), rainy, rainy - 0.3, 0.1).item() == pytest.approx(0.2, abs=1e-5)


def test_masked_errors_are_means_over_the_images_that_count(pair):
    made, wanted = (image.double() for image in pair)
    there = torch.tensor([True, False, True])
    off = (made - wanted)[there]
    torch.testing.assert_close(losses.masked_l1(made, wanted, there).double(), off.abs().mean(), atol=1e-6, rtol=0)
    torch.testing.assert_close(losses.masked_l2(made, wanted, there).double(), off.square().mean(), atol=1e-6, rtol=0)
    of_two_ranks = [
        losses.masked_l2(made[part], wanted[part], there[part], torch.tensor(1.0)) for part in ([0], [1, 2])
    ]
    assert (sum(of_two_ranks) / 2).item() == pytest.approx(off.square().mean().item(), abs=1e-6)
    nobody = torch.zeros(3, dtype=torch.bool)
    assert losses.masked_l1(made, wanted, nobody) == losses.masked_l2(made, wanted, nobody) == 0
