"""TensorBoard reads the curves that a run writes, also those of a run that was killed and resumed."""

from __future__ import annotations

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rgsud_fast.runs.tensorboard import Events


def test_tensorboard_reads_every_point_at_once_and_forgets_what_a_resumed_run_does_again(tmp_path):
    killed = Events(tmp_path, 0)
    for step in range(1, 6):
        killed.add_scalar("train/loss", step, step)
    assert points(tmp_path) == [(step, step) for step in range(1, 6)]
    resumed = Events(tmp_path, 4)  # from a checkpoint at step 3, so that 4 is its first
    for step in (4, 5, 6):
        resumed.add_scalar("train/loss", 10 * step, step)
    resumed.close()
    assert points(tmp_path) == [(1, 1), (2, 2), (3, 3), (4, 40), (5, 50), (6, 60)]


def points(folder) -> list[tuple[int, float]]:
    read = EventAccumulator(str(folder))
    read.Reload()
    return [(event.step, event.value) for event in read.Scalars("train/loss")]
