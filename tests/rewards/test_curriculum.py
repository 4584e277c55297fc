"""When the reward grows finer: by shares of stage 2, or when scores no longer rise; never back."""

from __future__ import annotations

import pytest

from rgsud_fast.config import load_config
from rgsud_fast.rewards.curriculum import Curriculum


def curriculum(kind: str, ready: bool = True, **reward) -> Curriculum:
    config = {"preset": "small-gan", "stage1_iterations": 100, "stage2_iterations": 100}
    return Curriculum(load_config(config | {"reward": {"curriculum": kind, **reward}}), ready, 10)


def stages(policy: Curriculum, steps=range(0, 200)) -> dict[int, int]:
    """The stages that follow, and when each begins."""
    began: dict[int, int] = {}
    for step in steps:
        began.setdefault(policy.ask(step), step)
    return began


@pytest.mark.parametrize(
    "kind, ready, began",
    [
        ("off", True, {3: 0}),
        ("off", False, {0: 0, 3: 100}),
        ("schedule", True, {0: 0, 1: 100, 2: 130, 3: 160}),
        ("schedule", False, {0: 0, 1: 100, 2: 130, 3: 160}),
        ("plateau", True, {0: 0, 1: 100}),
    ],
)
def test_stages_begin_when_their_time_has_come(kind, ready, began):
    assert stages(curriculum(kind, ready)) == began


def test_shares_may_be_others_and_nothing():
    assert stages(curriculum("schedule", curriculum_shares=(0.0, 0.5, 0.5))) == {0: 0, 1: 100, 2: 101, 3: 150}
    with pytest.raises(Exception, match="three shares that add up to 1"):
        curriculum("schedule", curriculum_shares=(0.5, 0.5, 0.5))


def test_plateau_goes_on_when_scores_no_longer_rise():
    policy = curriculum("plateau")
    assert policy.ask(100) == 1
    for score in (0.1, 0.2, 0.3, 0.4):
        policy.note_sweep(score)
    assert policy.ask(110) == 1
    for score in (0.4, 0.4005, 0.4):
        policy.note_sweep(score)
    assert policy.ask(120) == 2
    assert policy.ask(130) == 2  # its own sweeps count, and not those before


def test_a_stage_in_which_the_held_out_metric_fell_is_stayed_in_for_one_period():
    policy = curriculum("schedule")
    policy.note_held_out(30.0)
    policy.note_held_out(20.0)
    assert policy.ask(100) == 1  # stage 2 does not begin with the score of stage 1
    for metric in (25.0, 24.9, 24.0):
        policy.note_held_out(metric)
    assert stages(policy, range(100, 200)) == {1: 100, 2: 140, 3: 160}
    risen = curriculum("schedule")
    risen.ask(100)
    for metric in (25.0, None, 24.9):
        risen.note_held_out(metric)
    assert stages(risen, range(100, 200)) == {1: 100, 2: 130, 3: 160}


def test_the_reward_loss_weighs_less_in_coarse_stages():
    policy = curriculum("schedule")
    assert [policy.scale for step in (0, 100, 130, 160) if policy.ask(step) is not None] == [1.0, 0.4, 0.7, 1.0]
    assert curriculum("off").scale == 1


def test_a_resumed_policy_goes_on():
    policy = curriculum("plateau")
    policy.ask(100)
    policy.note_sweep(0.3)
    policy.note_held_out(20.0)
    again = curriculum("plateau")
    again.load_state_dict(policy.state_dict())
    assert again.state_dict() == policy.state_dict() and again.ask(110) == 1
