"""Fitting FinPercep-RM to clean photographs: the score's file, its figures on held-out photographs, and a page."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from ..config.finpercep import DERAINERS, check_fit
from ..data.folder_set import digest
from ..iqa import FinpercepScorer, save_scorer
from ..iqa.finpercep import base_scorer
from ..iqa.finpercep.clip import read_clip
from ..iqa.finpercep.features import read_features
from ..iqa.finpercep.figures import HACKS, detection_rate, figures_of
from ..iqa.finpercep.fit import Fit
from ..iqa.finpercep.generated import DRAWN, Batch, Material, Structure, draw_batch
from ..iqa.finpercep.load import like
from ..iqa.finpercep.losses import Terms
from ..iqa.finpercep.network import STAGES
from ..networks.weights import find_weights
from ..system.device import pick_device
from ..system.files import replacing, write_text
from ..system.interrupt import Interruption
from ..system.names import takes_home
from ..system.prefetch import Prefetch
from ..system.side_by_side import sharing_cores
from ..system.threads import usable_cpus
from ..system.torch_files import load_tensors
from ..system.watch import Watch, nobody
from .finpercep_page import write_page
from .finpercep_photographs import gather, validation_of
from .own_results import own_material

SAVES = 20  # states in a fit, from which an interrupted one goes on
TOLD = 10  # times that it says what it has learned
TRIED = 4  # iterations that are timed where minutes are given
PRACTICE = 0.14  # what a derainer that practises takes, as a share of the fit

Say = Callable[[str], None]


@takes_home
def fit_finpercep(
    clean: str | Path,
    output: str | Path,
    *,
    rainy: str | Path | None = None,
    run: str | Path | None = None,
    size: Literal["small", "base", "clip"] = "small",
    clip: str | Path | None = None,
    feature: str | None = None,
    val_clean: str | Path | None = None,
    minutes: float | None = None,
    iterations: int | None = None,
    practised: int = DERAINERS,
    seed: int = 0,
    device: str = "auto",
    watch: Watch = nobody,
    watch_before: Callable[[str], Watch] = lambda phase: nobody,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Fit FinPercep-RM: a score of derained images that also says where one is spoiled.

    A tenth of the clean photographs is held out and measured with. An interrupted fit that is asked for again with the
    same images and options goes on from OUT.partial, and ends with the bits of an unbroken one.

    Args:
        clean: folder of clean photographs, searched recursively, 8 at least; of more than 400 these are used.
        output: file to write, OUT.safetensors; beside it come OUT.json, the figures, and OUT.html, a page to look at.
        rainy: folder of rainy photographs, which the base score learns from; default: rain rendered on the clean ones.
        run: run folder, whose generator paints the rain of `rainy`, where that is given, and whose derainer gives
            faulty results.
        size: "small" for a CPU, "base" for a GPU; "clip", for one, stands on CLIP's RN50.
        clip: weights of CLIP's RN50 for size "clip", as open_clip saves them.
        feature: "timm:NAME,FILE", a vision transformer of timm and the file of its weights, whose patches then say half
            of where an image is spoiled, in place of SSIM's structure.
        val_clean: folder of validation images; none of them may be among the clean ones, or a score would have seen
            the test. Default: the run's.
        minutes, iterations: how long, one or neither; default: 2,600 iterations of "small", 30,000 of "base".
        practised: derainers that are trained for a fit and thrown away, whose faults it learns; 0: of filters alone.
        seed: of everything drawn.
        device: auto, cpu, cuda or cuda:N.
        watch: told how many iterations of the fit are done.
        watch_before: gives what is told that of a phase before it: of the base score, of derainers that practise.
        say: told what is learned so far, a line each tenth.

    Returns:
        The figures that OUT.json holds: of stage 3 on held-out photographs, of each stage, and of known hacks.

    Raises:
        UserError: too few or too small images, validation images among them, or an output that cannot be written.
        KeyboardInterrupt: interrupted by Ctrl-C or SIGTERM; what was done is kept, to go on from.
    """
    output = Path(output)
    check_fit(output, size, clip, minutes, iterations, practised, seed)
    start = None if clip is None else read_clip(clip)
    if run is not None:
        find_weights(run)  # what cannot be used is told before anything is learned
    where = pick_device(device)
    structure = None if feature is None else read_features(feature).to(where)
    options = {
        "size": size,
        "seed": seed,
        "minutes": minutes,
        "iterations": iterations,
        "run": str(run or ""),
        "clip": str(clip or ""),
        "practised": practised,
        "drawn": DRAWN,
        **({} if feature is None else {"feature": feature}),
    }
    photographs = gather(Path(clean), rainy, validation_of(run, val_clean), options)
    partial = output.with_suffix(".partial")
    saved = _read_partial(partial, photographs.key)
    if saved is None:
        with _before_the_fit(partial, say):
            watch_base = watch_before("the base score")
            scorer = base_scorer(photographs.rainy, photographs.fitted, seed, where, watch=watch_base)
    else:
        scorer = FinpercepScorer.from_state(saved["scorer"], where)
        say(f"going on from {partial}, at iteration {saved['fit']['step']:,}")
    painted, own = ([], []) if run is None else own_material(run, photographs.fitted, rainy, seed, device)
    material = Material(photographs.fitted, painted, own)
    workers = max(usable_cpus() - 1, 1) if where.type == "cuda" else 0
    more: dict[str, Any] = {"structure": structure, "derainers": practised}
    if iterations is None and minutes is not None and saved is None:
        trial = Fit(material, scorer, size, seed, 1_000, where, start=copy.deepcopy(start), **more)
        with sharing_cores(where):
            iterations = _iterations_in(minutes, trial)
    fit = Fit(material, scorer, size, seed, iterations, where, start=start, workers=workers, **more)
    if saved is not None:
        fit.load_state_dict(saved["fit"])
    held_out = Material(photographs.measured)
    with _before_the_fit(partial, say):
        fit.prepare(watch_before("derainers to learn faults from"))
    _run(fit, partial, photographs.key, held_out, watch, say)
    scorer.remember([digest(image) for image in photographs.fitted])
    figures = measure(scorer, held_out, structure) | {"size": size, "iterations": fit.iterations, "seed": seed}
    figures |= {"clean_images": len(photographs.fitted), "held_out_images": len(photographs.measured)}
    save_scorer(scorer, output)
    write_text(output.with_suffix(".json"), json.dumps(figures, indent=2) + "\n")
    write_page(output.with_suffix(".html"), scorer, held_out, figures, own[:4], fit.material.practised[-4:])
    partial.unlink(missing_ok=True)
    return figures


def measure(scorer: FinpercepScorer, held_out: Material, structure: Structure | None = None) -> dict[str, Any]:
    """Figures of a fitted scorer on photographs that it has not seen; it is left in its last stage."""
    stages = {}
    for stage in range(1, STAGES + 1):
        scorer.stage = stage
        stages[str(stage)] = figures_of(scorer, held_out, structure=structure)._asdict()
    batch: Batch = draw_batch(held_out, 2, 0, 32, max(scorer.side, 2 * 64))
    device = scorer.reference.device
    clean, rainy = ([*part.to(device).split(1)] for part in (batch.clean, batch.rainy))
    hacks = {name: detection_rate(scorer.score, clean, rainy, hack, clean=clean) for name, hack in HACKS.items()}
    found = {name: rate for name, rate in hacks.items() if not math.isnan(rate)}
    return {**stages[str(STAGES)], "stages": stages, "hacks_found": found}


@contextlib.contextmanager
def _before_the_fit(partial: Path, say: Say) -> Iterator[None]:
    """Say what an interruption keeps of what comes before the fit: nothing."""
    try:
        yield
    except KeyboardInterrupt:
        kept = f"goes on from {partial}" if partial.is_file() else "begins anew"
        say(f"stopped before the fit went on; the same command {kept}")
        raise


def _run(fit: Fit, partial: Path, key: str, held_out: Material, watch: Watch, say: Say) -> None:
    """Go on to the end, and keep the state now and then, and when asked to stop.

    Raises:
        KeyboardInterrupt: interrupted by Ctrl-C or SIGTERM, after the state was saved.
    """
    every, tell = max(fit.iterations // SAVES, 1), max(fit.iterations // TOLD, 1)

    def each(terms: Terms) -> None:
        if fit.step % tell == 0:
            say(_line(fit, terms, held_out))
        if (fit.step % every == 0 or interruption.asked) and not fit.ended:
            state = {"key": key, "fit": fit.state_dict(), "scorer": fit.scorer.state()}
            with replacing(partial) as temporary, open(temporary, "wb") as file:
                torch.save(state, file)
            if interruption.asked:
                say(f"stopped at iteration {fit.step:,} of {fit.iterations:,}; the same command goes on from {partial}")
                raise KeyboardInterrupt

    with Interruption(lambda: say("stopping after this iteration, and saving")) as interruption:
        fit.run(watch, each)


def _line(fit: Fit, terms: Terms, held_out: Material) -> str:
    """What the present stage can see so far, measured without touching the fit."""
    now = like(fit.network.state_dict(), fit.network.gate).to(fit.device)
    networks = fit.done if fit.between else [*fit.done, now]
    scorer = FinpercepScorer(fit.scorer.base, fit.scorer.reference, networks, fit.recipe.side)
    figures = figures_of(scorer, held_out, samples=8, structure=fit.structure)
    losses = "  ".join(f"{name} {float(value):.3f}" for name, value in terms._asdict().items())
    return f"{fit.step:,}/{fit.iterations:,}  {losses}  map AUC of stage {scorer.stage}: {figures.auc_swapped:.3f}"


def _read_partial(path: Path, key: str) -> dict[str, Any] | None:
    """The state of an interrupted fit of the same images and options; None where there is none."""
    try:
        state = load_tensors(path) if path.is_file() else None
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) and state.get("key") == key else None


def _iterations_in(minutes: float, trial: Fit) -> int:
    """How many iterations so many minutes have room for, by a few of a fit that is thrown away."""
    batches = Prefetch(trial.batch)
    trial.advance(batches(0))
    began = time.perf_counter()
    for step in range(1, TRIED + 1):
        trial.advance(batches(step))
    batches.close()
    left = 60 * minutes / (1 + PRACTICE * trial.derainers)
    return max(int(left * TRIED / (time.perf_counter() - began)), STAGES)
