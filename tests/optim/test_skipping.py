"""Steps whose gradients are not finite are skipped without a trace and counted; too many in a row end the run."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny import TINY_NETWORKS, darkness, same_bits
from torch import nn

from rgsud_fast.config import Config
from rgsud_fast.data import Domains, FolderSet
from rgsud_fast.errors import UserError
from rgsud_fast.iqa import make_scorer
from rgsud_fast.optim.skipping import StepFilter, not_finite
from rgsud_fast.runs.checkpoint import load_checkpoint
from rgsud_fast.runs.folder import RunFolder
from rgsud_fast.training import train
from rgsud_fast.training.feed import Feed
from rgsud_fast.training.trainer import Trainer


def trainer_of(derainer: nn.Module | None = None) -> Trainer:
    generator = np.random.default_rng(0)
    arrays = [generator.integers(0, 256, (48, 48, 3), dtype=np.uint8) for _ in range(3)]
    images = FolderSet.from_arrays(["a", "b", "c"], arrays)
    optim = {"discriminator_warmup": 0, "discriminator_reals": 1, "hold": 1.0, "ema_decay": 0.9}
    config = Config(preset="small-gan", batch=2, crop=32, network=TINY_NETWORKS, optim=optim)
    scorer = make_scorer(darkness, images, images)
    return Trainer(config, Domains(images, images), scorer, torch.device("cpu"), derainer)


class Statistics(nn.Module):
    """A user's own derainer, which keeps running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))

    def forward(self, image):
        return self.layers(image)


def spoil(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same batch with one pixel that is not a number."""
    rainy = batch["rainy"].clone()
    rainy[0, 0, 0, 0] = float("nan")
    return batch | {"rainy": rainy, "reals": rainy}


def learned(trainer: Trainer) -> dict:
    """All that a step may change."""
    state = trainer.state_dict()
    return {name: state[name] for name in ("networks", "average", "optimizer", "discriminator_optimizer")}


@pytest.mark.parametrize("own", [None, Statistics], ids=["NAFNet", "running statistics"])
def test_a_bad_batch_leaves_no_trace(monkeypatch, own):
    def run(order):
        torch.manual_seed(0)
        trainer = trainer_of(own and own())
        batches = iter([spoil(images(trainer.feed, 0)) if n is None else images(trainer.feed, n) for n in order])
        monkeypatch.setattr(Feed, "images", lambda *_: next(batches))
        for _ in order:
            trainer.iterate()
        return trainer

    images = Feed.images
    clean, spoiled = run([0, 1, 2]), run([None, 0, None, None, 1, 2])
    assert same_bits(learned(clean), learned(spoiled))
    for step_filter in spoiled.train_step.filters.values():
        assert (step_filter.skipped, step_filter.row, step_filter.longest) == (3, 0, 2)
    assert all(step_filter.skipped == 0 for step_filter in clean.train_step.filters.values())


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_skipped_step_keeps_weights_moments_and_counts(capturable, bad):
    def run(gradients):
        weights = nn.Parameter(torch.arange(70.0))
        rate = torch.tensor(0.1) if capturable else 0.1
        step_filter = StepFilter(
            torch.optim.Adam([weights], lr=rate, fused=True, capturable=capturable), weights.device, []
        )
        for scale in gradients:
            weights.grad = torch.full((70,), 0.5)
            weights.grad[3] = scale
            step_filter.step([weights.grad.norm()])
        return [weights.detach(), *step_filter.optimizer.state[weights].values()]

    assert same_bits(run([1.0, 2.0]), run([bad, 1.0, bad, bad, 2.0, bad]))


def test_the_discriminator_is_guarded_for_itself():
    trainer = trainer_of()
    inputs = trainer.feed.images(0)
    before = [parameter.clone() for parameter in trainer.nets.discriminator.parameters()]
    trainer.train_step.generator_side(1, inputs | {"reals": torch.full_like(inputs["reals"], float("inf"))})
    assert all(map(torch.equal, before, trainer.nets.discriminator.parameters()))
    assert (trainer.train_step.filter.skipped, trainer.train_step.discriminator_filter.skipped) == (0, 1)


def test_counts_are_saved_and_older_checkpoints_have_none():
    trainer, resumed = trainer_of(), trainer_of()
    for _ in range(2):
        trainer.train_step.generator_side(1, spoil(trainer.feed.images(0)))
    state = trainer.state_dict()
    resumed.load_state_dict(state)
    assert (resumed.train_step.filter.skipped, resumed.train_step.filter.row, resumed.train_step.filter.longest) == (
        2,
        2,
        2,
    )
    resumed = trainer_of()
    resumed.load_state_dict({name: value for name, value in state.items() if name not in ("guards", "patience")})
    assert resumed.train_step.filter.skipped == 0


def test_a_network_that_is_not_finite_is_named():
    good, bad = nn.Linear(3, 3), nn.BatchNorm2d(2)
    assert not_finite({"good": good, "bad": bad}) == []
    bad.running_mean[1] = float("inf")
    assert not_finite({"good": good, "bad": bad}) == ["bad"]


def poison(monkeypatch, step: int) -> None:
    """Make the generator's weights not finite before an iteration."""
    iterate = Trainer.iterate

    def poisoned(self):
        if self.step == step:
            self.nets.generator.last.weight.data.fill_(float("nan"))
        return iterate(self)

    monkeypatch.setattr(Trainer, "iterate", poisoned)


def test_poisoned_weights_stop_the_run_with_advice_and_keep_the_checkpoint(config, monkeypatch):
    poison(monkeypatch, 3)
    told = r"step 6: 3 steps of derainer, unet, generator in a row .* kept in .*learning_rate.*clip_norm.*--resume"
    with pytest.raises(UserError, match=told):
        train(config | {"save_every": 1, "optim": config["optim"] | {"skip_limit": 3}}, scorer=darkness, quiet=True)
    state = load_checkpoint(RunFolder(config["out"]).checkpoint)
    assert state["step"] == 3
    assert all(value.isfinite().all() for value in state["networks"]["generator"].values())


def test_a_checkpoint_never_holds_weights_that_are_not_finite(config, monkeypatch):
    poison(monkeypatch, 9)
    with pytest.raises(UserError, match="step 10: weights of generator are not finite; no checkpoint was saved yet"):
        train(config, scorer=darkness, quiet=True)
    assert not RunFolder(config["out"]).checkpoint.exists()


def test_a_run_survives_a_bad_batch_and_says_so(config, monkeypatch, capsys):
    images = Feed.images

    def some_bad(self, step, *pools):
        return spoil(images(self, step, *pools)) if step == 2 else images(self, step, *pools)

    monkeypatch.setattr(Feed, "images", some_bad)
    result = train(config | {"save_every": 3}, scorer=darkness)
    text = (result.run_dir / "metrics.jsonl").read_text()
    rows = [row for row in map(json.loads, text.splitlines()) if row["event"] == "train"]
    assert [(row["skipped"], row["skipped_discriminator"]) for row in rows] == [(0, 0), *4 * [(1, 1)]]
    assert "NaN" not in text and all(row["adversarial"] is not None for row in rows)
    assert "step 4: skipped 1 of 2 steps of derainer, unet, generator" in capsys.readouterr().out
    assert load_checkpoint(result.run_dir / "checkpoint.pt")["guards"][0]["skipped"] == 1
