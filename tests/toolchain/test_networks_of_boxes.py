"""Tools and agent: exact sizes, what they see, and whose the memory is."""

import pytest
import torch
from torch import nn

from rgsud_fast.config.toolbox import ToolboxConfig
from rgsud_fast.errors import UserError
from rgsud_fast.networks.toolbox import Agent, Tool, reach_of
from rgsud_fast.networks.toolbox.agent import NONE, one_hot
from rgsud_fast.networks.toolbox.box import read_agent, save_agent


def count(network, learning=True):
    return sum(p.numel() for p in network.parameters() if p.requires_grad or not learning)


def test_exact_counts_of_parameters():
    assert count(Tool("small")) == 21_827
    assert count(Tool("large")) == 50_851
    assert sum(count(Tool(tool.net)) for tool in ToolboxConfig().tools) == 436_068
    assert sum(count(Tool(tool.net)) for tool in ToolboxConfig(preset="toolbox-small").tools) == 130_962
    assert count(Agent(12)) == 87_863
    assert count(Agent(12), learning=False) == 88_063  # with the LSTM's second bias, which stays 0
    assert count(Agent(12)) - count(Agent(12, 48)) == 5_376
    for tools in (4, 7):
        assert count(Agent(tools), learning=False) == 68_200 + 200 * (tools + 84) + 51 * (tools + 1)


@pytest.mark.parametrize("net", ["small", "large"])
def test_a_tool_keeps_the_shape_starts_near_identity_and_sees_17_pixels(net):
    tool, image = Tool(net), torch.rand(2, 3, 21, 34)
    assert tool(image).shape == image.shape and (tool(image) - image).abs().mean() < 0.2
    assert tool.reach == 8
    foreign = nn.Sequential(tool)  # whose reach has to be measured
    assert reach_of(foreign) == 8
    assert reach_of(nn.Identity()) == 0


def test_the_second_bias_of_the_memory_never_learns():
    agent = Agent(3, 32)
    worth, _ = agent(torch.rand(2, 3, 3, 32, 32), torch.full((2, 3), NONE))
    worth.sum().backward()
    assert agent.memory.bias_hh_l0.grad is None and not agent.memory.bias_hh_l0.any()


@pytest.mark.parametrize("pooled", [False, True])
def test_memory_is_the_callers_and_a_new_episode_starts_from_zero(pooled):
    agent = Agent(3, 32, pooled).eval()
    images, previous = torch.rand(2, 3, 3, 32, 32), torch.tensor([[NONE, 0, 2], [NONE, 1, 1]])
    whole, _ = agent(images, previous)
    hidden, steps = None, []
    for step in range(3):
        worth, hidden = agent(images[:, step : step + 1], previous[:, step : step + 1], hidden)
        steps.append(worth)
    torch.testing.assert_close(torch.cat(steps, 1), whole)
    again, _ = agent(images, previous)
    assert torch.equal(again, whole)
    torch.testing.assert_close(agent(images[:, 1:2], previous[:, 1:2])[0][:, 0], whole[:, 1], rtol=0, atol=9)
    assert not torch.allclose(agent(images[:, 1:2], previous[:, 1:2])[0][:, 0], whole[:, 1])


def test_a_stop_has_no_place_among_previous_actions():
    assert one_hot(torch.tensor([1, 3, NONE]), 3).tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_another_side_is_refused_in_words():
    with pytest.raises(UserError, match="looks at 32 x 32 pixels, got 48 x 48"):
        Agent(3, 32)(torch.rand(1, 1, 3, 48, 48), torch.full((1, 1), NONE))


def test_an_eye_that_pools_sees_what_there_is_wherever_it_is():
    torch.manual_seed(0)
    patch = torch.rand(3, 16, 16)
    places = torch.full((2, 3, 96, 96), 0.5)
    places[0, :, 32:48, 32:48] = places[1, :, 48:64, 40:56] = patch  # apart by the stride of all layers, off the border
    pooled, paper = (Agent(3, 96, eye).look(places) for eye in (True, False))
    torch.testing.assert_close(pooled[0], pooled[1])
    assert not torch.allclose(paper[0], paper[1], atol=1e-2)


@pytest.mark.parametrize("pooled", [False, True])
def test_an_agents_file_tells_how_it_sees(pooled, tmp_path):
    agent = Agent(2, 32, pooled).eval()
    save_agent(tmp_path / "agent.safetensors", agent, ["a", "b"])
    found = read_agent(tmp_path / "agent.safetensors", ["a", "b"])
    images, previous = torch.rand(1, 1, 3, 32, 32), torch.full((1, 1), NONE)
    with pytest.raises(UserError, match="looks at 5 x 5 pixels"):
        save_agent(tmp_path / "agent.safetensors", Agent(2, 5, pooled), ["a", "b"])
        read_agent(tmp_path / "agent.safetensors", ["a", "b"])
    assert found.pooled == pooled and torch.equal(found(images, previous)[0], agent(images, previous)[0])
