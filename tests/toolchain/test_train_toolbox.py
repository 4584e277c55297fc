"""A toolbox from photographs: phases, resume to the same bits, the gate, joint tuning, and what is refused."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from boxes import TINY_BOX, Shift, patches, write_scenes
from PIL import Image
from safetensors.torch import load_file
from tiny import same_bits
from torch import nn

from rgsud_fast.config import merge
from rgsud_fast.config.toolbox import load_toolbox_config
from rgsud_fast.errors import UserError
from rgsud_fast.networks.toolbox import Agent, Chain, load_box
from rgsud_fast.networks.weights import find_weights, load_network
from rgsud_fast.runs.folder import RunFolder
from rgsud_fast.system import side_by_side
from rgsud_fast.system.watch import nobody
from rgsud_fast.toolchain import train as module
from rgsud_fast.toolchain.environment import play
from rgsud_fast.toolchain.fit_agent import FitAgent
from rgsud_fast.toolchain.fit_tools import FitTools
from rgsud_fast.toolchain.joint import TuneJointly
from rgsud_fast.toolchain.train import PHASES, train
from rgsud_fast.toolchain.workshop import Workshop, open_photographs


def results(box):
    told = json.loads((box / "metrics.json").read_text())
    return told | {str(file.relative_to(box)): load_file(file) for file in box.rglob("*.safetensors")}


def test_two_threads_make_the_toolbox_that_one_makes(scenes, box, tmp_path, monkeypatch):
    monkeypatch.setattr(side_by_side, "usable_cpus", lambda: 2)
    torch.set_num_threads(2)
    try:
        train(scenes, tmp_path / "box", config=TINY_BOX, quiet=True)
    finally:
        torch.set_num_threads(1)
    assert same_bits(results(tmp_path / "box"), results(box))


class Killed(BaseException):
    """In place of a kill: nothing is caught, nothing saved."""


def kill_once(monkeypatch, kind, after):
    """Let a phase die before its part number `after`, or in its end where there are no more."""
    parts, advance, finish = [], kind.advance, kind.finish

    def dying(self):
        parts.append(1)
        if len(parts) > after:
            raise Killed
        return advance(self)

    def dying_at_the_end(self):
        finish(self)
        raise Killed

    monkeypatch.setattr(kind, "advance", dying)
    monkeypatch.setattr(kind, "finish", dying_at_the_end)


@pytest.mark.parametrize("minutes", [0, 99], ids=["saved always", "saved between phases"])
def test_killed_in_every_phase_and_at_its_end_it_goes_on_to_the_same_bits(box, scenes, tmp_path, minutes):
    other = tmp_path / "killed"
    resume = False
    for kind in PHASES:
        for after in (1, 99_999):
            with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
                kill_once(patch, kind, after)
                if resume:
                    train(out=other, resume=True, quiet=True)
                else:
                    train(scenes, other, config={**TINY_BOX, "save_minutes": minutes}, quiet=True)
            resume = (other / "checkpoint.pt").is_file()
            if not resume:
                (other / "checkpoint.pt").unlink(missing_ok=True)
    train(out=other, resume=True, quiet=True)
    assert same_bits(results(other), results(box))
    rows = [json.loads(line) for line in (other / "metrics.jsonl").read_text().splitlines()]
    assert rows == [json.loads(line) for line in (box / "metrics.jsonl").read_text().splitlines()]


def test_an_interruption_saves_and_resume_goes_on_to_the_same_bits(box, scenes, tmp_path, monkeypatch):
    advance = module.FitAgent.advance

    def interrupted(self):
        if self.rounds == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return advance(self)

    monkeypatch.setattr(module.FitAgent, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(scenes, tmp_path / "box", config=TINY_BOX, quiet=True, save_minutes=99)
    monkeypatch.setattr(module.FitAgent, "advance", advance)
    assert module._load(tmp_path / "box" / "checkpoint.pt")["phase"]["rounds"] == 3
    train(out=tmp_path / "box", resume=True, quiet=True)
    assert same_bits(results(tmp_path / "box"), results(box))


def test_a_box_is_a_derainer_that_keeps_the_shape(box):
    chain = load_network(box)
    assert isinstance(chain, Chain) and chain.names == ["soft", "sharp"]
    image = torch.rand(2, 3, 70, 41)
    assert chain(image).shape == image.shape
    page = (box / "gallery.html").read_text()
    assert all(text in page for text in ("Ladder", "What each tool does", "best fixed chain", "The worst of them"))
    assert "full search" in page and "One network as large" in (box / "README.md").read_text()


def test_metrics_tell_ladder_gate_matrix_and_stops(box):
    metrics = json.loads((box / "metrics.json").read_text())
    assert set(metrics["matrix"]) == set(metrics["matrix"]["soft"]) == {"soft", "sharp"}
    for severity in ("mild", "moderate", "severe"):
        found = metrics["ladder"][severity]
        assert (
            found["nothing"] == 0 and 0 <= found["stops"] <= 1 and found["searched"] >= found["agent_searched"] - 1e-4
        )
        assert found["greedy"] >= 0 and np.shape(found["actions"]) == (3, 3)
    assert metrics["agent"]["environment_steps"] >= 40 and set(metrics["gate"]["tools"]) == {"soft", "sharp"}


def test_held_out_photographs_choose_nothing(box, scenes, tmp_path):
    config = load_toolbox_config({**TINY_BOX, "clean": scenes})
    photographs = open_photographs(scenes, tmp_path / "cache", nobody)._replace(held_out=[])
    workshop = Workshop(config, RunFolder(tmp_path), photographs, torch.device("cpu"))
    for kind in (FitTools, FitAgent, TuneJointly):
        shutil.copytree(box, tmp_path, dirs_exist_ok=True)
        phase = kind(workshop)
        while not phase.ended:
            phase.advance()
        state = phase.state_dict()
        assert state.get("gains", {"soft": 0}) and state.get("best", 0) > -99


@pytest.mark.parametrize("one_cycle, looks", [(True, 3), (False, 1)])
def test_patience_ends_what_does_not_gain_unless_its_rate_is_one_cycle(box, scenes, tmp_path, one_cycle, looks):
    """Nothing counts as progress here; of 6 and of 4 steps each second one is followed by a look."""
    fit = {"optimizer": "adam" if one_cycle else "sgd", "patience": 1, "least_gain": 1e9}
    joint = {"one_cycle": one_cycle, "patience": 1, "least_gain": 1e9}
    config = load_toolbox_config(merge({**TINY_BOX, "clean": scenes}, {"fit": fit, "joint": joint}))
    shutil.copytree(box, tmp_path, dirs_exist_ok=True)
    photographs = open_photographs(scenes, tmp_path / "cache", nobody)
    workshop = Workshop(config, RunFolder(tmp_path), photographs, torch.device("cpu"))
    tools, chains = FitTools(workshop), TuneJointly(workshop)
    tools.best = 0.0  # the first look is no progress either
    rows = []
    while tools.turn == 0:
        rows.append(tools.advance())
    assert sum(map(bool, rows)) == looks
    rows = []
    while not chains.ended:
        rows.append(chains.advance())
    assert sum(map(bool, rows)) == min(looks, 2)


def test_the_gate_names_the_tool_that_never_helps(scenes, tmp_path):
    config = merge(TINY_BOX, {"measure": {"gate_share": 0.05}})
    config["tools"] = [*TINY_BOX["tools"], {"name": "bad", "damage": "given"}]
    with pytest.raises(UserError, match=r"gate: the tool \w+ helps 0 % .* more fit.steps or wider bands"):
        train(scenes, tmp_path / "box", config=config, tools={"bad": Shift(0.9)}, quiet=True)
    assert not (tmp_path / "box" / "agent.safetensors").exists()
    with pytest.raises(UserError, match=r"gate: the best chains gain -?\d.* 50.00 are needed"):
        train(scenes, tmp_path / "other", config=merge(TINY_BOX, {"measure": {"gate_gain": 50}}), quiet=True)


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(box, scenes, tmp_path, monkeypatch):
    import rgsud_fast.toolchain.fit_agent as fitting

    whole = fitting.offers_loss
    monkeypatch.setattr(fitting, "offers_loss", lambda *args: whole(*args) * float("nan"))
    with pytest.raises(UserError, match=r"agent: the loss is not finite after .* the last checkpoint in .* is kept"):
        train(scenes, tmp_path / "box", config=TINY_BOX, quiet=True)
    monkeypatch.undo()
    train(out=tmp_path / "box", resume=True, quiet=True)
    assert same_bits(results(tmp_path / "box"), results(box))


def test_what_is_refused_in_words(scenes, box, tmp_path):
    few = write_scenes(tmp_path / "few", 5)
    with pytest.raises(UserError, match="5 photographs can be used; a toolbox needs 20"):
        train(few, tmp_path / "a", config=TINY_BOX, quiet=True)
    assert not (tmp_path / "a").exists()
    small = write_scenes(tmp_path / "small", 20)
    Image.new("RGB", (90, 200)).save(small / "narrow.png")
    with pytest.raises(UserError, match=r"narrow.png: 90 x 200 pixels; a toolbox needs 96"):
        train(small, tmp_path / "b", config=TINY_BOX, quiet=True)
    with pytest.raises(UserError, match="already holds something trained: add --resume"):
        train(scenes, box, config=TINY_BOX, quiet=True)
    with pytest.raises(UserError, match="nothing to resume"):
        train(out=tmp_path / "none", resume=True, quiet=True)
    with pytest.raises(UserError, match="goes on as it was begun"):
        train(out=box, preset="rain-box", resume=True, quiet=True)
    with pytest.raises(UserError, match="must keep the shape"):
        train(scenes, tmp_path / "c", config=TINY_BOX, tools={"half": nn.AvgPool2d(2)}, quiet=True)
    with pytest.raises(UserError, match=r"config: agent.sides: no such field"):
        train(scenes, tmp_path / "d", config={"agent": {"sides": 3}}, quiet=True)
    with pytest.raises(UserError, match="tools: two of them are called soft"):
        train(scenes, tmp_path / "e", config={"tools": TINY_BOX["tools"][:1] * 2}, quiet=True)
    with pytest.raises(UserError, match="holds no finished toolbox: make one"):
        load_box(tmp_path)
    for name in ("config.yaml", "derainer.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="holds no finished toolbox: make one"):
        load_box(tmp_path)  # a run of another kind
    (tmp_path / "f" / "tools").mkdir(parents=True)
    with pytest.raises(UserError, match="is a toolbox, which has no generator"):
        find_weights(tmp_path / "f", "generator")


def test_a_box_whose_tools_are_not_the_agents_is_refused(box, tmp_path):
    other = shutil.copytree(box, tmp_path / "box")
    text = (other / "config.yaml").read_text().replace("name: sharp", "name: other")
    (other / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"the tools soft, sharp, and the toolbox has soft, other: .* --agent-anew"):
        load_box(other)


def test_tools_are_written_inside_also_in_a_folder_of_somebody_elses(box, tmp_path):
    other = shutil.copytree(box, tmp_path / "box")
    shutil.rmtree(other / "tools-joint")
    (tmp_path / "outside").mkdir()
    (other / "tools-joint").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="tools-joint is a link that leads out of the toolbox: remove it"):
        train(out=other, resume=True, quiet=True)
    assert not list((tmp_path / "outside").iterdir())


def test_training_learns(scenes, tmp_path):
    """A denoiser for a minute would; for this test a tool learns a little, and an agent to prefer it to harm."""
    torch.manual_seed(0)
    clean = patches(24)
    damaged = clean + 0.15
    agent, tools = Agent(2, 32), [Shift(-0.15), Shift(0.3)]
    from rgsud_fast.toolchain.dqn import dqn_loss
    from rgsud_fast.toolchain.replay import Batch

    optimizer = torch.optim.Adam([p for p in agent.parameters() if p.requires_grad], 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        drawn = torch.randint(3, (24, 3), generator=generator)
        played = play(
            agent, tools, damaged, clean, decide=lambda worth, step, drawn=drawn: drawn[:, step], ends_below=True
        )
        batch = Batch(played.states.float(), played.actions, (played.rewards / 50).clamp(-1, 1), played.offers)
        optimizer.zero_grad()
        dqn_loss(agent, agent, batch, 0.9).backward()
        optimizer.step()
    assert (play(agent, tools, damaged, clean).actions[:, 0] == 0).all()
