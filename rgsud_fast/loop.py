"""The loop of a run: iterations, with sweeps, logs, validations and checkpoints on the way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from . import reports
from .checkpoint import save_checkpoint
from .interrupt import Interruption

if TYPE_CHECKING:
    from .progress import Progress
    from .run_folder import RunFolder
    from .trainer import Trainer


def run(trainer: Trainer, folder: RunFolder, progress: Progress) -> None:
    """Iterate until the end, with sweeps, logs, validations and checkpoints on the way.

    Raises:
        UserError: a loss stopped being finite; the last good checkpoint is kept.
        KeyboardInterrupt: interrupted, after a checkpoint was saved.
    """
    config = trainer.config
    with reports.Book(trainer, folder, progress) as book, Interruption() as interruption:

        def watch(done: int) -> None:
            progress.advance(0, "warm-up", {"discriminator": f"{done}/{config.optim.discriminator_warmup}"})
            if trainer.ranks.any(interruption.asked):
                progress.say("stopped before the first step: nothing is trained yet, so start again")
                raise KeyboardInterrupt

        trainer.warm_up(watch)
        while trainer.step < config.iterations:
            if trainer.sweep_due():
                began = time.perf_counter()
                book.swept(trainer.sweep(), time.perf_counter() - began)
            book.iterated(trainer.iterate())
            asked = trainer.ranks.any(interruption.asked)
            if trainer.step == config.stage1_iterations:
                trainer.stage1_metrics = book.validated()
            elif config.val_every and trainer.step % config.val_every == 0 and trainer.step < config.iterations:
                book.validated()
            if trainer.step % config.save_every == 0 or trainer.step == config.iterations or asked:
                book.check_finite()
                state = trainer.state_dict()
                if trainer.ranks.first:
                    save_checkpoint(folder.checkpoint, state)
            if asked:
                progress.say(f"stopped at step {trainer.step:,}; continue with --resume --out {folder.path}")
                raise KeyboardInterrupt
