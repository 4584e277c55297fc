"""Tools that come trained: a run's derainer in place of streak tools, and networks of the user's own."""

from __future__ import annotations

import pytest
from boxes import TINY_BOX, Shift
from torch import nn

from rgsud_fast.config import merge
from rgsud_fast.errors import UserError
from rgsud_fast.networks import NAFNet
from rgsud_fast.networks.toolbox import Tool, load_box
from rgsud_fast.networks.weights import save_network
from rgsud_fast.toolchain.train import train


def test_a_runs_derainer_takes_the_place_of_streak_tools(scenes, tmp_path):
    save_network(tmp_path / "derainer.safetensors", NAFNet(4, [1], 1, [1]), "derainer")
    config = {name: value for name, value in TINY_BOX.items() if name not in ("tools", "preset")}
    config |= {"preset": "rain-box", "fit": {"steps": 1, "batch": 1, "look_every": 1, "look_patches": 1}}
    config = merge(config, {"agent": {"steps": 1}})
    train(scenes, tmp_path / "box", config=config, run=tmp_path / "derainer.safetensors", quiet=True)
    chain = load_box(tmp_path / "box")
    assert chain.names == ["derain", "drops", "noise", "blur", "jpeg", "night"]
    assert isinstance(chain.tools[0], NAFNet) and isinstance(chain.tools[1], Tool)


def test_a_toolbox_is_no_run_whose_derainer_could_be_a_tool(box, scenes, tmp_path):
    for weights in (box, box / "agent.safetensors"):
        with pytest.raises(UserError, match="holds no network that a file can build: give a run"):
            train(scenes, tmp_path / "box", config=TINY_BOX, run=weights, quiet=True)


def test_an_empty_list_of_tools_takes_the_place_of_the_presets(scenes, tmp_path):
    none = {"tools": []}
    with pytest.raises(UserError, match="tools: a toolbox needs at least one"):
        train(scenes, tmp_path / "box", config=TINY_BOX | none, quiet=True)
    train(scenes, tmp_path / "box", config=TINY_BOX | none, tools={"mine": Shift(0.0)}, quiet=True)
    assert load_box(tmp_path / "box", {"mine": Shift(0.0)}).names == ["mine"]


def test_an_own_tool_is_given_again_where_a_box_is_loaded(scenes, tmp_path):
    own = {"mine": nn.Sequential(Shift(0.0))}
    train(scenes, tmp_path / "box", config=TINY_BOX, tools=own, quiet=True)
    assert load_box(tmp_path / "box", own).names == ["soft", "sharp", "mine"]
    with pytest.raises(UserError, match="network of your own"):
        load_box(tmp_path / "box")
