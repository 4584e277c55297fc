"""UniRain's method: its loss, its run on labelled pairs alone, and labelled pairs beside unpaired folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import darkness, labelled, same_bits, train_and_interrupt, write_pairs
from torch import nn

import rgsud_fast
from rgsud_fast.config import Config, load_config
from rgsud_fast.config.unread import refuse_unread
from rgsud_fast.data import load_domains
from rgsud_fast.errors import UserError
from rgsud_fast.iqa import CallableScorer
from rgsud_fast.methods import losses, rgsud, unirain
from rgsud_fast.methods.reweighting import type_weights
from rgsud_fast.methods.unirain import weighed_error
from rgsud_fast.ops import derain_loss, ssim
from rgsud_fast.system.distributed import Ranks
from rgsud_fast.training import train
from rgsud_fast.training.feed import Feed
from rgsud_fast.training.type_weights import TypeWeights


def log_of(result, event):
    lines = (result.run_dir / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["event"] == event]


def domains_of(config: dict, tmp_path: Path):
    config = load_config(config)
    return load_domains(config.data, tmp_path / "cache", lambda line: None, labelled=config.method == "unirain")


def test_the_loss_is_the_weighed_absolute_error_and_its_gradient():
    derained, clean = torch.rand(3, 3, 8, 9, dtype=torch.float64, requires_grad=True), torch.rand(3, 3, 8, 9).double()
    weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    loss = weighed_error(derained, clean, weights)
    expected = sum(w * (d - c).abs().mean() for w, d, c in zip(weights, derained, clean, strict=True)) / 3
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, derained)
    assert torch.allclose(gradient, weights[:, None, None, None] * (derained - clean).sign() / derained.numel())


def test_a_step_reads_labelled_pairs_alone_and_takes_rewards_where_there_are():
    config = Config(method="unirain", network={"derainer_width": 4, "derainer_encoder": [1], "derainer_decoder": [1]})
    nets = unirain.build(config)
    inputs = {name: torch.rand(2, 3, 32, 32) for name in ("labelled", "labelled_clean")}
    inputs |= {"labelled_weights": torch.ones(2), "labelled_floors": torch.ones(2)}
    assert unirain.reads(config) == {"labelled"}
    step = unirain.step(nets, 1, inputs, config)
    assert set(step.terms) == {"labelled"} and not step.judged
    rewards = {"rainy": torch.rand(2, 3, 32, 32), "rewards": torch.rand(2, 3, 32, 32), "improved": torch.ones(2) > 0}
    assert set(unirain.step(nets, 2, inputs | rewards, config).terms) == {"labelled", "reward"}


def test_in_decibels_a_step_is_what_rgsud_makes_of_labelled_pairs():
    sizes = {"derainer_width": 4, "derainer_encoder": [1], "derainer_decoder": [1]}
    loss = {"labelled": 2, "labelled_form": "psnr"}
    config = Config(method="unirain", network=sizes, loss=loss)
    nets = unirain.build(config)
    inputs = {name: torch.rand(3, 3, 32, 32) for name in ("labelled", "labelled_clean")}
    inputs["labelled_weights"] = torch.tensor([0.5, 1.0, 2.0])
    inputs["labelled_floors"] = torch.tensor([1e-4, 1e-3, 1e-2])
    step, derained = unirain.step(nets, 1, inputs, config), nets.derainer(inputs["labelled"])
    squared = (derained - inputs["labelled_clean"]).square().mean((1, 2, 3))
    decibels = (inputs["labelled_weights"] * 10 * (squared + inputs["labelled_floors"]).log10()).mean()
    expected = 2 * (decibels + 1 - ssim(derained, inputs["labelled_clean"]))
    torch.testing.assert_close(step.loss, expected)
    assert set(step.terms) == {"labelled_psnr", "labelled_ssim"}


def test_crops_of_the_feed_show_one_window_turned_alike_and_weighed_by_type(config, tmp_path):
    config = labelled(config, batch=8)
    domains = domains_of(config, tmp_path)
    feed = Feed(load_config(config), domains, torch.device("cpu"), reads=frozenset({"labelled"}))
    feed.type_weights = {0: 0.25, 3: 1.75}
    images = feed.images(5)
    assert set(images) == {"labelled", "labelled_clean", "labelled_weights", "labelled_floors"}
    assert torch.allclose(images["labelled"], images["labelled_clean"] + 40 / 255, atol=1e-6)  # as the pairs are made
    drawn = domains.pairs.draw(0, 5, 8, 32, "natural")
    assert images["labelled_weights"].tolist() == [feed.type_weights[domains.pairs.kinds[crop.pair]] for crop in drawn]
    one = next(i for i, crop in enumerate(drawn) if crop.turn)
    crop = drawn[one].clean
    window = domains.pairs.clean[crop.index][crop.top : crop.top + 32, crop.left : crop.left + 32]
    window = np.rot90(window[:, ::-1] if crop.flip else window, drawn[one].turn)
    assert torch.equal(
        (images["labelled_clean"][one] * 255).round().byte().permute(1, 2, 0), torch.tensor(window.copy())
    )


@pytest.mark.parametrize("share, least", [(0.0, 1e-3), (0.5, 1e-3), (0.5, 0.02)])
def test_floors_are_a_share_of_the_squared_error_of_a_type(config, tmp_path, share, least):
    config = labelled(config, batch=8, loss={"labelled_form": "psnr", "labelled_floor": share, "pasted_floor": least})
    for path in (Path(config["data"]["pairs"]) / "nrd" / "input").iterdir():  # half as much rain as in the other type
        Image.fromarray(np.asarray(Image.open(path)) - np.uint8(20)).save(path)
    domains = domains_of(config, tmp_path)
    feed = Feed(load_config(config), domains, torch.device("cpu"), reads=frozenset({"labelled"}))
    errors = {0: (40 / 255) ** 2, 3: (20 / 255) ** 2}
    assert domains.pairs.squared_errors() == pytest.approx(errors)
    kinds = [domains.pairs.kinds[crop.pair] for crop in domains.pairs.draw(0, 5, 8, 32, "natural")]
    assert set(kinds) == {0, 3}
    expected = [max(share * errors[kind], least) for kind in kinds]
    assert feed.images(5)["labelled_floors"].tolist() == pytest.approx(expected)


def test_a_floor_that_nobody_reads_is_refused():
    with pytest.raises(UserError, match=r"labelled_form l1 has no floor"):
        refuse_unread(Config(method="unirain", loss={"labelled_floor": 2.0}))


def test_types_are_weighed_by_their_held_out_losses(config, tmp_path):
    config = labelled(config)
    domains = domains_of(config, tmp_path)
    weights = TypeWeights(load_config(config), domains.pairs, Ranks(torch.device("cpu")))
    assert weights.by_type == {} and not weights.due(0) and weights.due(2) and not weights.due(3)
    figures = weights.measure(nn.Sequential(nn.Conv2d(3, 3, 1)))
    assert set(figures) == {"loss_drs", "loss_nrd", "weight_drs", "weight_nrd"}
    assert figures["weight_drs"] == 1
    same = nn.Conv2d(3, 3, 1, bias=False)
    with torch.no_grad():
        same.weight.copy_(torch.eye(3)[:, :, None, None])
    assert weights.measure(same)["loss_drs"] == pytest.approx(40 / 255, abs=1e-6)
    weights.losses = [[0.2, 0.1 + 0.01 * i] for i in range(30)]
    expected = type_weights(np.array(weights.losses))
    assert list(weights.by_type.values()) == expected.tolist() and expected[0] > expected[1]
    assert weights.by_type is weights.by_type  # found once, not in every iteration
    again = TypeWeights(load_config(config), domains.pairs, Ranks(torch.device("cpu")))
    again.load_state_dict(weights.state_dict())
    assert again.by_type == weights.by_type
    again.load_state_dict(weights.state_dict() | {"losses": [[0.1, 0.1]] * 30})
    assert list(again.by_type.values()) == [1, 1]
    with pytest.raises(ValueError, match="losses of drs"):
        again.load_state_dict({"types": ["drs"], "losses": []})


def test_a_run_on_pairs_alone_validates_by_type_and_has_no_rewards(config):
    run = labelled(config)
    del run["data"]["val_rainy"], run["data"]["val_clean"]
    result = train(run, quiet=True)
    assert {"psnr_rgb", "psnr_rgb_drs", "psnr_rgb_nrd", "types_spread"} <= result.metrics.keys()
    assert "rewards" not in result.metrics and not log_of(result, "sweep")
    assert len(log_of(result, "types")) == 4
    assert {"loss_drs", "weight_nrd"} <= log_of(result, "types")[0].keys()
    page = (result.run_dir / "gallery.html").read_text()
    assert (
        "Figures by type of rain" in page
        and "<h2>Experts</h2>" in page
        and "Labelled pairs" in page
        and "What became of rewards" not in page
    )
    card = (result.run_dir / "README.md").read_text()
    assert "Trained on labelled pairs" in card and "pairs" in card
    assert (result.run_dir / "derainer.safetensors").is_file() and not (result.run_dir / "scorer.safetensors").exists()


def test_weights_go_on_in_a_resumed_run(config, monkeypatch, tmp_path):
    whole = train(labelled(config), quiet=True)
    broken = labelled(config, out=str(tmp_path / "broken"))
    train_and_interrupt(broken, 4, monkeypatch)
    resumed = train(broken, scorer=darkness, resume=True, quiet=True)
    states = [torch.load(r.run_dir / "checkpoint.pt", weights_only=True)["type_weights"] for r in (whole, resumed)]
    assert len(states[0]["losses"]) == 4 and same_bits(*states)


def test_labelled_pairs_beside_unpaired_folders_add_their_term_to_rgsud(config):
    pairs = write_pairs(Path(config["out"]).parent / "pairs")
    result = train(config | {"data": config["data"] | {"pairs": pairs}}, scorer=darkness, quiet=True)
    (first, *_) = log_of(result, "train")
    assert {"labelled_psnr", "labelled_ssim", "pair_psnr"} <= first.keys()
    assert log_of(result, "sweep")
    assert "Labelled pairs" in (result.run_dir / "gallery.html").read_text()


def test_the_term_beside_rgsuds_is_the_pairs_loss_and_reaches_the_derainer_alone(config):
    derained, clean = torch.rand(2, 3, 24, 24), torch.rand(2, 3, 24, 24)
    terms = losses.labelled_terms(derained, clean, torch.ones(2), torch.full((2,), 1e-8))
    expected = derain_loss(derained, clean)
    assert terms["labelled_psnr"].item() == pytest.approx(expected[0].item(), rel=1e-5)
    assert terms["labelled_ssim"].item() == pytest.approx(expected[1].item(), rel=1e-5)
    data = config["data"] | {"pairs": "x"}
    assert "labelled" in rgsud.reads(load_config(config | {"data": data}))
    assert "labelled" not in rgsud.reads(load_config(config | {"data": data, "loss": {"labelled": 0}}))


def test_pairs_and_unpaired_folders_under_unirain_have_rewards(config):
    pairs = write_pairs(Path(config["out"]).parent / "pairs")
    run = labelled(config) | {"data": config["data"] | {"pairs": pairs}}
    result = train(run | {"reward": {"sweep_every": 2, "fidelity": 9.0}}, scorer=darkness, quiet=True)
    assert log_of(result, "sweep") and log_of(result, "types")
    assert "reward" in log_of(result, "train")[-1]


def test_pairs_of_any_layout_are_evaluated_by_type(config, tmp_path, capsys):
    from rgsud_fast import cli

    result = train(labelled(config), quiet=True)
    pairs = tmp_path / "pairs"
    with pytest.warns(UserWarning, match=r"^the run trained on .*pairs, all but what it held out"):
        figures = rgsud_fast.evaluate(result.run_dir, pairs=pairs, device="cpu")
    assert {"psnr_rgb_drs", "psnr_rgb_nrd", "input_ssim_y_drs", "types_spread"} <= figures.keys()
    assert figures["input_psnr_rgb_drs"] == pytest.approx(20 * np.log10(255 / 40), abs=1e-6)  # as the pairs are made
    assert cli.main(["evaluate", str(result.run_dir), "--pairs", str(pairs), "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "rainy input, nrd: drops by night" in told and "derained, nrd: drops by night" in told
    assert "derained, mean over types" in told
    with pytest.raises(UserError, match="or one of pairs in their place"):
        rgsud_fast.evaluate(result.run_dir, pairs, pairs=pairs)


def test_the_printed_form_comes_with_a_warning(config, capsys):
    train(labelled(config, reweight={"form": "printed", "every": 2}))
    assert "reweight.form printed is there to compare" in capsys.readouterr().out


def test_the_demo_renders_pairs_of_all_types():
    config = load_config({"preset": "demo", "method": "unirain"})
    domains = load_domains(config.data, Path("unused"), lambda line: None, labelled=True)
    assert not domains.unpaired and len(domains.pairs) == 32 and len(domains.pairs.by_type) == 4
    assert {pair.kind for pair in domains.val} == {"drs", "drd", "nrs", "nrd"}


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"preset": "unirain-small", "method": "rgsud"}, "preset unirain-small is of another method than rgsud"),
        ({"preset": "small", "method": "cut", "data": {"pairs": "x"}}, "method cut takes no labelled pairs"),
        ({"preset": "unirain-small", "loss": {"labelled": 0}}, "loss.labelled is 0"),
    ],
)
def test_mistakes_are_told(fields, message):
    with pytest.raises(UserError, match=message):
        load_config(fields)


def test_a_run_without_pairs_says_what_makes_some(tmp_path):
    with pytest.raises(UserError, match=r"data\.pairs is not set: .*rgsud-fast render"):
        domains_of({"preset": "unirain-small"}, tmp_path)


def test_presets_follow_what_is_given():
    from rgsud_fast.config.load import with_preset

    for data, device, preset in (
        ({"pairs": "x"}, "cpu", "unirain-small"),
        ({"pairs": "x"}, "cuda", "unirain"),
        ({"pairs": "x", "rainy": "a", "clean": "b"}, "cpu", "small"),
    ):
        given, line = with_preset({"data": data, "device": device})
        assert given["preset"] == preset and preset in line
    assert load_config({"preset": "unirain", "data": {"pairs": ["a", "b"]}}).method == "unirain"
    whole = load_config({"preset": "unirain"})
    assert whole.optim.algorithm == "adamw" and whole.network.derainer == "moe"


def test_experts_add_their_balance_to_any_method_and_dead_ones_are_told(config, monkeypatch, capsys):
    from rgsud_fast.training import monitor

    monkeypatch.setattr(monitor, "DEAD_AFTER", 3)
    monkeypatch.setattr(monitor, "DEAD", 0.99)
    result = train(labelled(config), quiet=False)
    assert "balance" in log_of(result, "train")[0]
    shares = log_of(result, "experts")[0]["shares"]
    assert list(shares) == ["encoder 1", "decoder 1"] and all(sum(some) == pytest.approx(1) for some in shares.values())
    assert "raise network.moe.balance or network.moe.noise" in capsys.readouterr().out
    network = config["network"] | {"derainer": "moe"}
    run = config | {"network": network, "out": config["out"] + "2", "preset": "small-gan"}
    result = train(run, scorer=darkness, quiet=True)
    assert all("balance" in row for row in log_of(result, "train"))


@pytest.mark.parametrize("method, softly", [("unirain", [False, False]), ("rgsud", [True, False])])
def test_hard_experts_are_soft_in_stage_1_of_methods_without_pairs(config, tmp_path, method, softly):
    from rgsud_fast.training.trainer import Trainer

    run = labelled(config) if method == "unirain" else config
    run = load_config(run | {"network": run["network"] | {"derainer": "moe"}})
    domains = load_domains(run.data, tmp_path / "cache", lambda line: None, labelled=method == "unirain")
    trainer = Trainer(run, domains, CallableScorer(darkness), torch.device("cpu"))
    found = []
    for _ in range(7):
        trainer.iterate()
        found.append(bool(trainer.nets.derainer.softly))
    assert [found[0], found[-1]] == softly
