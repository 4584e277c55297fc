"""Runs whose reward is FinPercep-RM: fitted in the run, by stages, resumed exactly, and of no effect when it is off."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from mapped import untrained
from PIL import Image
from tiny import same_bits

from rgsud_fast.config import merge
from rgsud_fast.data.folder_set import digest
from rgsud_fast.errors import UserError
from rgsud_fast.iqa import load_scorer, save_scorer
from rgsud_fast.iqa.finpercep import fit as fitting
from rgsud_fast.rewards import own_faults
from rgsud_fast.runs.checkpoint import load_checkpoint
from rgsud_fast.training import train
from rgsud_fast.training.trainer import Trainer

ALL = {
    "loss": {"reward_gradient": 0.01},
    "reward": {"curriculum": "schedule", "map_weights": True, "regions": True, "fit_iterations": 3, "fidelity": 9.0},
}


@pytest.fixture
def file(tmp_path):
    """A FinPercep-RM of three stages."""
    save_scorer(untrained(), tmp_path / "fin.safetensors")
    return f"finpercep:{tmp_path / 'fin.safetensors'}"


@pytest.fixture
def in_run(config, tmp_path, monkeypatch):
    """A run that fits its score at the end of stage 1, in a moment."""
    for i in range(2, 8):
        pixels = np.random.default_rng(i).integers(0, 256, (48, 36, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "clean" / f"{i}.png")
    monkeypatch.setitem(fitting.RECIPES, "small", fitting.Recipe(32, 2, 6, 3e-3))
    monkeypatch.setattr(own_faults, "CROPS", 3)
    monkeypatch.setattr("rgsud_fast.iqa.domain.fit_domain_scorer.__defaults__", (1, "cpu", lambda done, total: None))
    return merge(config, merge(ALL, {"reward": {"scorer": "finpercep"}}))


def rows_of(result, event: str) -> list[dict]:
    rows = map(json.loads, (result.run_dir / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if row.get("event") == event]


def stop_at(step: int, monkeypatch) -> None:
    iterate = Trainer.iterate

    def interrupted(self):
        if self.step == step:
            raise RuntimeError("power cut")
        return iterate(self)

    monkeypatch.setattr(Trainer, "iterate", interrupted)


def test_stages_follow_one_another_and_are_logged(config, file, capsys):
    result = train(merge(config, merge(ALL, {"reward": {"scorer": file}})))
    assert [(row["step"], row["stage"]) for row in rows_of(result, "curriculum")] == [(6, 1), (7, 2), (8, 3)]
    assert "scores in stage 1 from now on" in capsys.readouterr().out
    assert "reward_gradient" in rows_of(result, "train")[-1]
    assert load_scorer(result.run_dir).stage == 3
    assert load_checkpoint(result.run_dir / "checkpoint.pt")["pool"]["maps"].any()
    page = (result.run_dir / "gallery.html").read_text()
    assert "where it is spoiled" in page and "where the reward is spoiled" in page
    assert 'class="band"' in page and "score 3" in page


def test_all_scores_of_the_pool_are_of_the_present_stage(config, file):
    """Trap 5."""
    result = train(merge(config, merge(ALL, {"reward": {"scorer": file, "keep": 1}})), quiet=True)
    state, scorer = load_checkpoint(result.run_dir / "checkpoint.pt"), load_scorer(result.run_dir)
    pool = state["pool"]
    rainy = np.asarray(Image.open(f"{config['data']['rainy']}/0.png"))
    stored = pool["arenas"][0][0, : rainy.size].reshape(rainy.shape)
    images = [torch.tensor(np.asarray(one)).permute(2, 0, 1)[None].float() / 255 for one in (stored, rainy)]
    assert scorer.score(*images) == pytest.approx(float(pool["scores"][0, 0]), abs=1e-5)


def test_with_the_curriculum_off_a_file_scores_in_its_last_stage_throughout(config, file):
    result = train(merge(config, {"reward": {"scorer": file}}), quiet=True)
    assert not rows_of(result, "curriculum")
    assert "maps" not in load_checkpoint(result.run_dir / "checkpoint.pt")["pool"]
    assert 'class="band"' not in (result.run_dir / "gallery.html").read_text()


def test_the_score_is_fitted_at_the_end_of_stage_1_with_the_runs_own_faults(in_run):
    result = train(in_run, quiet=True)
    assert [row["stage"] for row in rows_of(result, "curriculum")] == [1, 2, 3]
    scorer = load_scorer(result.run_dir)
    assert len(scorer.networks) == 3 and scorer.side == 32
    kept = sorted((result.run_dir / "cache" / "fgr").glob("*.npy"))
    assert len(kept) == 3 and np.load(kept[0]).dtype == np.uint8


@pytest.mark.parametrize("stop", [4, 6, 8], ids=["before the fit", "at the fit", "after it"])
def test_a_run_with_a_fit_resumes_to_the_bits_of_an_unbroken_one(in_run, tmp_path, monkeypatch, stop):
    """Trap 8, too: the fit moves no generator that a resumed run does not move."""
    config = in_run | {"save_every": 2}
    whole = train(config, quiet=True)
    broken = config | {"out": str(tmp_path / "broken")}
    with monkeypatch.context() as patch:
        stop_at(stop, patch)
        with pytest.raises(RuntimeError, match="power cut"):
            train(broken, quiet=True)
    resumed = train(broken, resume=True, quiet=True)
    states = [load_checkpoint(result.run_dir / "checkpoint.pt") for result in (whole, resumed)]
    for part in states[0]:
        assert same_bits(states[0][part], states[1][part]), part
    assert whole.metrics == resumed.metrics


def test_a_bank_that_is_gone_ends_the_run_with_a_line(in_run, tmp_path, monkeypatch):
    config = in_run | {"save_every": 2}
    with monkeypatch.context() as patch:
        stop_at(5, patch)
        with pytest.raises(RuntimeError, match="power cut"):
            train(config, quiet=True)
    for file in (tmp_path / "run" / "cache" / "fgr").glob("*.npy"):
        file.unlink()
    with pytest.raises(UserError, match=r"npy, from which finpercep is fitted, is missing or damaged"):
        train(config, resume=True, quiet=True)


def test_the_fit_does_not_move_the_global_generator(in_run):
    """Trap 8."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(in_run, quiet=True)
    assert torch.equal(torch.get_rng_state(), before)


def test_validation_images_among_the_clean_ones_are_refused(in_run, tmp_path):
    """Trap 7."""
    for name in ("val_clean", "val_rainy"):
        (tmp_path / name / "0.png").write_bytes((tmp_path / "clean" / "1.png").read_bytes())
    with pytest.raises(UserError, match=r"validation image .* is also among the clean ones"):
        train(in_run, quiet=True)


def test_what_only_finpercep_can_give_is_refused_of_others(config):
    with pytest.raises(UserError, match=r"reward.map_weights, reward.regions: only finpercep has stages and maps"):
        train(merge(config, {"reward": {"map_weights": True, "regions": True}}), quiet=True)
    with pytest.raises(UserError, match="finpercep needs 8 clean images or more, and there are 2"):
        train(merge(config, {"reward": {"scorer": "finpercep"}}), quiet=True)


def test_a_file_that_was_fitted_to_a_validation_image_is_refused(config, tmp_path):
    """Trap 7."""
    scorer = untrained()
    scorer.remember(["00" * 16, digest(np.asarray(Image.open(tmp_path / "val_clean" / "0.png")))])
    save_scorer(scorer, tmp_path / "seen.safetensors")
    with pytest.raises(UserError, match="is one of those that the file of finpercep was fitted to"):
        train(merge(config, {"reward": {"scorer": f"finpercep:{tmp_path / 'seen.safetensors'}"}}), quiet=True)
