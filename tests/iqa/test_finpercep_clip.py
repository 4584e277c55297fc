"""FinPercep-RM on CLIP's trunk: its features are open_clip's, its weights are the user's, and it is fitted like any."""

from __future__ import annotations

import pytest
import torch
from mapped import untrained
from safetensors.torch import save_file
from tiny import same_bits

from rgsud_fast.data import load_demo
from rgsud_fast.errors import UserError
from rgsud_fast.iqa import restore_scorer
from rgsud_fast.iqa.finpercep.clip import ClipNet, read_clip
from rgsud_fast.iqa.finpercep.fit import Fit, Recipe
from rgsud_fast.iqa.finpercep.generated import Material

BLOCKS = (1, 2, 1, 1)


@pytest.fixture
def visual():
    """A small ResNet of open_clip, whose statistics are not those of a new one."""
    module = pytest.importorskip("open_clip.modified_resnet")
    network = module.ModifiedResNet(list(BLOCKS), output_dim=8, heads=2, image_size=64, width=8)
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.rand(2, 3, 64, 64))
        for name, value in network.named_parameters():
            if name.endswith("bn3.weight"):
                value.fill_(0.7)
    return network.eval()


@pytest.fixture(params=["safetensors", "pt"])
def file(visual, tmp_path, request):
    state = {f"visual.{name}": value for name, value in visual.state_dict().items()} | {"text": torch.zeros(1)}
    path = tmp_path / f"clip.{request.param}"
    (save_file if request.param == "safetensors" else torch.save)(state, path)
    return path


def test_the_sizes_are_those_that_the_method_names():
    with torch.device("meta"):
        network = ClipNet()
    coarse = sum(p.numel() for head in network.maps[:2] for p in head.parameters())
    assert sum(p.numel() for p in network.trunk.parameters()) == 23_527_264
    assert sum(p.numel() for p in network.parameters()) - coarse == 31_261_410


def test_features_are_those_of_open_clip(visual, file):
    trunk, image = read_clip(file).trunk, torch.rand(2, 3, 64, 96)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.48145466, 0.4578275, 0.40821073),
                                                          (0.26862954, 0.26130258, 0.27577711)))  # fmt: skip
    with torch.no_grad():
        x = visual.stem((image - mean) / std)
        for level in (1, 2, 3, 4):
            x = getattr(visual, f"layer{level}")(x)
            torch.testing.assert_close(trunk(image)[level], x)


@pytest.mark.parametrize("stage, stride", [(1, 8), (2, 4), (3, 2)])
def test_each_stage_has_a_finer_map(stage, stride):
    score, spoiled = ClipNet(8, BLOCKS)(torch.rand(2, 3, 64, 96), torch.zeros(2, 3, 64, 96), stage)
    assert list(score.shape) == [2] and list(spoiled.shape) == [2, 1, 64 // stride, 96 // stride]
    ClipNet(8, BLOCKS)(torch.rand(1, 3, 41, 53), torch.zeros(1, 3, 41, 53), stage)


def test_statistics_never_change_and_the_trunk_learns_slowly(file):
    network = read_clip(file)
    before = network.trunk.bn1.running_mean.clone()
    network.train()(torch.rand(2, 3, 64, 64), torch.zeros(2, 3, 64, 64))
    assert torch.equal(network.trunk.bn1.running_mean, before) and not network.trunk.layer1.training
    rest, trunk = network.groups(1e-4)
    assert (rest["share"], trunk["share"]) == (1.0, 0.1)
    assert len(rest["params"]) + len(trunk["params"]) == len([*network.parameters()])


def test_it_is_fitted_saved_and_resumed_like_any(file):
    def fit() -> Fit:
        recipe = Recipe(32, 2, 3, 1e-4)
        return Fit(Material(load_demo().clean), untrained(0), seed=0, recipe=recipe, start=read_clip(file))

    whole, halted, resumed = fit(), fit(), fit()
    before = whole.network.trunk.conv1.weight.clone()
    whole.run()
    halted.advance(halted.batch(0))
    resumed.load_state_dict(halted.state_dict())
    assert same_bits(resumed.run().state(), whole.scorer.state())
    assert not torch.equal(whole.done[2].trunk.conv1.weight, before)
    again, image = restore_scorer("finpercep", whole.scorer.state()), torch.rand(1, 3, 40, 48)
    assert torch.equal(again.score(image, image), whole.scorer.score(image, image))


def test_wrong_files_are_told_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"--clip .*none\.pt: no such file"):
        read_clip(tmp_path / "none.pt")
    (tmp_path / "other.pt").write_bytes(b"text")
    with pytest.raises(UserError, match="is not CLIP's RN50"):
        read_clip(tmp_path / "other.pt")
    save_file({"visual.conv1.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "part.safetensors")
    with pytest.raises(UserError, match="is not CLIP's RN50"):
        read_clip(tmp_path / "part.safetensors")
