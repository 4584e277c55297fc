"""Training end to end on tiny images: what a run leaves, exact resume, interruption, and errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from tiny import PASTED, darkness, run_of, same_bits, train_and_interrupt

from rgsud_fast.config import Config, load_config, merge
from rgsud_fast.errors import UserError
from rgsud_fast.inference.export import export
from rgsud_fast.methods import rgsud
from rgsud_fast.methods.build import build_networks
from rgsud_fast.networks.weights import PASTED as PASTED_RAIN
from rgsud_fast.networks.weights import RAIN_FROM, read_metadata
from rgsud_fast.optim.learning_rate import learning_rate
from rgsud_fast.rewards import choose_scorer as choosing
from rgsud_fast.runs.checkpoint import load_checkpoint
from rgsud_fast.runs.folder import RunFolder
from rgsud_fast.training import train
from rgsud_fast.training.trainer import Trainer


def log_of(result) -> list[dict]:
    rows = map(json.loads, (result.run_dir / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in row.items() if key != "images_per_second"} for row in rows]


def test_a_run_leaves_everything_its_user_needs(config, capsys):
    result = train(config, scorer=darkness)
    left = {path.name for path in result.run_dir.iterdir()}
    networks = {f"{kind}.safetensors" for kind in ("derainer", "unet", "generator", "discriminator")}
    assert (
        networks | {"config.yaml", "metrics.jsonl", "metrics.json", "events", "checkpoint.pt", "gallery.html"} <= left
    )
    metrics = json.loads((result.run_dir / "metrics.json").read_text())
    assert metrics == result.metrics
    figures = {"psnr_rgb", "ssim_rgb", "psnr_y", "ssim_y"}
    assert {prefix + name for prefix in ("", "input_", "stage1_", "filter_") for name in figures} <= metrics.keys()
    assert metrics["steps"] == 10 and metrics["rewards"] == 3
    assert Config(**yaml.safe_load((result.run_dir / "config.yaml").read_text())) == Config(**config)
    assert any((result.run_dir / "events").iterdir())
    assert "fixed filter" in capsys.readouterr().out
    stages = [row["stage"] for row in log_of(result) if "stage" in row]
    assert stages == [1, 1, 1, 2, 2]


@pytest.mark.parametrize("rain", PASTED)
@pytest.mark.parametrize("stop", [3, 6, 8], ids=["in stage 1", "between the stages", "in stage 2"])
def test_a_resumed_run_ends_in_the_bits_of_an_unbroken_one(config, tmp_path, monkeypatch, stop, rain):
    config = merge(config, PASTED[rain])
    whole = train(config, scorer=darkness, quiet=True)
    broken = config | {"out": str(tmp_path / "broken")}
    train_and_interrupt(broken, stop - 1, monkeypatch)
    assert load_checkpoint(tmp_path / "broken" / "checkpoint.pt")["step"] == stop
    resumed = train(broken, scorer=darkness, resume=True, quiet=True)

    states = [load_checkpoint(result.run_dir / "checkpoint.pt") for result in (whole, resumed)]
    assert states[0]["step"] == 10
    for part in states[0]:
        assert same_bits(states[0][part], states[1][part]), part
    assert same_bits(load_file(whole.weights), load_file(resumed.weights))
    assert whole.metrics == resumed.metrics
    if stop % 2 == 0:  # a line averages over iterations, so one that was broken in two differs
        assert log_of(whole) == log_of(resumed)


def test_a_run_of_pasted_rain_has_first_rewards_and_trains_and_saves_the_derainer_alone(config, capsys):
    result = train(merge(config, PASTED["pasted"]), scorer=darkness)
    assert "first rewards for 3 of 3 rainy images" in capsys.readouterr().out
    rows = [json.loads(line) for line in (result.run_dir / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["event"] == "first" and rows[0]["seeded"] == 3 and rows[0]["step"] == 0
    lines = [row for row in rows if row["event"] == "train"]
    assert all("pasted_psnr" in row and "adversarial" not in row and "discriminator" not in row for row in lines)
    assert all("reward" in row for row in lines if row["stage"] == 2)
    assert {path.stem for path in result.run_dir.glob("*.safetensors")} == {"derainer"}
    now = load_checkpoint(result.run_dir / "checkpoint.pt")["networks"]
    for name, net in build_networks(load_config(config), torch.device("cpu"))._asdict().items():
        assert same_bits(now[name], net.state_dict()) == (name != "derainer"), name
    assert read_metadata(result.weights)[RAIN_FROM] == PASTED_RAIN
    assert {"generator", "unet"}.isdisjoint(path.stem for path in result.run_dir.iterdir())
    with pytest.raises(UserError, match="has no generator: its rain was pasted"):
        export(result.run_dir, "safetensors", network="generator")


def test_a_share_of_crops_that_ranks_cannot_have_alike_is_refused(config):
    with pytest.raises(UserError, match=r"loss\.pasted_share 0\.3 of 2 crops is no whole number"):
        train(merge(config, {"loss": {"pasted": 1, "pasted_share": 0.3}}), scorer=darkness, quiet=True)


def test_first_rewards_are_given_once(config, tmp_path, monkeypatch):
    config = merge(config, PASTED["both"])
    log = tmp_path / "run" / "metrics.jsonl"
    log.parent.mkdir()
    log.write_text('{"step": 0, "event": "first", "seeded": 3}\n')  # of a start that was killed before a checkpoint
    train_and_interrupt(config, 2, monkeypatch)
    train(config, scorer=darkness, resume=True, quiet=True)
    assert log.read_text().count('"event": "first"') == 1


@pytest.mark.parametrize("method", ["rgsud", "cyclegan"])
def test_with_first_rewards_a_run_may_be_wholly_in_stage_2(config, method):
    fields = {"stage1_iterations": 0, "reward": {"first": "filter", "fidelity": 9.0}}
    result = train(run_of(config, method, **fields), scorer=darkness, quiet=True)
    rows = [json.loads(line) for line in (result.run_dir / "metrics.jsonl").read_text().splitlines()]
    lines = [row for row in rows if row["event"] == "train"]
    assert rows[0]["event"] == "first" and rows[0]["seeded"] == 3
    assert lines and all(row["stage"] == 2 and row["reward"] != 0 for row in lines)


def test_the_learning_rate_rises_where_there_is_a_warm_up():
    config = Config(stage1_iterations=100, stage2_iterations=50, optim={"hold": 1.0, "warmup": 20})
    assert learning_rate(config, 0) == pytest.approx(2e-4 / 20)
    assert learning_rate(config, 9) == pytest.approx(1e-4)
    assert {learning_rate(config, step) for step in (19, 50, 99)} == {2e-4}
    assert learning_rate(config, 100) == 1e-4


def test_the_learning_rate_halves_where_it_is_asked_to():
    config = Config(stage1_iterations=100, stage2_iterations=50, optim={"halve_every": 30, "stage2_hold": 1.0})
    assert [learning_rate(config, step) for step in (0, 29, 30, 60, 99)] == [2e-4, 2e-4, 1e-4, 5e-5, 2.5e-5]
    assert learning_rate(config, 100) == 1e-4


def test_a_fitted_scorer_is_resumed_and_saved(config, monkeypatch):
    monkeypatch.setattr(choosing, "make_scorer", lambda *_: _FixedDomainScorer())
    result = train(config | {"stage2_iterations": 1}, quiet=True)
    assert (result.run_dir / "scorer.safetensors").exists()
    monkeypatch.setattr(choosing, "make_scorer", None)  # a resumed run must not fit again
    train(config | {"stage2_iterations": 2}, resume=True, quiet=True)


def _FixedDomainScorer():
    from rgsud_fast.iqa.domain import DomainScorer, RainNet

    torch.manual_seed(0)
    return DomainScorer(RainNet())


def test_a_users_own_derainer_is_trained(config):
    own = torch.nn.Conv2d(3, 3, 3, padding=1)
    before = own.weight.detach().clone()
    result = train(config, derainer=own, scorer=darkness, quiet=True)
    assert not torch.equal(own.weight, before)
    assert result.weights.exists()


def test_training_works_without_validation_pairs_and_without_stage2(config):
    data = {key: config["data"][key] for key in ("rainy", "clean")}
    result = train(config | {"data": data, "stage2_iterations": 0}, scorer=darkness, quiet=True)
    assert "psnr_rgb" not in result.metrics
    assert (result.run_dir / "gallery.html").exists()


def test_the_same_seed_gives_the_same_run_and_another_seed_another(config, tmp_path):
    first, second, third = (
        train(config | {"out": str(tmp_path / name), "seed": seed}, scorer=darkness, quiet=True)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    a, b, c = (load_file(result.weights) for result in (first, second, third))
    assert same_bits(a, b)
    assert not same_bits(a, c)


def test_resuming_with_other_networks_is_explained(config):
    train(config, scorer=darkness, quiet=True)
    larger = config | {"network": config["network"] | {"generator_width": 8}, "stage2_iterations": 5}
    with pytest.raises(UserError, match=r"network\.generator_width is 8, and 4 in the checkpoint"):
        train(larger, scorer=darkness, resume=True, quiet=True)
    with pytest.raises(UserError, match="checkpoint is of a run with other networks"):
        train(config, derainer=torch.nn.Conv2d(3, 3, 5, padding=2), scorer=darkness, resume=True, quiet=True)


def test_a_device_that_is_not_there_is_named(config):
    with pytest.raises(UserError, match="device cuda:99"):
        train(config | {"device": "cuda:99"}, scorer=darkness, quiet=True)


def test_the_learning_rate_falls_by_a_cosine_in_each_stage():
    config = Config(stage1_iterations=100, stage2_iterations=50)
    assert learning_rate(config, 0) == 2e-4
    assert learning_rate(config, 50) == pytest.approx((2e-4 + 1e-6) / 2)
    assert learning_rate(config, 100) == 1e-4
    assert learning_rate(config, 149) == pytest.approx(1e-6, rel=0.1)


def test_the_learning_rate_is_held_for_a_share_of_each_stage():
    config = Config(stage1_iterations=100, stage2_iterations=50, optim={"hold": 1.0, "stage2_hold": 0.6})
    assert {learning_rate(config, step) for step in (0, 50, 99)} == {2e-4}
    assert {learning_rate(config, step) for step in (100, 129, 130)} == {1e-4}
    assert learning_rate(config, 140) == pytest.approx((1e-4 + 1e-6) / 2)


def test_more_rainy_crops_reach_the_discriminator_alone(config, monkeypatch):
    seen = []

    def discriminator_loss(nets, rainy, fakes):
        seen.append((len(rainy), len(fakes)))
        return original(nets, rainy, fakes)

    original = rgsud.discriminator_loss
    monkeypatch.setattr(rgsud, "discriminator_loss", discriminator_loss)
    train(config | {"optim": {"discriminator_reals": 3, "discriminator_warmup": 0}}, scorer=darkness, quiet=True)
    assert set(seen) == {(6, 2)}


def test_gradients_that_are_never_finite_leave_no_checkpoint(config, monkeypatch):
    clip = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *args: clip(*args) * float("inf"))
    optim = {"skip_limit": 4, "discriminator_warmup": 0}
    with pytest.raises(UserError, match=r"step 4: 4 steps of derainer, unet, generator in a row.*start again"):
        train(config | {"save_every": 1, "optim": optim}, scorer=darkness, quiet=True)
    assert not RunFolder(config["out"]).checkpoint.exists()


def test_resuming_with_another_scorer_or_other_images_is_explained(config, tmp_path):
    train(config, scorer=darkness, quiet=True)
    with pytest.raises(UserError, match="scored by darkness: pass the same scorer"):
        train(config, resume=True, quiet=True)
    pixels = np.full((40, 50, 3), 99, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "rainy" / "0.png")
    with pytest.raises(UserError, match="images are not those of the checkpoint"):
        train(config, scorer=darkness, resume=True, quiet=True)


def test_training_obeys_the_backend_of_the_environment(config, monkeypatch):
    monkeypatch.setenv("RGSUD_BACKEND", "triton")  # which has no kernel for high_pass
    with pytest.raises(UserError, match="high_pass has no triton kernel"):
        train(config, scorer=darkness, quiet=True)


def test_a_finished_run_that_is_resumed_again_changes_nothing(config):
    first = train(config, scorer=darkness, quiet=True)
    log = log_of(first)
    again = train(config, scorer=darkness, resume=True, quiet=True)
    assert again.metrics == first.metrics
    assert log_of(again) == log


@pytest.mark.parametrize(
    "change, source",
    [({}, "derainer"), ({"reward": {"switch": False}}, "unet"), ({"stage2_iterations": 0}, "unet")],
    ids=["both stages", "no switch", "stage 1 alone"],
)
def test_the_generator_remembers_whose_estimates_it_has_learned_to_read(config, change, source):
    result = train(merge(config, change), scorer=darkness, quiet=True)
    assert read_metadata(result.run_dir / "generator.safetensors")[RAIN_FROM] == source


def test_a_resumed_run_says_where_it_goes_on(config, monkeypatch, capsys):
    train_and_interrupt(config, 2, monkeypatch)
    train(config, scorer=darkness, resume=True)
    assert "going on after step 3 of 10" in capsys.readouterr().out
    train(config, scorer=darkness, resume=True)
    assert "going on" not in capsys.readouterr().out  # nothing is left


def test_an_interruption_after_the_last_step_says_what_is_saved(config, monkeypatch, capsys):
    def interrupted(self):
        raise KeyboardInterrupt  # no signal: a shell's background jobs ignore Ctrl-C

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Trainer, "choose_best", interrupted)
        train(config, scorer=darkness)
    assert "after the last step, which is saved; rgsud-fast train --resume --out" in capsys.readouterr().out
    assert train(config, scorer=darkness, resume=True, quiet=True).weights.is_file()
