"""The commands by name, and those about this installation.

torch is imported by the command that needs it, so that --help and mistakes are answered at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from tyro.conf import arg

from ..config import Config
from ..system import threads
from .arguments import later, parse
from .distil_commands import distil, index
from .image_commands import demo, derain, evaluate, rain, score
from .network_commands import convert_daclip, export, fit_finpercep, fit_niqe, publish, train
from .pair_commands import render
from .toolbox_commands import offered, toolbox


def schema() -> None:
    """Print the JSON schema of the configuration, with which an editor completes and checks a YAML file.

    Save it (rgsud-fast schema > rgsud.schema.json) and begin the YAML file beside it with the line
    "# yaml-language-server: $schema=rgsud.schema.json".
    """
    from ..config.schema import schema_text

    print(schema_text())


def info() -> None:
    """Show versions, devices, compiled architectures, and which implementation each op uses here and why."""
    from ..ops.installation import describe

    print(describe())


def completion(shell: Annotated[Literal["bash", "zsh"], arg(metavar="bash|zsh")], /) -> None:
    """Print a script with which a shell completes commands, flags and their values at the key TAB.

    bash, from its next start on: rgsud-fast completion bash > ~/.local/share/bash-completion/completions/rgsud-fast
    (needs the package bash-completion; without it, put the line source <(rgsud-fast completion bash) into ~/.bashrc).
    zsh: put the line source <(rgsud-fast completion zsh) into ~/.zshrc.

    Args:
        shell: Which shell.
    """
    from .completion import completion_script

    print(completion_script({"train": Config, "toolbox": offered, **_TYPED}, shell), end="")


_ABOUT_IMAGES = (derain, evaluate, rain, render, score, demo)
_ABOUT_SETS = (index, distil)
_ABOUT_NETWORKS = (export, publish, fit_niqe, fit_finpercep, convert_daclip)
_TYPED: dict[str, Callable[..., None]] = {
    command.__name__.replace("_", "-"): command
    for command in (*_ABOUT_IMAGES, *_ABOUT_SETS, *_ABOUT_NETWORKS, schema, info, completion)
}


def run(command: str, args: list[str]) -> None:
    """Run the command of that name.

    Raises:
        UserError: something to mend, in one line.
        SystemExit: --help was printed.
    """
    waiting = "" if {"-h", "--help"} & set(args) or command in ("schema", "completion") else threads.choose()
    if command == "train":
        train(args, waiting)
    elif command == "toolbox":
        toolbox(args)
    else:
        call = parse(later(_TYPED[command]), args, f"rgsud-fast {command}")
        call()
