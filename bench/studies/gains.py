"""The gain of self-reinforcement in any method: stages 2 of equal length from one stage 1, with rewards and without.

Stage 1 and the branches are kept in a folder per seed, with what is known so far: a run that was killed goes on where
its last checkpoint was, and what is finished is not trained again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from gain_report import disagreement, references, write_sheet
from seeds import folders
from stages import replay, share

from rgsud_fast.config import Config, load_config, merge
from rgsud_fast.config.unread import reads, refuse_unread
from rgsud_fast.data import Domains
from rgsud_fast.errors import UserError
from rgsud_fast.iqa import Scorer
from rgsud_fast.methods.build import METHODS
from rgsud_fast.networks import PER_CROP, has_windows
from rgsud_fast.system.device import pick_device
from rgsud_fast.system.files import replacing, write_text
from rgsud_fast.training.trainer import Trainer
from rgsud_fast.training.validation import validate

UNPAIRED = [name for name in METHODS if name != "unirain"]  # that one learns from labelled pairs
BRANCHES: dict[str, dict[str, Any]] = {
    "without": {"loss": {"reward": 0.0}, "reward": {"switch": False}},
    "loss": {"reward": {"switch": False}},
    "switch": {"reward": {"switch": True}},
    "no-mirror": {"reward": {"mirror": False}},
    "no-grey": {"reward": {"grey_layer": False}},
    "plain": {"reward": {"mirror": False, "grey_layer": False}},  # rewards as the derainer leaves them
    "local": {"reward": {"local_statistics": True}},
    "global": {"reward": {"local_statistics": False}},
}
LABELS = {
    "without": "without rewards",
    "loss": "reward loss",
    "switch": "reward loss and switch",
    "no-mirror": "rewards without `reward.mirror`",
    "no-grey": "rewards without `reward.grey_layer`",
    "plain": "rewards without both",
    "local": "rewards by local statistics",
    "global": "rewards by whole images' statistics",
}
SWEPT = ("mirror", "grey_layer", "local_statistics")  # fields of a branch that sweeps go by
Load = Callable[[Config, Path], Domains]
Judge = Callable[[Domains, Config], Scorer]


class Study:
    """One seed of one method: its stage 1, its branches, and their figures.

    Args:
        args: of the command line.
        seed: of the run.
        load: gives the images of a run, from its configuration and a folder for what is decoded.
        scorer_of: gives the score of a run.
    """

    def __init__(self, args: argparse.Namespace, seed: int, load: Load, scorer_of: Judge) -> None:
        self.args, self.seed, self._scorer_of = args, seed, scorer_of
        self.preset = args.preset or ("small-gan" if args.method == "rgsud" else "small")
        self.switches = reads(args.method, "reward.switch")
        config = self.config({})
        refuse_unread(config)
        self.firsts = args.first or [config.reward.first]
        self.pasted = bool(config.loss.pasted)  # then sweeps and first rewards are part of stage 1
        lengths = f"{config.stage1_iterations}+{config.stage2_iterations}"
        parts = [args.method, self.preset, config.network.derainer, args.rain, lengths, str(seed)]
        self.folder = args.out / "-".join(parts)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_settings(config)
        self.domains = load(config, args.out / f"cache-{seed}")
        self.scorer: Scorer | None = None
        self.file = self.folder / "figures.json"
        about = {"seed": seed, "method": args.method, "preset": self.preset, "derainer": config.network.derainer}
        self.figures: dict[str, Any] = about | {"lengths": lengths, "rain": args.rain, "rows": {}}
        if self.file.exists():
            self.figures = json.loads(self.file.read_text(encoding="utf-8"))

    def config(self, *changes: dict[str, Any]) -> Config:
        """The configuration of a branch."""
        args = self.args
        base: dict[str, Any] = {"method": args.method, "preset": self.preset, "seed": self.seed}
        base |= {"log_gradients": False, "data": folders(args.data), "threads": args.threads}
        if args.derainer:
            base["network"] = {"derainer": args.derainer}
        if args.iterations:
            base |= dict(zip(("stage1_iterations", "stage2_iterations"), args.iterations, strict=True))
        for change in (self._scaled(), *args.set, *changes):
            base = merge(base, change)
        return load_config(base)

    def _scaled(self) -> dict[str, Any]:
        """What follows the length of stage 1 where rain is pasted: as many sweeps and as long a rise as by it."""
        preset = load_config({"method": self.args.method, "preset": self.preset})
        if not (self.args.iterations and preset.loss.pasted and preset.reward.sweep_every):
            return {}
        share = self.args.iterations[0] / preset.stage1_iterations
        every = max(round(share * preset.reward.sweep_every), 1)
        return {"reward": {"sweep_every": every}, "optim": {"warmup": round(share * preset.optim.warmup)}}

    def run(self) -> dict[str, Any]:
        """Train what is not trained yet; returns all figures."""
        if "references" not in self.figures:
            self.figures["references"] = self._references()
            self._write()
        named = len(self.firsts) > 1
        for first in self.firsts if self.pasted else self.firsts[:1]:
            row = f"end of stage 1, first {first}" if self.pasted and named else "end of stage 1"
            if row not in self.figures["rows"]:
                self._stage1(first, row)
        for first in self.firsts if self.config({}).stage2_iterations else []:
            for branch in self.args.branches:
                if branch == "switch" and not self.switches:
                    continue
                alike = branch == "without" and not self.pasted  # whatever the pool was seeded with
                row = LABELS[branch] + (f", first {first}" if named and not alike else "")
                if row not in self.figures["rows"]:
                    self._branch(first, branch, row)
        return self.figures

    def _stage1(self, first: str, row: str) -> None:
        trainer = self._trainer(self.config({"reward": {"first": first}}))
        file, weights = self._stage1_file(first), self.folder / "derainers"
        weights.mkdir(exist_ok=True)

        def keep() -> None:
            torch.save(trainer.derainer.state_dict(), weights / f"{trainer.step:06d}.pt")

        load_state(trainer, file, self.pasted)
        if self.pasted:
            trainer.seed_rewards()
        seconds = self._advance(trainer, trainer.config.stage1_iterations, file, None if self.pasted else keep)
        self._note(row, trainer, seconds)

    def _branch(self, first: str, branch: str, row: str) -> None:
        config = self.config({"reward": {"first": first}}, self._change(branch))
        trainer = self._trainer(config)
        file = self.folder / f"{branch}-{first}.pt"
        switch = config.reward.switch and self.switches
        sweeps = bool(config.loss.reward or switch or self.pasted)
        load_state(trainer, self._stage1_file(first), self.pasted)
        if sweeps and not self.pasted:
            trainer.pool.load_state_dict(self._pool(first, trainer))
        before = share(trainer)
        load_state(trainer, file, sweeps)
        seconds = self._advance(trainer, config.iterations, file, None if sweeps else lambda: None, sweeps)
        self._note(row, trainer, seconds, {"rewarded before": before})
        file.unlink()

    def _change(self, branch: str) -> dict[str, Any]:
        change = BRANCHES[branch]
        if self.switches:
            return change
        fields = {name: value for name, value in change.get("reward", {}).items() if name != "switch"}
        return change | {"reward": fields}

    def _advance(
        self, trainer: Trainer, until: int, file: Path, in_place: Callable[[], None] | None, pool: bool | None = None
    ) -> float | None:
        """Train to an iteration; `in_place` is done in place of sweeps. Returns the CPU seconds of an iteration."""
        seconds, pool = [], self.pasted if pool is None else pool
        while trainer.step < until:
            if trainer.sweep_due():
                trainer.sweep() if in_place is None else in_place()
            began = time.process_time()
            trainer.iterate()
            seconds.append(time.process_time() - began)
            if trainer.step % trainer.config.save_every == 0 or trainer.step == until:
                state = trainer.state_dict()
                save_state(file, state if pool else state | {"pool": None})
        return median(seconds) if seconds else None

    def _pool(self, first: str, like: Trainer) -> dict[str, Any]:
        """The pool at the end of stage 1: first rewards, and the sweeps by the derainers of then, done once."""
        reward = like.config.reward
        how = "".join(f"-no-{name}" for name in SWEPT if not getattr(reward, name))
        file = self.folder / f"pool-{first}{how}.pt"
        if not file.exists():
            trainer = self._trainer(like.config)
            self._seed(trainer)
            seeded = share(trainer)
            replay(trainer, sorted((self.folder / "derainers").glob("*.pt")))
            save_state(file, trainer.pool.state_dict())
            print(f"seed {self.seed}, {file.stem}: {seeded:.0%} seeded, {share(trainer):.0%} rewarded", flush=True)
        state: dict[str, Any] = torch.load(file, weights_only=True)
        return state

    def _seed(self, trainer: Trainer) -> None:
        """First rewards, which depend on no method: they are made once per seed in the study's folder."""
        config = trainer.config
        reward = config.reward.model_dump(mode="json", exclude={"switch"})
        about = json.dumps([self.args.rain, self.args.scorer, self.seed, config.data.model_dump(mode="json"), reward])
        file = self.args.out / f"first-{config.reward.first}-{hashlib.sha256(about.encode()).hexdigest()[:8]}.pt"
        if file.exists():
            trainer.pool.load_state_dict(torch.load(file, weights_only=True))
            return
        trainer.seed_rewards()
        save_state(file, trainer.pool.state_dict())

    def _references(self) -> dict[str, float]:
        """What learns nothing, once in the study's folder."""
        file = self.args.out / f"references-{self.args.rain}.json"
        if not file.exists():
            write_text(file, json.dumps(references(self.domains.val or [])) + "\n")
        found: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
        return found

    def _note(self, row: str, trainer: Trainer, seconds: float | None, more: dict[str, Any] | None = None) -> None:
        figures: dict[str, Any] = dict(more or {})
        figures["psnr"] = validate(trainer.derainer, self.domains.val or [], trainer.device)["psnr_rgb"]
        given = trainer.derainer, self.domains.val or [], trainer.config.crop, trainer.device
        figures["disagreement"] = disagreement(*given)
        if has_windows(trainer.derainer):
            figures["with windows"] = disagreement(*given, int(PER_CROP * trainer.config.crop))
        figures |= {"rewarded": share(trainer), "cpu seconds": seconds}
        write_sheet(trainer, self.folder / f"{re.sub('[^A-Za-z0-9_.-]+', '-', row)}.png")
        self.figures["rows"][row] = figures
        self._write()
        told = "" if seconds is None else f", {seconds:.3f} CPU s an iteration"
        print(f"seed {self.seed}, {self.args.method}, {row}: {figures['psnr']:.3f} dB{told}", flush=True)

    def _trainer(self, config: Config) -> Trainer:
        if self.scorer is None:
            self.scorer = self._scorer_of(self.domains, config)
        return Trainer(config, self.domains, self.scorer, pick_device(config.device))

    def _stage1_file(self, first: str) -> Path:
        return self.folder / (f"stage1-{first}.pt" if self.pasted else "stage1.pt")

    def _check_settings(self, config: Config) -> None:
        """Refuse a folder of other settings, whose stages would be taken for these."""
        file, now = self.folder / "config.json", config.model_dump_json(indent=2, exclude={"threads"})
        if file.exists() and file.read_text(encoding="utf-8") != now:
            raise UserError(f"{self.folder} was trained with other settings (config.json there): give another --out")
        write_text(file, now)

    def _write(self) -> None:
        write_text(self.file, json.dumps(self.figures, indent=2) + "\n")


def save_state(file: Path, state: Any) -> None:
    """Write a state, all or nothing."""
    with replacing(file) as temporary:
        torch.save(state, temporary)


def load_state(trainer: Trainer, file: Path, pool: bool) -> None:
    """Go on from a state, where there is one; without `pool` rewards stay as they are."""
    if file.exists():
        state = torch.load(file, weights_only=True)
        trainer.load_state_dict(state if pool else state | {"pool": trainer.pool.state_dict()})
