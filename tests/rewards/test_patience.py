"""Stage 2 ends early where neither the rewards nor the distance to them improve, and then as at its normal end."""

from __future__ import annotations

import json

import pytest
import torch
from tiny import darkness, same_bits, train_and_interrupt

from rgsud_fast.rewards.patience import Patience
from rgsud_fast.runs.checkpoint import load_checkpoint
from rgsud_fast.training import train

CPU = torch.device("cpu")


def waits(patience: Patience, sweeps) -> list[int]:
    """Sweeps without an improvement after each (score, reward loss)."""
    waited = []
    for score, loss in sweeps:
        patience.note_iteration(torch.tensor(2 * loss), torch.tensor(2))
        patience.note_sweep(score, patience.losses)
        waited.append(patience.waited)
    return waited


def test_either_value_that_improves_resets_the_count():
    patience = Patience(3, 0.0, CPU)
    sweeps = [(1.0, 5.0), (1.0, 5.0), (0.5, 6.0), (1.5, 6.0), (1.5, 5.5), (1.5, 4.5), (1.5, 4.5)]
    assert waits(patience, sweeps) == [0, 1, 2, 0, 1, 0, 1]
    assert (patience.best_score, patience.best_loss, patience.spent) == (1.5, 4.5, False)
    assert waits(patience, 2 * [(1.0, 5.0)]) == [2, 3]
    assert patience.spent


def test_an_improvement_must_be_large_enough_and_small_ones_add_up():
    patience = Patience(3, 0.1, CPU)
    assert waits(patience, [(-1.0, -20.0), (-0.95, -20.0), (-0.89, -21.0), (-0.89, -22.1)]) == [0, 1, 0, 0]


def test_patience_of_zero_is_never_spent():
    patience = Patience(0, 0.0, CPU)
    waits(patience, 9 * [(1.0, 1.0)])
    assert not patience.spent


def test_a_sweep_says_nothing_before_which_no_image_had_a_reward():
    patience = Patience(1, 0.0, CPU)
    patience.note_iteration(torch.tensor(0.0), torch.tensor(0))
    patience.note_sweep(1.0, patience.losses)
    assert (patience.waited, patience.best_score) == (0, -float("inf"))


def test_losses_are_averaged_over_images_and_skipped_steps_left_out():
    patience = Patience(1, 0.0, CPU)
    for losses, images in ((6.0, 3), (float("nan"), 2), (4.0, 1)):
        patience.note_iteration(torch.tensor(losses), torch.tensor(images))
    patience.note_sweep(1.0, patience.losses)
    assert patience.best_loss == 2.5


def test_its_state_is_restored():
    patience, resumed = Patience(3, 0.0, CPU), Patience(3, 0.0, CPU)
    waits(patience, [(1.0, 5.0), (1.0, 5.0)])
    patience.note_iteration(torch.tensor(1.0), torch.tensor(1))
    resumed.load_state_dict(patience.state_dict())
    assert same_bits(resumed.state_dict(), patience.state_dict())


@pytest.fixture
def impatient(config):
    """Sweeps of stage 2 before iterations 7, 9 and so on; no second one is good enough."""
    return config | {"stage2_iterations": 8, "reward": config["reward"] | {"patience": 1, "least_gain": 1e9}}


def rows_of(run_dir) -> list[dict]:
    rows = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in row.items() if key != "images_per_second"} for row in rows]


def test_a_stopped_run_ends_as_at_its_normal_end_and_resuming_it_changes_nothing(impatient, capsys):
    result = train(impatient, scorer=darkness)
    assert result.metrics["steps"] == 9 and "psnr_rgb" in result.metrics
    assert result.weights.exists() and (result.run_dir / "gallery.html").exists()
    log = rows_of(result.run_dir)
    assert [row["step"] for row in log if row["event"] == "stop"] == [9]
    assert [row["step"] for row in log if row["event"] == "train"] == [2, 4, 6, 8, 9]
    assert "step 9: stage 2 ends early" in capsys.readouterr().out
    state = load_checkpoint(result.run_dir / "checkpoint.pt")
    again = train(impatient, scorer=darkness, resume=True, quiet=True)
    assert again.metrics == result.metrics
    assert rows_of(result.run_dir) == log
    assert same_bits(load_checkpoint(result.run_dir / "checkpoint.pt"), state)


def test_a_resumed_run_stops_where_the_unbroken_one_did(impatient, tmp_path, monkeypatch):
    whole = train(impatient, scorer=darkness, quiet=True)
    broken = impatient | {"out": str(tmp_path / "broken")}
    train_and_interrupt(broken, 7, monkeypatch)
    resumed = train(broken, scorer=darkness, resume=True, quiet=True)
    assert resumed.metrics == whole.metrics
    assert rows_of(resumed.run_dir) == rows_of(whole.run_dir)
    states = [load_checkpoint(result.run_dir / "checkpoint.pt") for result in (whole, resumed)]
    assert same_bits(*states)
