"""The loop of a run: iterations, with sweeps, logs, validations and checkpoints on the way."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import UserError
from ..optim.skipping import not_finite
from ..runs.checkpoint import save_checkpoint
from ..system.interrupt import Interruption
from .monitor import Monitor

if TYPE_CHECKING:
    from ..runs.folder import RunFolder
    from ..system.progress import Progress
    from .trainer import Trainer


def run(trainer: Trainer, folder: RunFolder, progress: Progress) -> None:
    """Iterate until the end, with sweeps, logs, validations and checkpoints on the way.

    Raises:
        UserError: too many gradients in a row, or a weight, are not finite; the last good checkpoint is kept.
        KeyboardInterrupt: interrupted, after a checkpoint was saved.
    """
    config = trainer.config
    saved = trainer.step

    def acknowledge() -> None:
        back = f"the checkpoint of step {saved:,}" if saved else "nothing saved"
        progress.say(f"stopping once the present step or sweep is done; again to stop at once, with {back}")

    with Monitor(trainer, folder, progress) as monitor, Interruption(acknowledge) as interruption:

        def watch(name: str, done: int, total: int) -> None:
            progress.phase(name, done, total)
            if trainer.ranks.any(interruption.asked):
                progress.say("stopped before the first step: nothing is trained yet, so start again")
                raise KeyboardInterrupt

        began = time.perf_counter()
        seeded = trainer.seed_rewards(functools.partial(watch, "first rewards"))
        if seeded is not None:
            monitor.log_seeds(seeded, time.perf_counter() - began)
        tell(trainer, progress)
        trainer.warm_up(functools.partial(watch, "discriminator's warm-up"))
        if trainer.patience.spent:
            progress.say("stage 2 had ended early; a higher reward.patience lets it go on")
        due = False  # a checkpoint, which waits for a step that is not skipped
        while not trainer.ended:
            if trainer.reward_stages is not None:
                began = time.perf_counter()
                moved = trainer.reward_stages.move_on(progress.of("fitting the reward"))
                if moved is not None:
                    monitor.log_reward_stage(moved, time.perf_counter() - began)
            if trainer.sweep_due():
                began = time.perf_counter()
                held_out = monitor.log_sweep(trainer.sweep(progress.of("sweep")), time.perf_counter() - began)
                if trainer.reward_stages is not None:
                    trainer.reward_stages.note_held_out(held_out)
                if trainer.ended:
                    monitor.log_early_end()
                    if trainer.best is not None and trainer.step != config.stage1_iterations:
                        monitor.validate()
                    save(trainer, folder)
                    break
            if trainer.type_weights is not None and trainer.type_weights.due(trainer.step):
                monitor.log_types(trainer.type_weights.measure(trainer.derainer))
            monitor.log_iteration(trainer.iterate())
            tell(trainer, progress)
            asked = trainer.ranks.any(interruption.asked)
            due = due or trainer.step % config.save_every == 0
            if trainer.line_due or due:
                check(trainer, folder)
            if trainer.step == config.stage1_iterations:
                trainer.stage1_metrics = monitor.validate()
                if config.stage2_iterations and trainer.recycles and not bool(trainer.pool.filled.any()):
                    progress.say("stage 2 begins without any reward: until one enters, it goes on as stage 1 did")
            elif _validation_due(trainer):
                monitor.validate()
            if (due and trainer.train_step.settled) or trainer.ended or asked:
                save(trainer, folder)
                due, saved = False, trainer.step
            if asked:
                progress.say(f"stopped at step {trainer.step:,}; continue with --resume --out {folder.path}")
                raise KeyboardInterrupt


@contextlib.contextmanager
def finishing(folder: RunFolder, progress: Progress) -> Iterator[None]:
    """What follows the last step: an interruption there is told what is saved, and how the rest is made."""
    try:
        yield
    except KeyboardInterrupt:
        rest = f"rgsud-fast train --resume --out {folder.path} does the rest"
        progress.say(f"interrupted after the last step, which is saved; {rest}")
        raise


def _validation_due(trainer: Trainer) -> bool:
    """Whether this iteration is followed by a validation; the end takes care of the last, unless it may be the best."""
    config = trainer.config
    if trainer.step == config.iterations:
        return trainer.best is not None
    return bool(config.val_every) and trainer.step % config.val_every == 0


def tell(trainer: Trainer, progress: Progress) -> None:
    """Say what the steps have to say, each line once."""
    while trainer.train_step.notices:
        progress.say(trainer.train_step.notices.pop(0))


def check(trainer: Trainer, folder: RunFolder) -> None:
    """Demand that no optimiser had to skip `optim.skip_limit` steps in a row. Waits for the device."""
    limit = trainer.config.optim.skip_limit
    for networks, step_filter in trainer.train_step.filters.items():
        if step_filter.longest >= limit:
            raise _broken(trainer, folder, f"{limit} steps of {networks} in a row had gradients that are not finite")


def save(trainer: Trainer, folder: RunFolder) -> None:
    """Write a checkpoint, of finite weights alone."""
    # Weights are equal on all ranks, and statistics that a network of the user's own keeps need not be.
    found = trainer.ranks.all_gather(not_finite({**trainer.nets._asdict(), "moving average": trainer.average}))
    if names := dict.fromkeys(name for names in found for name in names):
        raise _broken(trainer, folder, f"weights of {', '.join(names)} are not finite")
    state = trainer.state_dict()
    if trainer.ranks.first:
        save_checkpoint(folder.checkpoint, state)


def _broken(trainer: Trainer, folder: RunFolder, what: str) -> UserError:
    saved = folder.checkpoint.exists()
    kept = f"the last checkpoint is kept in {folder.path}" if saved else "no checkpoint was saved yet"
    return UserError(
        f"step {trainer.step:,}: {what}; {kept}: lower optim.learning_rate, set optim.clip_norm or precision float32, "
        f"look for images that are no photographs, then {'--resume' if saved else 'start again'}"
    )
