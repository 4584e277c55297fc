"""What the completion script offers in bash."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from rgsud_fast import cli
from rgsud_fast.cli.flags import flags_of
from rgsud_fast.config import Config


@pytest.fixture
def script(capsys):
    assert cli.main(["completion", "bash"]) == 0
    return capsys.readouterr().out


def offered(script, line):
    """The words offered where the last word of the line is being typed."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    asked = f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _rgsud_fast; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "--norc", "-c", script + asked], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_commands_are_completed(script):
    assert offered(script, "rgsud-fast ") == [*offered(script, "rgsud-fast help "), "help"]
    assert set(offered(script, "rgsud-fast help ")) == set(cli.COMMANDS)
    assert offered(script, "rgsud-fast de") == ["derain", "demo"]


def test_flags_of_a_command_are_completed(script):
    assert offered(script, "rgsud-fast derain a --mir") == ["--mirror"]
    assert offered(script, "rgsud-fast evaluate w --") == [
        "--help",
        *(flag for flag in flags("evaluate") if flag.startswith("--")),
    ]
    train = offered(script, "rgsud-fast train --")
    assert set(train) == {"--help", *(flag.name for flag in flags_of(Config))}
    assert {"--config", "--resume", "--reward.no-switch", "--optim.learning-rate"} <= set(train)


def test_values_of_a_flag_with_few_are_completed(script):
    assert offered(script, "rgsud-fast export w --to ") == [
        *("onnx", "torchscript", "safetensors"),
        *("nafnet", "restormer", "drsformer", "nerd_rain", "moe"),
    ]
    assert offered(script, "rgsud-fast train --preset sm") == ["small", "small-gan"]
    assert offered(script, "rgsud-fast derain a --local-statistics ") == ["auto"]
    assert offered(script, "rgsud-fast evaluate w --metrics ") == ["lpips", "dists"]
    assert offered(script, "rgsud-fast completion ") == ["bash", "zsh"]


def test_what_is_no_flag_is_left_to_the_shell_which_names_files(script):
    assert offered(script, "rgsud-fast derain ") == []
    assert offered(script, "rgsud-fast train --out ") == []
    assert "complete -o default " in script


def test_zsh_reads_the_same_script(script, capsys):
    assert cli.main(["completion", "zsh"]) == 0
    printed = capsys.readouterr().out
    assert printed.endswith(script) and "bashcompinit" in printed
    assert cli.main(["completion", "tcsh"]) == 2
    assert "must be bash or zsh" in capsys.readouterr().err


def flags(command):
    from rgsud_fast.cli.commands import _TYPED

    return [flag.name for flag in flags_of(_TYPED[command])]
