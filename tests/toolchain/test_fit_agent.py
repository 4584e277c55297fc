"""How an agent begins to learn."""

import pytest
import torch
from boxes import TINY_BOX, write_scenes

from rgsud_fast.config import merge
from rgsud_fast.config.toolbox import load_toolbox_config
from rgsud_fast.networks.toolbox import Tool
from rgsud_fast.networks.toolbox.agent import NONE
from rgsud_fast.networks.toolbox.box import save_tool
from rgsud_fast.runs.folder import RunFolder
from rgsud_fast.system.watch import nobody
from rgsud_fast.toolchain.fit_agent import FitAgent
from rgsud_fast.toolchain.workshop import Workshop, open_photographs


@pytest.mark.parametrize("every_tool", [True, False])
def test_a_new_agent_expects_of_each_tool_what_it_gained_so_far(every_tool, tmp_path):
    """Or it learns what a tool costs by features that grow until its memory is saturated."""
    agent = {"every_tool": every_tool, "learning_rate": 1e-12, "final_learning_rate": 1e-12, "total": 200}
    config = load_toolbox_config(merge(TINY_BOX, {"agent": agent}))
    folder = RunFolder(tmp_path / "box")
    (folder.path / "tools").mkdir(parents=True)
    photographs = open_photographs(write_scenes(tmp_path / "clean"), folder.cache, nobody)
    workshop = Workshop(config, folder, photographs, torch.device("cpu"))
    for tool in config.tools:
        save_tool(workshop.tool_path(tool), Tool(tool.net))
    phase = FitAgent(workshop)
    before = phase.agent.head.bias.clone()
    while not phase.optimizer.state:
        phase.advance()
    offers = phase.replay.offers[phase.replay.actions != NONE] if every_tool else torch.zeros(1, 2)
    learned = phase.agent.head.bias - before
    torch.testing.assert_close(learned.detach(), torch.cat([offers.mean(0), torch.zeros(1)]))
    assert not every_tool or learned[:2].abs().min() > 1e-3
    phase.advance()  # once, and not again
    torch.testing.assert_close(phase.agent.head.bias - before, learned)
