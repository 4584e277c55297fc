"""A toolbox's agent in ONNX: step by step it says what it says here."""

import pytest
import torch
from boxes import TINY_BOX

from rgsud_fast.config.toolbox import load_toolbox_config
from rgsud_fast.errors import UserError
from rgsud_fast.inference.export import BOUND, export
from rgsud_fast.inference.export_agent import Step, example
from rgsud_fast.networks.toolbox import Agent, Tool, load_box
from rgsud_fast.networks.toolbox.agent import NONE
from rgsud_fast.networks.toolbox.box import CONFIG, save_agent, save_tool


@pytest.fixture(params=[False, True], ids=["paper", "pooled"])
def box(request, tmp_path):
    (tmp_path / "tools").mkdir()
    config = load_toolbox_config(TINY_BOX)
    (tmp_path / CONFIG).write_text(config.model_dump_json())  # JSON is YAML
    for tool in config.tools:
        save_tool(tmp_path / "tools" / f"{tool.name}.safetensors", Tool())
    save_agent(tmp_path / "agent.safetensors", Agent(2, 32, request.param), ["soft", "sharp"])
    return tmp_path


def test_a_step_is_the_agents():
    agent = Agent(3, 32).eval()
    images, previous = torch.rand(2, 3, 3, 32, 32), torch.tensor([[NONE, 0, 2], [NONE, 1, 1]])
    whole, _ = agent(images, previous)
    memory = torch.zeros(2, 50), torch.zeros(2, 50)
    for step in range(3):
        worth, *after = Step(agent)(images[:, step], previous[:, step], *memory)
        memory = after[0], after[1]
        torch.testing.assert_close(worth, whole[:, step])


def test_agent_in_onnx_runtime(box):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path, difference, _ = export(box / "agent.safetensors", "onnx")
    assert path == box / "agent.onnx" and difference <= BOUND
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    assert names == ["image", "previous", "hidden", "cell"]
    given = {name: value.numpy() for name, value in zip(names, example(Agent(2, 32), 4), strict=True)}
    made = session.run(None, given)
    assert [value.shape for value in made] == [(4, 3), (4, 50), (4, 50)]


def test_tools_of_a_box_are_exported_side_by_side(box):
    written = {export(box / "tools" / f"{name}.safetensors", "torchscript").path for name in ("soft", "sharp")}
    assert written == {box / "tools" / "soft.pt", box / "tools" / "sharp.pt"}


def test_a_whole_chain_is_refused_and_says_what_can_be_exported(box):
    with pytest.raises(UserError, match=r"export its tools, each a file .* and, to onnx, its agent.safetensors"):
        export(box, "onnx")
    with pytest.raises(UserError, match="a chain: a chain of tools decides"):
        export(load_box(box), "onnx")


def test_an_agent_has_the_ending_of_its_format(box):
    pytest.importorskip("onnx", reason="exporting needs pip install -e '.[export]'")
    with pytest.raises(UserError, match=r"agent\.pt must end in \.onnx"):
        export(box / "agent.safetensors", "onnx", box / "agent.pt")
