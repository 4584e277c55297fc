"""The command line: `rgsud-fast COMMAND [arguments]`; `USAGE` says what each command does."""

from __future__ import annotations

import difflib
import errno
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..system.names import print_anything, with_home

COMMANDS = (
    *("train", "derain", "evaluate", "rain", "render", "export", "score"),
    *("index", "distil"),
    *("toolbox", "publish", "fit-niqe", "fit-finpercep", "convert-daclip", "demo", "schema", "info", "completion"),
)

USAGE = """usage: rgsud-fast COMMAND [arguments]

Remove rain from photographs with a network that learns without pairs (RGSUD).

  train                          train on --data.rainy DIR --data.clean DIR, or without arguments on embedded images
  derain [WEIGHTS] INPUT OUTPUT  remove rain from an image, a folder or a video
  evaluate WEIGHTS --rainy DIR --clean DIR
                                 measure PSNR and SSIM against clean versions; or with --pairs DIR, by type
  rain RUN CLEAN RAINY OUT       make rainy versions of clean images with the rain that a run has learned
  render CLEAN OUT               render streaks and drops, by day and by night, onto clean images
  index REFERENCES OUT           index real photographs of rain, which distil compares labelled pairs with
  distil INDEX PAIRS... OUT      keep the good pairs of public sets, and say why the rest is not
  export WEIGHTS [OUT] --to FORMAT
                                 write a network for other programs: onnx, torchscript, safetensors, nafnet
  score IMAGES --metric METRIC   judge images without ground truth
  toolbox train|run|evaluate|add small networks for each kind of damage, and an agent that chains them
  publish RUN OWNER/REPO         upload a run's weights, model card and gallery to a model hub
  fit-niqe PHOTOS OUT            fit the NIQE score to good photographs
  fit-finpercep CLEAN OUT        fit a score that also shows where a derained image is spoiled
  convert-daclip CHECKPOINT OUT  keep of DA-CLIP's weights what the daclip score needs
  demo [WEIGHTS]                 open a page on this machine: a photograph before and after, and a run's gallery
  schema                         print the JSON schema of the configuration, for editors
  info                           show versions, devices and which implementation each op uses
  completion bash|zsh            print a script with which the shell completes commands and flags

`rgsud-fast COMMAND --help` explains the arguments of a command. WEIGHTS is a run folder, a file of weights,
or hf:OWNER/REPO[/FILE] on a model hub.
Where this was installed from, README.md is the way in and docs/README.md lists the pages (own data, scores, fields).
Completion at the key TAB: source <(rgsud-fast completion bash), in ~/.bashrc for good; zsh alike.
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0, 2 for what the user can mend (one line on standard error), 130 when interrupted.
    """
    args = [_from_home(arg) for arg in (sys.argv[1:] if argv is None else argv)]
    print_anything()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            return _dispatch(args)
    except UserError as error:
        return _complain(str(error))
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.strerror is None:  # no fault of the system's, such as a full disk, but of ours
            raise
        mend = "; free some space there and try again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return _complain(f"{error.filename}: {error.strerror}{mend}" if error.filename else error.strerror + mend)
    except KeyboardInterrupt:
        print("rgsud-fast: interrupted", file=sys.stderr)
        return 130


def _dispatch(args: list[str]) -> int:
    if args[:1] == ["help"] and len(args) > 1:
        args = [args[1], "--help"]
    if not args or args[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if args else 2
    if args[0] in ("-V", "--version"):
        from ..version import version

        print(f"rgsud-fast {version()}")
        return 0
    command, rest = args[0], args[1:]
    if command not in COMMANDS:
        close = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"use one of {', '.join(COMMANDS)};"
        raise UserError(f"unknown command {command!r}: {hint} --help explains them")
    from . import commands

    try:
        commands.run(command, rest)
    except SystemExit as stop:  # tyro printed a command's --help
        return int(stop.code or 0)
    return 0


def _warn(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """A warning as one line; those of libraries, which speak to programmers, as Python prints them."""
    ours = category is UserWarning and Path(filename).is_relative_to(Path(__file__).parents[1])
    if ours:
        sys.stderr.write(f"rgsud-fast: {' '.join(str(message).split())}\n")
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))


def _from_home(arg: str) -> str:
    """An argument whose ~, or that after --NAME=, is the home, which shells leave to us in --NAME=~/DIR."""
    flag, equal, value = arg.partition("=")
    return f"{flag}={with_home(value)}" if equal and flag.startswith("--") else with_home(arg)


def _complain(message: str) -> int:
    rank = os.environ.get("RANK", "0")  # torchrun's
    of = f" [rank {rank}]" if rank != "0" else ""
    print(f"rgsud-fast{of}: {' '.join(message.split())}", file=sys.stderr)
    return 2
