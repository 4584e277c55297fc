"""Joint tuning: what it learns from, what it leaves alone, and how the error goes back through a chain."""

import pytest
import torch
from boxes import TINY_BOX, Wishes, patches
from safetensors.torch import load_file
from tiny import same_bits

from rgsud_fast.config import merge
from rgsud_fast.networks.toolbox import Agent, Tool
from rgsud_fast.toolchain import joint as joint_module
from rgsud_fast.toolchain.environment import play
from rgsud_fast.toolchain.fit_agent import FitAgent
from rgsud_fast.toolchain.joint import TuneJointly, chain_loss
from rgsud_fast.toolchain.train import train
from rgsud_fast.toolchain.workshop import open_box


def test_joint_tuning_leaves_the_agents_bits_and_the_originals_alone(box, scenes, tmp_path):
    config = merge(TINY_BOX, {"joint": {"steps": 0}})
    without = tmp_path / "without"
    train(scenes, without, config=config, quiet=True)
    assert not (without / "tools-joint").exists() and (box / "tools-joint").is_dir()
    for name in ("agent.safetensors", "tools/soft.safetensors", "tools/sharp.safetensors"):
        assert same_bits(load_file(without / name), load_file(box / name))


def first_patches(box, **fields):
    """What joint tuning and the agent see first, and the look of joint tuning, with those fields of the agent."""
    workshop = open_box(box)
    for name, value in fields.items():
        setattr(workshop.config.agent, name, value)
    chains, agent = TuneJointly(workshop), FitAgent(workshop)
    return chains._patches(0), agent._patches(0), chains._look()


def test_the_agent_and_joint_tuning_see_the_same_variety_of_light_and_looks_see_none(box):
    def drawn(jitter):
        *pairs, look = first_patches(box, jitter=jitter)
        return *(float(clean.mean()) for _, clean in pairs), look

    plain, varied = drawn(0.0), drawn(1.0)
    assert varied[0] < 0.8 * plain[0] and varied[1] < 0.8 * plain[1] and varied[2] == plain[2]


def test_the_agent_and_joint_tuning_see_good_photographs_and_looks_see_none(box):
    def drawn(share):
        *pairs, look = first_patches(box, jitter=0.0, undamaged=share)
        return *(float((damaged - clean).square().mean()) for damaged, clean in pairs), look

    damaged, good = drawn(0.0), drawn(0.999)
    assert good[0] < 0.2 * damaged[0] and good[1] < 0.2 * damaged[1] and good[2] == damaged[2]


def test_a_step_of_joint_tuning_plays_each_chain_once(box, monkeypatch):
    chains, images = TuneJointly(open_box(box)), []
    chains.done, chains.total, chains.config.joint.look_every = 30, 100, 1000  # a step without a look
    chains.agent = Wishes([2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 1.0, 2.0])  # both tools, then a stop
    whole = joint_module.play

    def counted(*given, **how):
        images.append(len(given[2]))
        return whole(*given, **how)

    monkeypatch.setattr(joint_module, "play", counted)
    before = chains._copies()
    chains.advance()
    assert sum(images) == chains.config.joint.batch
    assert not same_bits(chains._copies(), before)


def test_gradient_flows_back_through_a_chain_to_every_tool_that_was_used():
    torch.manual_seed(0)
    tools = [Tool(), Tool(), Tool()]
    clean = patches(3)
    damaged = clean + 0.1
    actions = torch.tensor([[0, 1, 3], [3, -1, -1], [1, 0, 1]])
    agent = Agent(3, 32)
    played = play(agent, tools, damaged, clean, decide=lambda worth, step: actions[:, step], differentiable=True)
    assert torch.equal(played.actions, actions) and not played.rewards.requires_grad
    loss = chain_loss(played, clean, agent.stop)
    loss.backward()
    assert tools[2].last.weight.grad is None and all(p.grad is None for p in agent.parameters())
    assert all(tool.last.weight.grad.abs().sum() > 0 for tool in tools[:2])
    expected = 0.0
    for row in (0, 2):
        image = damaged[row : row + 1]
        for action in [a for a in actions[row].tolist() if a < 3]:
            image = tools[action](image)
        expected += float((image - clean[row]).square().mean().detach())
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    plain = play(agent, tools, damaged, clean, decide=lambda worth, step: actions[:, step])
    assert not plain.final.requires_grad and torch.equal(plain.final, played.final)
