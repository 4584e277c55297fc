"""Weights of types by simulation: what is slow gains, what gets worse loses, and the printed form rewards it."""

from __future__ import annotations

import numpy as np
import pytest

from rgsud_fast.methods.reweighting import WARM_UP, type_weights

FAST, MIDDLE, SLOW, RISING = range(4)


def losses(seed: int, noise: float = 0.02, rise: float = 0.004, evaluations: int = 120) -> np.ndarray:
    """A fast, a middle and a slow decay, and one that rises from evaluation 40 on."""
    time = np.arange(evaluations)
    means = [0.05 + 0.3 * np.exp(-time / life) for life in (6, 18, 60, 18)]
    means[RISING] = means[RISING] + rise * np.maximum(time - 40, 0)
    means = np.stack(means, 1)
    return means * np.exp(noise * np.random.default_rng(seed).standard_normal(means.shape))


def shares(form: str, first: int, last: int, **options) -> np.ndarray:
    """[seeds, evaluations, types]"""
    return np.array([[type_weights(losses(s, **options)[:t], form) / 4 for t in range(first, last)] for s in range(10)])


@pytest.mark.parametrize("form", ["steady", "released", "printed", "off"])
def test_weights_are_positive_and_add_up_to_the_number_of_types(form):
    for types in (1, 2, 4, 5):
        some = np.concatenate([losses(0), losses(1)], 1)[:, :types]
        for evaluations in (1, WARM_UP, WARM_UP + 1, 70):
            weights = type_weights(some[:evaluations], form)
            assert weights.shape == (types,)
            assert weights.sum() == pytest.approx(types) and (weights > 0).all()
    assert (type_weights(losses(0), "off") == 1).all()
    assert (type_weights(losses(0)[:WARM_UP], form) == 1).all()


@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_steady_raises_what_is_slow_and_lowers_what_gets_worse(noise):
    healthy = shares("steady", 20, 40, noise=noise).mean((0, 1))
    assert healthy[SLOW] == healthy.max() > 0.3 > 0.2 > healthy[FAST]
    late = shares("steady", 80, 121, noise=noise)
    assert late[..., RISING].mean() < 0.15
    assert late.mean((0, 1)).argmax() == SLOW
    assert np.abs(np.diff(late, axis=1)).mean() < 0.006
    assert late.min() >= 0.1 * 0.7  # the average comes to the floor from above


def test_steady_is_calmer_than_the_published_forms():
    jitter = {form: np.abs(np.diff(shares(form, 40, 80), axis=1)).mean() for form in ("steady", "released", "printed")}
    assert jitter["steady"] < 0.1 * jitter["released"] and jitter["steady"] < 0.1 * jitter["printed"]


def test_the_printed_form_rewards_divergence_while_the_slopes_add_up_to_less_than_nothing():
    """The trap, kept so that it is not taken for the default by mistake."""
    options = {"noise": 0.005, "rise": 0.002}
    assert shares("printed", 70, 90, **options)[..., RISING].mean() > 0.5
    assert shares("steady", 70, 90, **options)[..., RISING].mean() < 0.15


def test_released_weights_are_mild_and_keep_their_floor():
    late = shares("released", 80, 121)
    assert late.min() >= 0.1 and late.max() < 0.7
    assert late[..., RISING].mean() < late[..., SLOW].mean()


def test_weights_are_a_function_of_the_losses_alone():
    some = losses(3)
    assert np.array_equal(type_weights(some), type_weights(some.copy()))
    assert np.allclose(type_weights(some), type_weights(7 * some))  # whatever their scale
