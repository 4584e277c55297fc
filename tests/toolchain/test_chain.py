"""Chains on whole photographs: votes, ties, the present state, cells, tiles; in `run`, `derain`, `evaluate`."""

import json
import shutil

import numpy as np
import pytest
import torch
from boxes import TINY_BOX, Shift, Wishes
from PIL import Image
from torch import nn

import rgsud_fast
from rgsud_fast.config.toolbox import load_toolbox_config
from rgsud_fast.data import read_image, read_photo, to_batch
from rgsud_fast.errors import UserError
from rgsud_fast.inference.toolbox import run, single_tools
from rgsud_fast.iqa.metrics import psnr
from rgsud_fast.networks import NAFNet
from rgsud_fast.networks.tiles import window_of
from rgsud_fast.networks.toolbox import Agent, Chain, Tool, load_box
from rgsud_fast.networks.toolbox.agent import NONE
from rgsud_fast.networks.toolbox.box import save_agent, save_tool
from rgsud_fast.networks.toolbox.cells import CELL, FADE, _edges, _fades, per_cell
from rgsud_fast.networks.weights import load_network, save_network

UP, DOWN, STOP = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


class Looks(nn.Module):
    """An agent whose worths depend on the brightness of what it sees: tools up and down, then stop."""

    tools, side, stop = 2, 32, 2

    def __init__(self, up=0.3, down=-0.7):
        super().__init__()
        self.seen, self.before, self.up, self.down = [], [], up, down
        self.none = nn.Parameter(torch.zeros(()))

    def forward(self, images, previous, hidden=None):
        self.seen.append(images.clone())
        self.before.append(previous.clone())
        bright = images.mean((2, 3, 4))
        return torch.stack([self.up - bright, bright + self.down, torch.full_like(bright, 0.01)], 2), None


def chain_of(agent, tools=None):
    return Chain(["up", "down"], tools or [Shift(0.25), Shift(-0.25)], agent).eval()


@pytest.fixture
def box(tmp_path):
    """A toolbox of two tools and an agent, without training."""
    torch.manual_seed(0)
    path = tmp_path / "box"
    (path / "tools").mkdir(parents=True)
    import yaml

    config = load_toolbox_config(TINY_BOX)
    (path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    save_tool(path / "tools" / "soft.safetensors", Tool())
    save_tool(path / "tools" / "sharp.safetensors", Tool("large"))
    agent = Agent(2, 32)
    agent.head.bias.data[:] = torch.tensor([5.0, 4.9, -5.0])  # never stops
    save_agent(path / "agent.safetensors", agent, ["soft", "sharp"])
    return path


def test_most_tiles_win_and_their_action_is_fed_back_to_all():
    image = torch.zeros(1, 3, 64, 96)
    image[..., :32] = 0.8  # a third of the tiles would go down
    agent = Looks()
    choice = chain_of(agent).choose(window_of(image), 64, 96)
    assert choice.steps[0].votes == {"up": 4, "down": 2, "stop": 0} and choice.steps[0].action == "up"
    assert agent.before[1].tolist() == [[0]] * 6


def test_tiles_vote_on_the_present_state():
    image = torch.full((1, 3, 64, 64), 0.25)
    agent = Looks()
    choice = chain_of(agent).choose(window_of(image), 64, 64)
    assert choice.tools == [0] and [step.action for step in choice.steps] == ["up", "stop"]
    assert float(agent.seen[0].mean()) == 0.25 and float(agent.seen[1].mean()) == 0.5


def test_of_two_actions_with_equal_votes_the_higher_mean_worth_wins():
    image = torch.zeros(1, 3, 32, 64)
    image[..., :32], image[..., 32:] = 0.2, 0.9  # one tile each; down is worth more
    assert chain_of(Looks(1.0, 0.0)).choose(window_of(image), 32, 64).steps[0].action == "down"


def test_what_costs_more_elsewhere_than_it_gains_where_most_want_it_is_not_done():
    image = torch.zeros(1, 3, 32, 160)
    image[..., :64], image[..., 64:] = 0.2, 0.72  # two tiles would go up a little, three hardly down
    step = chain_of(Looks()).choose(window_of(image), 32, 160).steps[0]
    assert step.votes == {"up": 2, "down": 3, "stop": 0}
    assert step.worth["down"] < step.worth["stop"] and step.worth["up"] < step.worth["stop"] and step.action == "stop"


def test_a_chain_keeps_the_shape_and_each_image_has_its_own():
    images = torch.stack([torch.full((3, 40, 50), 0.1), torch.full((3, 40, 50), 0.95)])
    done = chain_of(Looks())(images)
    assert done.shape == images.shape
    assert done.mean((1, 2, 3)).tolist() == pytest.approx([0.35, 0.7])


def test_smaller_photographs_are_refused_in_words():
    with pytest.raises(UserError, match="40 x 31 pixels: the agent of this toolbox needs at least 32"):
        chain_of(Looks())(torch.zeros(1, 3, 31, 40))


def test_windows_around_tiles_show_what_the_whole_photograph_would():
    torch.manual_seed(0)
    tools = [Tool(), Tool("large")]
    image = torch.rand(1, 3, 150, 170)
    agent = Wishes(UP, DOWN, STOP)
    chain = chain_of(agent, tools)
    with torch.no_grad():
        chain.choose(window_of(image), 150, 170)
        state = tools[1](tools[0](image))
    tops, lefts = [11, 43, 75, 107], [5, 37, 69, 101, 133]
    tiles = torch.cat([state[..., y : y + 32, x : x + 32] for y in tops for x in lefts])
    torch.testing.assert_close(agent.seen[2][:, 0], tiles, atol=1e-5, rtol=1e-5)


def test_at_most_256_tiles_vote_spread_over_the_photograph():
    agent, image = Wishes(STOP), torch.zeros(1, 3, 32 * 20, 32 * 20)
    image[..., -32:, :] = 1
    chain_of(agent).choose(window_of(image), *image.shape[-2:])
    assert len(agent.seen[0]) == 256 and 9 <= int(agent.seen[0].mean((1, 2, 3, 4)).sum()) <= 16


def test_cells_choose_for_themselves_and_fade_into_one_another():
    image = torch.full((1, 3, 128, 192), 0.5)
    image[..., :64] = 0.1
    done = per_cell(chain_of(Looks()), image)
    assert done.grid == (2, 3) and done.actions[0] == ["up", "stop", "stop"] * 2
    assert done.actions[1] == ["stop"] * 6 and len(done.actions) == 2
    assert torch.allclose(done.image[..., : 64 - FADE], torch.tensor(0.35))
    assert torch.allclose(done.image[..., 64 + FADE :], torch.tensor(0.5))


def test_equal_choices_of_cells_give_what_the_whole_gives():
    torch.manual_seed(0)
    chain = chain_of(Wishes(UP, DOWN, STOP), [Tool(), Tool("large")])
    image = torch.rand(1, 3, 150, 131)
    with torch.no_grad():
        whole = chain.applied([0, 1])(image)
    torch.testing.assert_close(per_cell(chain, image).image, whole, atol=1e-5, rtol=1e-5)
    fades = _fades(_edges(150))
    assert len(fades) == 2 and torch.allclose(fades.sum(0), torch.ones(150))


def test_a_tool_that_sees_far_is_refused_for_cells():
    chain = chain_of(Wishes(UP), [NAFNet(4, [1], 1, [1]), Shift(0.1)])
    for parameter in chain.tools[0].parameters():
        nn.init.normal_(parameter, 0.0, 0.3)
    with pytest.raises(UserError, match="the tool up sees more than 32 pixels"):
        per_cell(chain, torch.rand(1, 3, CELL, CELL))


def test_a_stop_is_never_fed_back_to_a_cell():
    agent = Looks()
    image = torch.full((1, 3, 64, 128), 0.5)
    image[..., :64] = 0.1
    per_cell(chain_of(agent), image)
    assert [before[:, 0].tolist() for before in agent.before] == [[NONE, NONE], [0, NONE]]


def test_run_derain_and_evaluate_take_a_box(box, tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("rainy", "clean"):
        (tmp_path / "pairs" / folder).mkdir(parents=True)
        for i in range(2):
            pixels = rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pairs" / folder / f"{i}.png")
    one = tmp_path / "pairs" / "rainy" / "0.png"
    image, steps = rgsud_fast.toolbox.run(box, one, trace=True)
    assert image.shape == (3, 50, 60) and len(steps) == 3 and set(steps[0]["worth"]) == {"soft", "sharp", "stop"}
    derained = rgsud_fast.derain(box, one)
    torch.testing.assert_close(derained, image, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rgsud_fast.derain(load_network(box), one), image, atol=1e-5, rtol=1e-5)
    figures = rgsud_fast.evaluate(box, tmp_path / "pairs" / "rainy", tmp_path / "pairs" / "clean")
    assert len(figures["images"]) == 2
    assert rgsud_fast.evaluate(box, pairs=tmp_path / "pairs")["psnr_rgb"] == figures["psnr_rgb"]
    alone = single_tools(box, tmp_path / "pairs" / "rainy", tmp_path / "pairs" / "clean")
    made = [
        load_box(box).tools[0](to_batch(read_image(path))) for path in sorted((tmp_path / "pairs" / "rainy").iterdir())
    ]
    truth = [to_batch(read_image(path)) for path in sorted((tmp_path / "pairs" / "clean").iterdir())]
    expected = sum(float(psnr(*pair)) for pair in zip(made, truth, strict=True)) / 2
    assert set(alone) == {"soft", "sharp"} and alone["soft"] == pytest.approx(expected, abs=1e-3)
    written = run(box, tmp_path / "pairs" / "rainy", tmp_path / "out", trace=tmp_path / "trace")
    assert [path.name for path in written] == ["0.png", "1.png"]
    told = json.loads((tmp_path / "trace" / "0.json").read_text())
    assert [step["action"] for step in told["steps"]] == [step["action"] for step in steps]
    assert len(list((tmp_path / "trace").glob("0-*.png"))) == 3
    assert len(run(box, one, trace=True, steps=1)[1]) == 1


def test_a_chain_is_chosen_by_the_whole_photograph_and_applied_by_tiles(box):
    chain, image = load_box(box), torch.rand(3, 90, 120)
    whole = rgsud_fast.derain(chain, image, tile=0)
    tiled = rgsud_fast.derain(chain, image, tile=112, overlap=96)
    torch.testing.assert_close(tiled, whole, atol=2e-3, rtol=0)


def test_sixteen_bits_and_metadata_are_kept(box, tmp_path):
    import cv2

    deep = (np.random.default_rng(0).random((70, 80, 3)) * 65535).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    for how in ({}, {"per_tile": True}):
        (path,) = run(box, tmp_path / "deep.png", tmp_path / "out.png", **how)
        made = read_photo(path)
        assert made.pixels.dtype == np.uint16 and len(np.unique(made.pixels)) > 3000


def test_refused_in_words(box, tmp_path):
    with pytest.raises(UserError, match="for photographs, not for videos"):
        run(box, tmp_path / "a.mp4")
    with pytest.raises(UserError, match="steps 4 must be from 1 to 3"):
        run(box, tmp_path / "a.png", steps=4)
    with pytest.raises(UserError, match=r"tile must be at least 0 .0: whole images., got -4"):
        run(box, tmp_path / "a.png", tile=-4)
    with pytest.raises(UserError, match="decides as it goes"):
        rgsud_fast.export(box, "onnx", tmp_path / "a.onnx")
    (box / "agent.safetensors").unlink()
    with pytest.raises(UserError, match="is a toolbox without an agent yet: rgsud-fast toolbox train --resume"):
        rgsud_fast.derain(box, torch.rand(3, 40, 40))


def test_a_tool_alone_is_a_derainer_and_can_be_exported(box, tmp_path):
    path = box / "tools" / "soft.safetensors"
    assert isinstance(load_network(path), Tool)
    exported = rgsud_fast.export(path, "torchscript", tmp_path / "soft.pt")
    assert exported.difference < 1e-5


def test_a_tool_is_added_and_the_agent_has_to_learn_anew(box, tmp_path):
    save_network(tmp_path / "derainer.safetensors", NAFNet(4, [1], 1, [1]), "derainer")
    rgsud_fast.toolbox.add(box, "mine", tmp_path / "derainer.safetensors")
    assert not (box / "agent.safetensors").exists()
    assert [tool.name for tool in load_toolbox_config(box / "config.yaml").tools] == ["soft", "sharp", "mine"]
    with pytest.raises(UserError, match="has a tool mine already"):
        rgsud_fast.toolbox.add(box, "mine", tmp_path / "derainer.safetensors")
    with pytest.raises(UserError, match=r"tools.*name"):
        rgsud_fast.toolbox.add(box, "../b", tmp_path / "derainer.safetensors")


def test_what_can_be_no_tool_is_not_added_and_the_box_stays_as_it_was(box, tmp_path):
    other = shutil.copytree(box, tmp_path / "other")
    before = {path.relative_to(box): path.read_bytes() for path in box.rglob("*") if path.is_file()}
    for weights in (other, other / "agent.safetensors"):
        with pytest.raises(UserError, match="holds no network that a file can build: give a run"):
            rgsud_fast.toolbox.add(box, "inner", weights)
        assert all((box / name).read_bytes() == content for name, content in before.items())
        assert not (box / "tools" / "inner.safetensors").exists()
    with pytest.raises(UserError, match="stop is what the agent does without a tool"):
        rgsud_fast.toolbox.add(box, "stop", box / "tools" / "soft.safetensors")


def test_the_page_derains_with_a_box(box, tmp_path):
    from rgsud_fast.demo_page.worker import Worker
    from rgsud_fast.networks.weights import find_weights

    file = find_weights(box)
    assert file.parent == box  # whose gallery the page shows
    pixels = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    made = Worker(load_network(file, "derainer"), None, "cpu", tmp_path).develop(tmp_path / "photo.png")
    expected = rgsud_fast.derain(box, tmp_path / "photo.png")
    assert np.abs(read_photo(made.result).pixels - expected.permute(1, 2, 0).numpy() * 255).max() < 1
