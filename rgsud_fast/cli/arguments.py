"""Command-line arguments, read by tyro from types; every mistake in them is one line."""

from __future__ import annotations

import contextlib
import functools
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import tyro

from ..config import Config, load_config
from ..config.asked import check_asked
from ..config.load import read_yaml
from ..config.presets import default_preset
from ..config.unread import refuse_unread
from ..errors import UserError
from ..runs.folder import RUNS, newest_run, run_to_use
from .flags import models_as_dicts
from .mistakes import of_box, refuse_unknown, unknown

_TRAIN = """Train RGSUD, both stages, on your rainy and clean photographs, or on embedded ones if you name none.

A field comes from the preset, then from --config, then from the command line; the last one counts. The defaults shown
are those of the preset in force."""


def read_train(args: list[str]) -> tuple[Config, bool, str]:
    """Read the arguments of `train`.

    Returns:
        The configuration, whether to resume, and a line that says which preset was chosen and why, or "".

    Raises:
        UserError: one line that names the argument.
        SystemExit: --help was printed.
    """
    if not {"-h", "--help"} & set(args):
        refuse_unknown(Config, args, "rgsud-fast train")  # before anything that takes time
    resume = "--resume" in args
    given: dict[str, Any] = {}
    source = _value(args, "config")
    if source is not None:
        given = read_yaml(Path(source))
    elif resume:
        out = _value(args, "out")
        folder = Path(out) if out is not None else _newest_run(_value(args, "preset"))
        given = read_yaml(_config_of(folder)) | {"out": str(folder)}
        _refuse_cache_elsewhere(given, args, folder)
    line = ""
    if (preset := _value(args, "preset")) is not None:
        given = {**given, "preset": preset}
    elif "preset" not in given:
        given["preset"], line = _default_preset(args, given)
    if (method := _value(args, "method")) is not None:
        given = {**given, "method": method}  # which has presets of its own
    base = load_config(given)

    fields = parse(Config, args, "rgsud-fast train", default=base, registry=models_as_dicts(), description=_TRAIN)
    resume = fields.pop("resume")
    fields.pop("config")
    config = load_config(fields)
    if not resume:
        refuse_unread(config, _named(args))
    check_asked(config)
    return config, resume, line


def _named(args: list[str]) -> set[str]:
    """The fields that flags name, as `reward.switch`, also of --reward.no-switch."""
    flags = (arg[2:].partition("=")[0].replace("-", "_") for arg in args if arg.startswith("--"))
    parts = (flag.rpartition(".") for flag in flags)
    return {f"{section}{dot}{name.removeprefix('no_')}" for section, dot, name in parts}


def parse(target: Callable[..., Any], args: list[str], prog: str, **options: Any) -> Any:
    """Let tyro read `args` for a type or call a function with them, and turn what it objects to into one line.

    Raises:
        UserError: an unknown, ill-typed or missing argument.
        SystemExit: --help was printed.
    """
    helping = bool({"-h", "--help"} & set(args))
    if not helping:
        refuse_unknown(target, args, prog)
    told = io.StringIO()
    columns = os.environ.get("COLUMNS")
    if not helping:
        os.environ["COLUMNS"] = "500"  # so that tyro breaks no name or path in two
    try:
        with contextlib.redirect_stderr(told):
            value, strays = tyro.cli(target, args=args, prog=prog, return_unknown_args=True, **options)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise of_box(told.getvalue(), prog) from None
    finally:
        os.environ.pop("COLUMNS", None)
        if columns is not None:
            os.environ["COLUMNS"] = columns
    if strays:
        raise unknown(target, strays[0], prog)
    return value


def later(command: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """The same arguments, but what they are given to runs when tyro is done with them."""

    @functools.wraps(command)
    def bind(*args: Any, **options: Any) -> Callable[[], None]:
        return functools.partial(command, *args, **options)

    return bind


def what_to_derain(
    paths: tuple[Path, ...], weights: Path | None, images: Path | None, output: Path | None
) -> tuple[Path, Path, Path]:
    """Weights, input and output of `derain`: paths stand, in this order, for what no option names.

    Where just the weights are named in neither way, they are the newest finished run's, and a line says so.

    Raises:
        UserError: too few or too many paths, or no finished run.
    """
    named = {"WEIGHTS": weights, "INPUT": images, "OUTPUT": output}
    missing = [name for name, path in named.items() if path is None]
    newest = "WEIGHTS" in missing and len(paths) == len(missing) - 1
    if newest and (taken := next((path for path in paths if _is_weights(path)), None)) is not None:
        raise UserError(f"derain {taken}: these are weights; give WEIGHTS INPUT OUTPUT")
    if newest:
        missing.remove("WEIGHTS")
    if len(paths) != len(missing):
        raise UserError(
            f"derain takes [WEIGHTS] INPUT OUTPUT, and got {len(paths)} paths for {' '.join(missing) or 'none'};"
            " rgsud-fast derain --help explains the arguments"
        )
    named |= dict(zip(missing, paths, strict=True))
    if newest:
        named["WEIGHTS"] = run_to_use()
        print(f"with the weights of {named['WEIGHTS']}", flush=True)
    found = tuple(path for path in named.values() if path is not None)
    return cast(tuple[Path, Path, Path], found)


def _is_weights(path: Path) -> bool:
    inside = ("derainer.safetensors", "checkpoint.pt")
    files = any((path / name).is_file() for name in inside)
    return files or path.suffix in (".safetensors", ".pth", ".pt", ".ckpt") or str(path).startswith("hf:")


def _value(args: list[str], name: str) -> str | None:
    """The last value of --NAME VALUE or --NAME=VALUE; None where it is not given."""
    found = None
    for i, arg in enumerate(args):
        if arg == f"--{name}" and i + 1 < len(args):
            found = args[i + 1]
        elif arg.startswith(f"--{name}="):
            found = arg.split("=", 1)[1]
    return found


def _default_preset(args: list[str], given: dict[str, Any]) -> tuple[str, str]:
    """Demo without folders; with folders what the device can train."""
    data = given.get("data")
    named = [data.get(field) for field in ("rainy", "clean")] if isinstance(data, dict) else []
    named += [_value(args, "data.rainy"), _value(args, "data.clean")]
    device = str(_value(args, "device") or given.get("device", "auto"))
    if device == "auto" and {"-h", "--help"} & set(args):
        device = "cpu"  # --help does not wait for torch
    pairs = bool(_value(args, "data.pairs") or (isinstance(data, dict) and data.get("pairs")))
    return default_preset(any(named), device, pairs, str(_value(args, "method") or given.get("method", "")))


def _newest_run(preset: str | None) -> Path:
    folder = newest_run(RUNS, preset)
    if folder is None:
        raise UserError(f"nothing to resume under {RUNS}/: name the run's folder with --out")
    return folder


def _config_of(folder: Path) -> Path:
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"nothing to resume in {folder}: it has no config.yaml; name the run's folder with --out")
    return path


def _refuse_cache_elsewhere(given: dict[str, Any], args: list[str], folder: Path) -> None:
    """A run folder may be somebody else's: what it names to be written to must lie in it, or be named by the user."""
    data = given.get("data")
    cache = data.get("cache_dir") if isinstance(data, dict) else None
    if cache is None or _value(args, "data.cache_dir") or _value(args, "data.cache-dir"):
        return
    if not Path(str(cache)).resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"{folder / 'config.yaml'} puts the image cache into {cache}, outside the run: if you want it there, "
            f"resume with --data.cache-dir {cache}"
        )
