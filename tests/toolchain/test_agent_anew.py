"""Another agent for tools that are there, and what a toolbox says of an agent or tools that are no good."""

from __future__ import annotations

import shutil

import pytest
import torch
import yaml
from boxes import TINY_BOX, write_scenes
from safetensors.torch import load_file
from tiny import same_bits

from rgsud_fast import cli
from rgsud_fast.config import merge
from rgsud_fast.config.toolbox import load_toolbox_config
from rgsud_fast.errors import UserError
from rgsud_fast.networks.toolbox import load_box
from rgsud_fast.runs.folder import RunFolder
from rgsud_fast.toolchain import workshop as workshop_module
from rgsud_fast.toolchain.finish import advice
from rgsud_fast.toolchain.fit_agent import FitAgent
from rgsud_fast.toolchain.settings import Asked, settings_anew, settings_of, with_its_tools
from rgsud_fast.toolchain.train import train
from rgsud_fast.toolchain.workshop import open_box

OLDER = {
    "turns": False,
    "every_tool": False,
    "average": 0.0,
    "pooled": False,
    "jitter": 0.0,
    "undamaged": 0.0,
}  # agents of before there were these fields
NOTHING = Asked(None, None, None, None, {})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Photographs, and a whole toolbox of them whose agent learned by Q learning and saw no turned patches."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("anew")
    clean = write_scenes(root / "clean")
    train(clean, root / "box", config=merge(TINY_BOX, {"agent": OLDER}), quiet=True)
    return clean, root / "box"


@pytest.fixture
def box(made, tmp_path):
    return shutil.copytree(made[1], tmp_path / "box")


def weights(box, name):
    return load_file(box / name)


def test_another_agent_leaves_the_tools_and_takes_new_fields(made, box, tmp_path):
    (tmp_path / "more.yaml").write_text("agent: {total: 60, turns: true}\n")
    args = ["toolbox", "train", "--resume", "--agent-anew", "--config", tmp_path / "more.yaml", "--out", box]
    assert cli.main([str(arg) for arg in args]) == 0
    config = yaml.safe_load((box / "config.yaml").read_text())
    assert config["agent"]["total"] == 60 and config["agent"]["turns"] and config["agent"]["side"] == 32
    for name in ("tools/soft.safetensors", "tools/sharp.safetensors"):
        assert same_bits(weights(box, name), weights(made[1], name))
    assert not same_bits(weights(box, "agent.safetensors"), weights(made[1], "agent.safetensors"))
    assert (box / "metrics.json").is_file() and (box / "tools-joint").is_dir()


def test_with_the_same_fields_it_is_the_same_agent(made, box):
    train(out=box, resume=True, agent_anew=True, quiet=True)
    assert same_bits(weights(box, "agent.safetensors"), weights(made[1], "agent.safetensors"))


def test_a_finished_box_that_lost_its_agent_says_how_to_get_another(box):
    (box / "agent.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no agent .* --resume --agent-anew --out"):
        train(out=box, resume=True, quiet=True)
    train(out=box, resume=True, agent_anew=True, quiet=True)
    load_box(box)


def forget_later_fields(box):
    """As a box is written that knows them not."""
    config = yaml.safe_load((box / "config.yaml").read_text())
    for field in OLDER:
        del config["agent"][field]
    (box / "config.yaml").write_text(yaml.safe_dump(config))


def test_an_agent_that_began_before_there_were_later_fields_goes_on_without(made, box):
    forget_later_fields(box)
    workshop = open_box(box)
    assert workshop.config.agent.every_tool and FitAgent(workshop).episodes.turns  # of a new one
    train(out=box, resume=True, agent_anew=True, quiet=True, agent=OLDER)
    train(out=box, resume=True, quiet=True)
    assert same_bits(weights(box, "agent.safetensors"), weights(made[1], "agent.safetensors"))


def test_tools_that_began_before_they_could_be_idle_go_on_without(tmp_path):
    (tmp_path / "config.yaml").write_text("preset: rain-box\nfit: {steps: 3}\n")
    new = load_toolbox_config({"preset": "rain-box"})
    assert new.fit.idle > 0 and new.agent.pooled and min(new.agent.jitter, new.agent.undamaged) > 0
    begun = settings_of(tmp_path, True, NOTHING, None)
    assert begun.fit.idle == 0 and not begun.agent.pooled and begun.agent.jitter == begun.agent.undamaged == 0
    (tmp_path / "tools").mkdir()
    for tool in new.tools:
        (tmp_path / "tools" / f"{tool.name}.safetensors").touch()
    anew = settings_anew(tmp_path, True, NOTHING)
    assert anew.fit.idle == 0 and anew.agent.pooled  # its tools are those of before, its agent is not
    assert with_its_tools(tmp_path).fit.idle == 0


def test_a_tool_leaves_damage_of_other_kinds_and_no_more(made, box, monkeypatch):
    asked = []
    monkeypatch.setattr(workshop_module, "tool_batch", lambda *given: asked.append(given) or (None, None))
    workshop = open_box(box)
    kinds = {"a": "noise", "b": "noise", "c": "blur", "d": "given"}
    bands = [{"name": name, "damage": kind, "low": 1, "high": 2} for name, kind in kinds.items()]
    workshop.config = load_toolbox_config({"tools": bands, "fit": {"idle": 0.25}})
    workshop.lessons(0, range(3))
    *_, share, others = asked[0]
    assert share == 0.25 and [other.name for other in others] == ["c"]


def test_the_agent_that_is_kept_is_the_moving_average_of_the_one_that_learns(made, box):
    forget_later_fields(box)  # so that the preset's count
    phase = FitAgent(open_box(box))
    while phase.done < 20:
        phase.advance()
    phase.finish()
    kept = weights(box, "agent.safetensors")
    assert phase.average is not None and same_bits(kept, phase.average.module.state_dict())
    assert not same_bits(kept, phase.agent.state_dict())


@pytest.mark.parametrize(
    "options, told",
    [
        ({"agent_anew": True}, "give --resume with --agent-anew"),
        ({"agent_anew": True, "resume": True, "preset": "rain-box"}, "and no preset"),
        ({"agent_anew": True, "resume": True, "seed": 3}, "seed: of this the tools in .* were made"),
    ],
)
def test_mistakes_are_told_and_change_nothing(made, box, options, told):
    with pytest.raises(UserError, match=told) as caught:
        train(out=box, quiet=True, **options)
    assert "\n" not in str(caught.value) and (box / "agent.safetensors").is_file()


def test_tools_that_are_not_trained_get_no_agent(box):
    (box / "tools" / "soft.safetensors").unlink()
    with pytest.raises(UserError, match="are not trained yet: give --resume alone"):
        train(out=box, resume=True, agent_anew=True, quiet=True)


def test_an_agent_worse_than_its_best_single_tool_and_dead_tools_are_told_with_the_mend():
    metrics = {
        "ladder": {"mean": {"agent": 0.5, "single": 1.25}},
        "rivals": {"single": ["noise-1"]},
        "gate": {"tools": {"noise-1": {"helps": 0.5}, "jpeg-2": {"helps": 0.0}}},
    }
    dead, poor = advice(metrics, RunFolder("boxes/mine"))
    assert "helped none of the gate's images: jpeg-2; start anew without them" in dead
    assert "+0.50 dB, less than its best single tool (noise-1, +1.25 dB)" in poor
    assert "toolbox train --resume --agent-anew --config FILE --out boxes/mine" in poor and "agent.total" in poor
    worse = {"ladder": {"mean": {"agent": -0.5, "single": 0.0}}, "rivals": {"single": []}}
    assert "-0.50 dB, less than doing nothing: " in advice(metrics | worse, RunFolder("boxes/mine"))[1]
    metrics["ladder"]["mean"]["agent"], metrics["gate"]["tools"]["jpeg-2"]["helps"] = 1.25, 0.01
    assert advice(metrics, RunFolder("boxes/mine")) == []


@pytest.mark.parametrize("anew", [False, True])
def test_other_photographs_are_refused_and_a_moved_folder_is_not(made, box, tmp_path, anew):
    others = write_scenes(tmp_path / "others", count=21)
    with pytest.raises(UserError, match=f"{others} does not hold the photographs that {box} was made of"):
        train(others, box, resume=True, agent_anew=anew, quiet=True)
    assert same_bits(weights(box, "agent.safetensors"), weights(made[1], "agent.safetensors"))
    moved = shutil.copytree(made[0], tmp_path / "moved")
    train(moved, box, resume=True, quiet=True)
    assert open_box(box).config.clean == moved


@pytest.mark.parametrize("cut", ["shutil.rmtree", "save_config"])
def test_a_change_that_is_cut_short_leaves_a_toolbox_that_goes_on(made, box, monkeypatch, cut):
    def fail(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"rgsud_fast.toolchain.train.{cut}", fail)
        train(out=box, resume=True, agent_anew=True, quiet=True, agent={"total": 60})
    train(out=box, resume=True, quiet=True)
    assert same_bits(weights(box, "agent.safetensors"), weights(made[1], "agent.safetensors"))
