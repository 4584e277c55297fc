"""Episodes played side by side: rewards, ends, previous actions, and the same images when they are played again."""

import torch
from boxes import Shift, Wishes, patches

from rgsud_fast.networks.toolbox import Agent, Tool
from rgsud_fast.networks.toolbox.agent import NONE
from rgsud_fast.toolchain import oracles
from rgsud_fast.toolchain.environment import apply_tools, decibels, errors, play, states_of
from rgsud_fast.toolchain.oracles import (
    fixed_chain,
    forward_selection,
    greedy_oracle,
    in_parts,
    random_chains,
    search,
)

UP, DOWN, STOP = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
TOOLS = [Shift(0.1), Shift(-0.1)]


def test_each_image_gets_its_own_tool_and_a_stop_leaves_it():
    images = patches(5)
    done = apply_tools(TOOLS, images, torch.tensor([0, 1, 2, NONE, 0]))
    torch.testing.assert_close((done - images).mean((1, 2, 3)), torch.tensor([0.1, -0.1, 0, 0, 0.1]))
    assert torch.equal(done[2:4], images[2:4])


def test_by_squared_errors_the_worst_image_decides_and_in_decibels_none_does():
    clean = torch.zeros(2, 3, 8, 8)
    images = torch.stack([torch.full((3, 8, 8), value) for value in (0.02, 0.3)]).requires_grad_(True)

    def pull(loss):
        (gradient,) = torch.autograd.grad(errors(images, clean, loss).sum(), images)
        return gradient.abs().mean((1, 2, 3)).tolist()

    weak, strong = pull("mse")
    assert strong / weak > 14
    weak, strong = pull("decibels")
    assert 1 < weak / strong < 5
    torch.testing.assert_close(errors(images, clean, "mse"), torch.tensor([0.0004, 0.09]))
    torch.testing.assert_close(errors(images, clean, "decibels"), torch.tensor([0.0014, 0.091]).log())


def test_rewards_are_decibels_gained_and_unclipped():
    clean = patches(2)
    damaged = clean + 0.2
    played = play(Wishes(DOWN, DOWN, UP), TOOLS, damaged, clean)
    total = decibels(played.final, clean) - decibels(damaged, clean)
    torch.testing.assert_close(played.rewards.sum(1), total)
    assert played.rewards[0, 0] > 5 and played.rewards[0, 1] > 50 and played.rewards[0, 2] < -50
    torch.testing.assert_close(decibels(clean + 0.1, clean), torch.full((2,), 20.0))
    assert decibels(clean, clean).tolist() == [100.0, 100.0]


def test_a_stop_ends_with_nothing_and_is_no_previous_action():
    clean = patches(2)
    agent = Wishes(DOWN, STOP, UP)
    played = play(agent, TOOLS, clean + 0.2, clean)
    assert played.actions.tolist() == [[1, 2, NONE]] * 2 and played.lengths.tolist() == [2, 2]
    assert played.rewards[:, 1:].tolist() == [[0, 0]] * 2
    assert [before[:, 0].tolist() for before in agent.before] == [[NONE, NONE], [1, 1]]
    assert not played.states[:, 2].any()


def test_while_others_go_on_a_stop_is_no_previous_action_either():
    clean = patches(2)
    agent, drawn = Wishes(UP, UP, UP), torch.tensor([[2, 0, 0], [1, 0, 1]])
    played = play(agent, TOOLS, clean + 0.2, clean, decide=lambda worth, step: drawn[:, step])
    assert played.actions.tolist() == [[2, NONE, NONE], [1, 0, 1]]
    assert [before[:, 0].tolist() for before in agent.before] == [[NONE, NONE], [NONE, 1], [NONE, 0]]


def test_only_training_ends_where_an_image_falls_below_its_input():
    clean = patches(2)
    trained = play(Wishes(UP, DOWN, DOWN), TOOLS, clean + 0.2, clean, ends_below=True)
    assert trained.actions.tolist() == [[0, NONE, NONE]] * 2 and (trained.rewards[:, 0] < 0).all()
    tested = play(Wishes(UP, DOWN, DOWN), TOOLS, clean + 0.2, clean)
    assert tested.actions.tolist() == [[0, 1, 1]] * 2 and (tested.rewards.sum(1) > 0).all()


def test_the_agent_acts_on_what_the_replay_holds():
    clean, agent = patches(2), Wishes(UP, UP, UP)
    played = play(agent, TOOLS, clean * 1.7, clean)
    assert played.states.max() > 1  # not clipped
    assert torch.equal(torch.cat(agent.seen, 1), played.states.float())


def test_a_round_played_again_by_its_actions_has_the_same_bits():
    torch.manual_seed(2)
    tools, agent = [Tool(), Tool("large")], Agent(2, 32)
    clean = patches(12)
    damaged = clean + 0.1 * torch.randn_like(clean)
    draws = torch.randint(3, (12, 3))
    played = play(agent, tools, damaged, clean, decide=lambda worth, step: draws[:, step])
    assert played.lengths.unique().tolist() == [1, 2, 3]
    assert torch.equal(states_of(tools, damaged, played.actions), played.states)


def test_oracles_are_ordered_and_agree_where_one_tool_is_all_it_takes(monkeypatch):
    clean = patches(4)
    damaged = clean + torch.tensor([0.2, 0.1, -0.1, 0.0]).view(4, 1, 1, 1)
    found = search(TOOLS, damaged, clean)
    assert len(found.chains) == 2 + 4 + 8 and found.gains.shape == (14, 4)
    full, best = found.full(), greedy_oracle(TOOLS, damaged, clean)
    torch.testing.assert_close(full, best, atol=2e-3, rtol=1e-4)
    assert full[3] == 0 and best[3] == 0
    single = found.best(1)
    assert single == found.best(1) and len(found.best(3)) <= 3
    if single:
        at = found.chains.index(single)
        torch.testing.assert_close(fixed_chain(TOOLS, single, damaged, clean), found.gains[at])
    assert (random_chains(TOOLS, damaged, clean, 0) <= full + 1e-3).all()
    assert torch.equal(random_chains(TOOLS, damaged, clean, 0), random_chains(TOOLS, damaged, clean, 0))
    drawn = random_chains(TOOLS, damaged, clean, 0)
    monkeypatch.setattr(oracles, "PART", 3)
    torch.testing.assert_close(in_parts(lambda d, c: greedy_oracle(TOOLS, d, c), damaged, clean), best)
    torch.testing.assert_close(random_chains(TOOLS, damaged, clean, 0), drawn)


def test_of_two_equal_tools_the_first_earns_its_place_though_neither_would_be_missed():
    clean = patches(4)
    damaged = clean + torch.tensor([0.2, 0.1, -0.1, 0.1]).view(4, 1, 1, 1)
    tools = [Shift(-0.1), Shift(-0.1), Shift(0.1)]
    every = float(greedy_oracle(tools, damaged, clean).mean())
    assert float(greedy_oracle(tools[1:], damaged, clean).mean()) == every  # left out, it is not missed
    order = forward_selection(tools, damaged, clean)
    assert [place for place, _ in order] in ([0, 2, 1], [1, 2, 0]) and order[0][1] > 20
    assert order[1][1] > order[0][1] + 1 and abs(order[2][1] - every) < 1e-4
