"""A script that lets a shell complete commands, flags and their values.

tyro's own scripts are for a program without commands, and start Python at every press of the key.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any, Literal, Union, get_args, get_origin

from .flags import flags_of

_SCRIPT = """_rgsud_fast() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}} words=
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="{commands} help"
  elif [ "$command" = help ]; then
    words="{commands}"
  else
    case "$command $before" in
{values}
    esac
    if [ -z "$words" ] && [ "${{word#-}}" != "$word" ]; then
      case "$command" in
{flags}
      esac
    fi
  fi
  [ -z "$words" ] || COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _rgsud_fast rgsud-fast
"""
_ZSH = "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n"


def completion_script(commands: dict[str, Callable[..., Any]], shell: Literal["bash", "zsh"]) -> str:
    """The script for a shell; where a word is neither command nor flag nor one of few values, the shell names files.

    Args:
        commands: by name, a function or the configuration, whose parameters or fields are the flags.
        shell: zsh reads the script of bash.
    """
    names = {name: ["--help", *(flag.name for flag in flags_of(of))] for name, of in commands.items()}
    flags = [f'        {name}) words="{" ".join(words)}" ;;' for name, words in names.items()]
    values = [
        f'      "{name} {flag.name}") words="{" ".join(choices)}" ;;'
        for name, of in commands.items()
        for flag in flags_of(of)
        if (choices := list(_choices(flag.type)))
    ]
    values.append('      "completion completion") words="bash zsh" ;;')
    script = _SCRIPT.format(commands=" ".join(commands), values="\n".join(values), flags="\n".join(flags))
    return (_ZSH if shell == "zsh" else "") + script


def _choices(kind: Any) -> Iterator[str]:
    """The words that a flag of this type takes; of one that takes a path or a number none."""
    if get_origin(kind) is Literal:
        yield from map(str, get_args(kind))
    elif get_origin(kind) in (Union, types.UnionType, tuple):
        for one in get_args(kind):
            yield from _choices(one)
