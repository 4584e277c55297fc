"""A resumed run says what changed, and refuses what the iterations done contradict."""

from __future__ import annotations

import pytest
import yaml
from tiny import darkness

from rgsud_fast.config import Config, merge
from rgsud_fast.config.changes import check_changes
from rgsud_fast.errors import UserError
from rgsud_fast.training import train

BEFORE = Config(preset="small-gan", stage1_iterations=100, stage2_iterations=50)


def changed(**fields) -> Config:
    return Config(**merge(BEFORE.model_dump(), fields))


def test_changed_fields_are_told_with_both_values_and_where_it_runs_is_not():
    now = changed(stage2_iterations=60, threads=1, out="elsewhere", optim={"learning_rate": 0.1})
    assert check_changes(BEFORE, now, 120) == ["stage2_iterations 60 (was 50)", "optim.learning_rate 0.1 (was 0.0005)"]
    assert check_changes(BEFORE, changed(), 120) == []


@pytest.mark.parametrize(
    "fields, step, message",
    [
        ({"seed": 5}, 0, "seed is 5, and the run began with 0"),
        ({"preset": "paper"}, 10, "preset is paper, and the run began with small-gan"),
        ({"stage1_iterations": 50}, 60, "stage1_iterations is 50, and the run came to step 60 with 100"),
        ({"stage1_iterations": 200}, 120, "stage1_iterations is 200, and the run came to step 120 with 100"),
        ({"stage2_iterations": 10}, 120, "both stages have 110 iterations, and the run came to step 120"),
    ],
    ids=["seed", "preset", "stage 1 cut", "stage 1 longer", "stage 2 cut"],
)
def test_what_the_iterations_done_contradict_is_refused(fields, step, message):
    with pytest.raises(UserError, match=message):
        check_changes(BEFORE, changed(**fields), step)


def test_stage_1_may_be_longer_while_it_lasts():
    assert check_changes(BEFORE, changed(stage1_iterations=200), 80) == ["stage1_iterations 200 (was 100)"]


def test_a_finished_run_keeps_the_configuration_that_it_was_trained_with(config, capsys):
    result = train(config, scorer=darkness)
    before = (result.run_dir / "config.yaml").read_text()
    train(merge(config, {"optim": {"learning_rate": 0.1}}), scorer=darkness, resume=True)
    assert (result.run_dir / "config.yaml").read_text() == before
    longer = merge(config, {"optim": {"learning_rate": 0.1}, "stage2_iterations": 5})
    train(longer, scorer=darkness, resume=True)
    assert "resumed with stage2_iterations 5 (was 4), optim.learning_rate 0.1" in capsys.readouterr().out
    assert yaml.safe_load((result.run_dir / "config.yaml").read_text())["stage2_iterations"] == 5
