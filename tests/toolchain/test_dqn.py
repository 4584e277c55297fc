"""The loss of deep Q learning: its formula by hand, torchrl's, and what lengths and ends do."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from boxes import Shift, Wishes, patches
from torch import nn

from rgsud_fast.networks.toolbox import Agent
from rgsud_fast.networks.toolbox.agent import NONE
from rgsud_fast.toolchain.dqn import dqn_loss, falling_rate, falling_share, offers_loss, targets
from rgsud_fast.toolchain.environment import play, states_of
from rgsud_fast.toolchain.replay import Batch, Replay

A = 3


def episodes(count=7, side=32):
    rng = np.random.default_rng(4)
    actions = torch.from_numpy(rng.integers(0, A, (count, 3)))
    for row, length in enumerate(rng.integers(1, 4, count)):
        actions[row, length:] = NONE
        if row % 2:
            actions[row, length - 1] = A  # a stop
    rewards = torch.from_numpy(rng.standard_normal((count, 3))).float() * (actions != NONE)
    return Batch(torch.rand(count, 3, 3, side, side), actions, rewards, 2 * torch.randn(count, 3, A))


@pytest.mark.parametrize("double", [True, False])
def test_loss_is_the_formula(double):
    agent, target, batch = Agent(A, 32), Agent(A, 32), episodes()
    lengths = batch.lengths.tolist()
    assert {1, 2, 3} <= set(lengths)
    groups = {length: [i for i, n in enumerate(lengths) if n == length] for length in (1, 2, 3)}
    expected = torch.zeros(())
    for length, rows in groups.items():
        losses = []
        for i in rows:
            actions, states = batch.actions[i, :length], batch.states[i : i + 1, :length]
            previous = torch.tensor([[NONE, *actions[:-1].tolist()]])
            worth, later = (network(states, previous)[0][0] for network in (agent, target))
            for t in range(length):
                aim = batch.rewards[i, t]
                if t + 1 < length:
                    best = (worth if double else later)[t + 1].argmax()
                    aim = aim + 0.99 * later[t + 1, best]
                losses.append(F.smooth_l1_loss(worth[t, actions[t]], aim.detach()))
        expected = expected + len(rows) / len(lengths) * torch.stack(losses).mean()
    loss = dqn_loss(agent, target, batch, 0.99, double)
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6)
    loss.backward()
    assert all(p.grad is None for p in target.parameters()) and agent.head.weight.grad.abs().sum() > 0


def test_what_lies_behind_an_end_changes_nothing():
    agent, target, batch = Agent(A, 32), Agent(A, 32), episodes()
    behind = (batch.actions == NONE)[:, :, None, None, None]
    other = batch._replace(states=torch.where(behind, 5.0, batch.states))
    assert torch.equal(dqn_loss(agent, target, batch, 0.9), dqn_loss(agent, target, other, 0.9))


def test_the_next_worth_is_that_of_the_next_stored_state_and_none_after_an_end():
    actions = torch.tensor([[0, 1, 0], [0, A, NONE], [1, NONE, NONE]])
    batch = Batch(torch.rand(3, 3, 3, 8, 8), actions, torch.ones(3, 3), torch.zeros(3, 3, 0))
    valued = torch.arange(3.0).view(1, 3, 1).expand(3, 3, A + 1) * 10  # 10 t: the worth tells its step
    aims = targets(valued, valued, batch, 0.5)
    assert aims[0].tolist() == [1 + 5, 1 + 10, 1] and aims[1, :2].tolist() == [1 + 5, 1] and aims[2, 0] == 1


def test_an_abort_values_nothing_after_it():
    clean = patches(2)
    played = play(Wishes((1.0, 0.0), (1.0, 0.0), (1.0, 0.0)), [Shift(0.3)], clean + 0.1, clean, ends_below=True)
    batch = Batch(played.states.float(), played.actions, played.rewards, played.offers)
    aims = targets(torch.full((2, 3, 2), 100.0), torch.full((2, 3, 2), 100.0), batch, 0.99)
    assert torch.equal(aims[:, 0], played.rewards[:, 0])


class Memoryless(nn.Module):
    """A Q network without memory, as torchrl's loss takes it and as ours does."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(12, A + 1)

    def forward(self, images, previous=None):
        worth = self.layer(images.flatten(-3))
        return worth if previous is None else (worth, None)


def test_what_every_action_gains_is_learned_by_the_formula():
    agent, batch = Agent(A, 16), episodes(3, side=16)
    worth, _ = agent(batch.states, batch.previous)
    expected = []
    for row in range(3):
        steps = []
        for step in range(int(batch.lengths[row])):
            aims = [*batch.offers[row, step], torch.tensor(0.0)]  # a stop
            small = [[math.copysign(math.log(1 + abs(float(x))), x) for x in xs] for xs in (worth[row, step], aims)]
            off = [abs(q - aim) for q, aim in zip(*small, strict=True)]
            steps.append(sum(d - 0.5 if d > 1 else d * d / 2 for d in off) / (A + 1))
        expected.append(sum(steps) / len(steps))
    assert float(offers_loss(agent, batch)) == pytest.approx(sum(expected) / 3, rel=1e-5)


def test_every_tool_is_tried_at_each_state_and_the_one_that_is_taken_gains_what_it_offered():
    tools = [nn.Conv2d(3, 3, 3, padding=1).requires_grad_(False) for _ in range(A)]
    damaged, clean = torch.rand(8, 3, 16, 16), torch.rand(8, 3, 16, 16)
    drawn = torch.randint(0, A + 1, (8, 3), generator=torch.Generator().manual_seed(0))
    played = play(Agent(A, 16), tools, damaged, clean, 3, lambda worth, step: drawn[:, step], every_tool=True)
    used = (played.actions != NONE) & (played.actions < A)
    assert used.any() and (played.actions == A).any()
    taken = played.offers.gather(2, played.actions.clamp(0, A - 1)[..., None])[..., 0]
    torch.testing.assert_close(taken[used], played.rewards[used])
    assert not played.offers[played.actions == NONE].any() and played.offers[played.actions != NONE].all()


def test_equals_torchrl_without_memory():
    pytest.importorskip("torchrl", reason="torchrl is not installed")
    from tensordict import TensorDict
    from torchrl.data import OneHot
    from torchrl.modules import QValueActor
    from torchrl.objectives import DQNLoss

    batch = episodes(side=2)
    network, older = Memoryless(), Memoryless()
    actor = QValueActor(copy.deepcopy(network), in_keys=["observation"], spec=OneHot(A + 1), action_space="one-hot")
    theirs = DQNLoss(
        actor, action_space="one-hot", double_dqn=True, delay_value=True, loss_function="smooth_l1", reduction="none"
    )
    theirs.make_value_estimator(gamma=0.9)
    with torch.no_grad():
        for name, value in older.layer.named_parameters():
            theirs.target_value_network_params["module", "0", "module", "layer", name].copy_(value)
    total = torch.zeros(())
    for states, actions, rewards, length in zip(*batch[:3], batch.lengths, strict=True):
        n = int(length)
        done = torch.zeros(n, 1, dtype=torch.bool)
        done[-1] = True
        following = torch.cat([states[1:n], torch.zeros_like(states[:1])])
        flags = {"done": done, "terminated": done}
        steps = TensorDict(
            {
                "observation": states[:n],
                "action": F.one_hot(actions[:n], A + 1),
                "next": {"observation": following, "reward": rewards[:n, None], **flags},
            },
            [n],
        )
        total = total + theirs(steps)["loss"].mean() / len(batch.lengths)
    torch.testing.assert_close(dqn_loss(network, older, batch, 0.9), total, atol=1e-6, rtol=1e-6)


def test_schedules_follow_from_the_step():
    assert [falling_share(step, 10, 100, 0.1) for step in (0, 10, 60, 110, 999)] == pytest.approx(
        [1, 1, 0.55, 0.1, 0.1]
    )
    assert falling_rate(1_000_000, 9, 1e-4, 2.5e-5, 1_000_000) == 5e-5
    assert falling_rate(9_000_000, 9, 1e-4, 2.5e-5, 1_000_000) == 2.5e-5
    assert [falling_rate(step, 100, 1e-3, 1e-5, 0) for step in (0, 50, 200)] == pytest.approx([1e-3, 1e-4, 1e-5])


@pytest.mark.parametrize("gib", [1.0, 0.0], ids=["held", "made anew"])
def test_replay_gives_back_what_was_played_and_goes_on_with_the_same_bits(gib):
    clean = patches(8)
    tools = [Shift(0.3), Shift(-0.3)]
    damaged = clean + 0.1

    def remake(numbers, actions):
        return states_of(tools, damaged[numbers], actions)

    def filled():
        return Replay(8, 4, 3, 32, remake, gib, torch.device("cpu"), tools=2)

    replay, nothing = filled(), (0.0,) * 3
    draws = torch.tensor([[0, 1, 2], [2, 0, 0], [1, 0, 1], [0, 2, 0]])
    for start in (0, 4, 0):
        rows = slice(start, start + 4)
        agent = Wishes(nothing, nothing, nothing)
        given = agent, tools, damaged[rows], clean[rows]
        played = play(*given, decide=lambda worth, step: draws[:, step], every_tool=True)
        replay.add(torch.arange(start, start + 4), played)
    assert len(replay) == 8 and replay.numbers.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert (replay.states is None) == (gib == 0)
    batch = replay.sample(6, np.random.default_rng(1))
    assert batch.states.max() > 1.2 and batch.states.min() < 0  # as tools push them
    again = filled()
    saved = replay.state_dict()
    for lost in ("rewards", "offers"):  # and not zeros in their place
        with pytest.raises(KeyError, match=lost):
            filled().load_state_dict({name: value for name, value in saved.items() if name != lost})
    again.load_state_dict(saved)
    for ours, theirs in zip(again.sample(6, np.random.default_rng(1)), batch, strict=True):
        assert torch.equal(ours, theirs)
    assert batch.previous[:, 0].tolist() == [NONE] * 6
