"""Mistakes in arguments, each told in one line: an unknown name and what was meant, what is missing, a wrong value."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import UserError, either
from .flags import flags_of, places_of

_VERY_CLOSE = 0.95  # of names with their sections, a letter too many or too few; --data.crop is not --data.clip
_CLOSE = 0.7  # of two names' likeness, from which on one may stand for the other: at 0.6 --lr is --crop

# What other tools call it. The first flag that the command has is named.
_ELSEWHERE = {
    "--optim.learning-rate": "lr",
    "--stage1-iterations": "iterations iters epochs steps max-steps max-iters num-epochs n-epochs niter total-iter",
    "--batch": "batch-size bs train-batch-size",
    "--crop": "crop-size patch-size image-size img-size load-size gt-size",
    "--device cuda": "gpu gpus gpu-id gpu-ids cuda use-cuda",
    "--device cpu": "cpu no-cuda",
    "--threads": "workers num-workers n-threads num-threads jobs",
    "--precision bfloat16": "amp fp16 bf16 half mixed-precision",
    "--loss.pair": "lambda lambda1 lambda-1",
    "--loss.reward": "lambda2 lambda-2",
    "--loss.adversarial": "lambda-gan lambda-adv gan-weight",
    "--data.rainy and --data.clean": "data data-dir data-root dataroot dataset train-dir rainy clean",
    "--data.val-rainy and --data.val-clean": "val-dir val-data test-dir",
    "--weights": "checkpoint ckpt model model-path pretrained load",
    "--network.derainer-start": "checkpoint ckpt model model-path pretrained pretrain weights load finetune",
    "--input": "input-dir source src images lq",
    "--output": "out outdir out-dir output-dir result-dir results-dir save-dir dst",
    "--out": "output outdir out-dir output-dir result-dir results-dir save-dir checkpoints-dir name log-dir logdir",
    "--rainy": "input input-dir lq",
    "--clean": "gt gt-dir target target-dir reference hq",
    "--pairs": "gt gt-dir target target-dir reference clean",
    "--resume": "continue continue-train resume-from",
    "--config": "cfg config-file opt yaml",
    "--seed": "random-seed manual-seed",
    "--log-every": "log-interval log-freq print-freq",
    "--save-every": "save-interval save-freq save-epoch-freq",
    "--val-every": "val-interval val-freq eval-every",
    "--optim.clip-norm": "grad-clip clip-grad gradient-clip",
    "--optim.ema-decay": "ema",
    "--tile": "tile-size",
    "--overlap": "tile-overlap tile-pad",
    "--mirror": "tta self-ensemble",
    "--to": "format",
    "--metric": "metrics",
}

_PAGE = (
    "the page listens on 127.0.0.1 alone; to see it from elsewhere, run there "
    "ssh -L 7860:127.0.0.1:7860 THIS-MACHINE and open http://127.0.0.1:7860"
)
_NO_FLAG = {"rgsud-fast demo": dict.fromkeys(("--share", "--host", "--server-name", "--ip", "--listen"), _PAGE)}


def refuse_unknown(target: Callable[..., Any], args: list[str], prog: str) -> None:
    """Refuse a flag that the command does not have, before anything else is looked at.

    Raises:
        UserError: the first such flag, with what was probably meant.
    """
    known = {flag.name: flag.type for flag in flags_of(target)}
    before = ""
    for arg in args[: args.index("--")] if "--" in args else args:
        name = _name_of(arg)
        if arg.startswith("--") and not (name in known or name.startswith("--tyro-")):
            raise unknown(target, arg, prog)
        if re.match("-[A-Za-z]", arg) and arg[:2] not in known:
            if known.get(_name_of(before), bool) is not bool and "=" not in before:
                raise UserError(f"{before} needs a value; one that begins with - is given as {before}={arg}")
            raise unknown(target, arg, prog)
        before = arg


def unknown(target: Callable[..., Any], arg: str, prog: str) -> UserError:
    """What is said of an argument that the command does not take."""
    hint = _meant(target, _name_of(arg), prog) if arg.startswith("-") else ""
    return UserError(f"unknown argument {arg}{f' ({hint})' if hint else ''}; {prog} --help lists them")


def of_box(box: str, prog: str) -> UserError:
    """What tyro objects to, from the box that it drew, in line-drawing characters or in ASCII."""
    lines = [line.strip("│|╰╯").rstrip() for line in box.splitlines()[1:]]
    if names := _missing(lines):
        return missing(dict.fromkeys(names), prog)
    return UserError(f"{_plainly(_first_paragraph(lines))}; {prog} --help explains the arguments")


def missing(named: Mapping[str, object], prog: str) -> UserError:
    """What is said of the arguments that are None."""
    names = [name for name, value in named.items() if value is None]
    return UserError(f"missing {', '.join(names)}; {prog} --help explains the arguments")


def _name_of(arg: str) -> str:
    return arg.split("=")[0].replace("_", "-")


def _meant(target: Callable[..., Any], name: str, prog: str) -> str:
    """A hint at the flag that the user had in mind, or ""."""
    if name in _NO_FLAG.get(prog, {}):
        return _NO_FLAG[prog][name]
    bare = name.lstrip("-")
    for place in places_of(target):
        if bare.upper() == place.strip("[]"):
            return f"{place} has no flag: it is told by its place"
    flags = [known.name for known in flags_of(target)]
    tails = {_tail(flag): flag for flag in reversed(flags)}  # of two alike the one without a section, which is first
    for flag, others in _ELSEWHERE.items():
        if bare in others.split() and flag.split()[0] in flags:
            return f"did you mean {flag}?"
    if bare.startswith("lambda") and "--loss.pair" in flags:
        return "did you mean --loss.pair, lambda 1, or --loss.reward, lambda 2?"
    if "." in name and (nearly := difflib.get_close_matches(name, flags, n=1, cutoff=_VERY_CLOSE)):
        return f"did you mean {nearly[0]}?"
    if _tail(name) in tails:
        return f"did you mean {tails[_tail(name)]}?"
    close = difflib.get_close_matches(name, flags, n=1, cutoff=_CLOSE)
    close += [tails[tail] for tail in difflib.get_close_matches(_tail(name), list(tails), n=1, cutoff=_CLOSE)]
    return f"did you mean {close[0]}?" if close else ""


def _tail(flag: str) -> str:
    """The name without its section."""
    return flag.lstrip("-").rpartition(".")[2]


def _missing(lines: list[str]) -> list[str]:
    """The arguments in tyro's list of those that are required: each stands in a line, its help in those below."""
    at = next((i for i, line in enumerate(lines) if line.strip().startswith("Missing from ")), None)
    if at is None:
        return []
    names: list[str] = []
    for line in lines[at + 1 :]:
        if set(line.strip()) <= set("─-"):
            break
        if _indent(line) == _indent(lines[at]) + 4:
            names.append(re.sub(r" \{.*\}$", _choices, line.strip()))
    return names


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _choices(found: re.Match[str]) -> str:
    return " " + found.group().strip(" {}").replace(",", "|")


def _first_paragraph(lines: list[str]) -> str:
    texts: list[str] = []
    for line in lines:
        if set(line.strip()) <= set("─-"):
            if texts:
                break
        else:
            texts.append(line.strip())
    return " ".join(texts).rstrip(".") or "these arguments cannot be read"


def _plainly(text: str) -> str:
    """tyro's and Python's words for a value of the wrong kind, in those that a configuration is judged with."""
    if found := re.fullmatch(r"invalid choice (.*) for argument '(.*)'\. Expected one of \((.*)\)", text):
        choices = [
            choice for choice in (part.strip(" '") for part in found[3].split(",")) if choice not in ("", "None")
        ]
        return f"{found[2]} must be {either(choices)}, got {found[1]}"
    if found := re.fullmatch(r"Missing value for argument '(.*)'\..*", text):
        flag = found[1].strip("(,)'")  # older tyros tell a tuple
        return f"{flag} needs a value"
    if found := re.fullmatch(r"Error parsing (\S+): invalid literal for int\(\) with base 10: (.*)", text):
        return f"{found[1]} must be an integer, got {found[2]}"
    if found := re.fullmatch(r"Error parsing (\S+): could not convert string to float: (.*)", text):
        return f"{found[1]} must be a number, got {found[2]}"
    if found := re.match(r"Error parsing (\S+): no type matching (\S+) could be instantiated from \[(.*?)\]", text):
        kinds = [_KINDS.get(kind, kind.strip("{}")) for kind in found[2].split("|")]
        return f"{found[1]} must be {either(kinds)}, got {found[3]}"
    if found := re.fullmatch(r"Error parsing (\S+): Could not find valid parse for arguments: \[(.*)\]", text):
        values = re.findall(r"'([^']*)'", found[2])
        apart = "; values stand apart: 1 2" if any(set("[,(") & set(value) for value in values) else ""
        return f"{found[1]} cannot be made of {found[2]}{apart}"
    return text


_KINDS = {"INT": "an integer", "FLOAT": "a number", "{None}": "None"}
