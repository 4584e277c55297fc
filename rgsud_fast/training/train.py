"""A whole training run, from its configuration to weights, metrics and a gallery."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..config import Config, load_config, save_config
from ..config.asked import check_asked
from ..config.changes import check_changes
from ..config.load import with_preset
from ..config.unread import refuse_unread
from ..data import load_domains
from ..iqa import Scorer
from ..methods.method import Method
from ..networks.derainers.start import read_start
from ..ops import use_backend
from ..ops.installation import compiled_when_launched, missing_kernels
from ..rewards.choose_scorer import choose_scorer
from ..runs.checkpoint import load_checkpoint
from ..runs.folder import RunFolder, open_run
from ..system.distributed import Ranks, process_group
from ..system.names import takes_home
from ..system.progress import Progress
from ..system.threads import usable_cpus
from . import results as reports
from .divisible import check_batch
from .loop import finishing, run
from .pair_types import find_types
from .trainer import Trainer


class Result(NamedTuple):
    """What a training run leaves."""

    run_dir: Path
    weights: Path  # of the derainer
    metrics: dict[str, Any]  # what metrics.json holds


@takes_home
def train(
    config: Config | dict[str, Any] | str | Path | None = None,
    *,
    derainer: nn.Module | None = None,
    scorer: Scorer | Callable[[Tensor], Any] | None = None,
    method: Method | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Result:
    """Train RGSUD, both stages, on unpaired rainy and clean photographs.

    Where torchrun started several processes, or a process group exists, each calls this and they train together.

    Args:
        config: a Config, a dict of its fields, the path of a YAML file, or None for the embedded demo. Where a dict or
            file names no `preset`, the device chooses: small on a CPU, paper on a GPU.
        derainer: your own derainer, [N, 3, H, W] -> the same, in place of NAFNet. It is trained in place,
            and ends with its last weights; the file of `Result.weights` holds their moving average where that is on,
            and those of the best validation where `keep_weights` is best.
        scorer: your own image-quality score in place of `config.reward.scorer`: a function of images [N, 3, H, W]
            that returns N numbers, higher is better.
        method: a method of your own in place of `config.method`, a module or object with what
            `methods.method.Method` names (docs/add-a-method.md).
        resume: continue the run in `config.out` (or the newest of the preset) from its checkpoint.
        quiet: print nothing.

    Returns:
        The run folder, the derainer's weights and the final metrics.

    Raises:
        UserError: something to mend, named in one line.
        KeyboardInterrupt: interrupted by Ctrl-C or SIGTERM, after a checkpoint was saved.
    """
    given, line = with_preset(config)
    config = load_config(given)
    if method is None and not resume:
        refuse_unread(config)
    check_asked(config)
    with process_group(config.device) as ranks:
        return _train(config, line, derainer, scorer, method, resume, quiet or not ranks.first, ranks)


def _train(
    config: Config,
    line: str,
    derainer: nn.Module | None,
    scorer: Scorer | Callable[[Tensor], Any] | None,
    method: Method | None,
    resume: bool,
    quiet: bool,
    ranks: Ranks,
) -> Result:
    check_batch(config.batch, ranks.count)
    device = ranks.device
    opened = open_run(config, resume) if ranks.first else None
    path = ranks.broadcast(opened.path if opened is not None else None)
    folder = opened or RunFolder(path)
    torch.set_num_threads(config.threads or min(torch.get_num_threads(), usable_cpus()))
    # "auto" leaves the choice to RGSUD_BACKEND.
    backend = contextlib.nullcontext() if config.backend == "auto" else use_backend(config.backend)
    with (
        folder.releasing(),
        Progress(config.iterations, quiet=quiet) as progress,
        backend,
        folder.remove_if_empty(),
        folder.explain_full_disks(),
        contextlib.ExitStack() as closing,
    ):
        closing.callback(folder.release)  # the file of the lock is gone before an empty folder is removed
        if line:
            progress.say(line)
        if ranks.first and not folder.locked:
            progress.say(f"{folder.path} is on a file system without locks: start no second run there")
        if config.backend == "auto" and (reason := missing_kernels(device)):
            progress.say(f"without compiled kernels training is slower: {reason}")
        if told := compiled_when_launched(device):
            progress.say(told)
        if not resume and config.network.derainer_start is not None:
            derainer = read_start(config.network, derainer)
        with ranks.one_after_another():
            reading, labelled = progress.of("reading images"), config.method == "unirain"
            tell_types = find_types(config.data, folder.cache, config.seed, device, progress)
            domains = load_domains(config.data, folder.cache, progress.say, reading, labelled, tell_types)
        closing.enter_context(contextlib.closing(domains))
        saved = load_checkpoint(folder.checkpoint) if resume else None
        if saved is None:
            progress.say(domains.summary())
        scorer = choose_scorer(config, domains, scorer, saved, ranks, progress.of("preparing the score"))
        trainer = Trainer(config, domains, scorer, device, derainer, folder.cache, ranks, method)
        reports.prove_weights(trainer)
        if trainer.best is not None and not domains.val:
            progress.say("keep_weights best chooses by validation pairs, and there are none: the last weights are kept")
        if any(tier.kind != "device" for tier in trainer.pool.tiers):
            progress.say(trainer.pool.where())
        if saved is not None:
            trainer.load_state_dict(saved)
            del saved
            if changes := check_changes(folder.read_config(config), config, trainer.step):
                progress.say(f"resumed with {', '.join(changes)}")
            if not trainer.ended:
                progress.say(f"going on after step {trainer.step:,} of {config.iterations:,}")
        ranks.wait()  # until all have read the configuration
        if ranks.first:
            # Also of a run that was killed before its first checkpoint. One that has ended writes nothing again.
            folder.cut_log(trainer.step + trainer.ended)
            if not (resume and trainer.ended):
                save_config(config, folder.config)
        run(trainer, folder, progress)
        with finishing(folder, progress):
            trainer.collect_rewards()
            trainer.choose_best()
            metrics = ranks.broadcast(reports.finish(trainer, folder, progress) if ranks.first else None)
    return Result(folder.path, folder.weights("derainer"), metrics)
