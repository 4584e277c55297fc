"""Names of scores: NAME, NAME:ARGUMENT or ensemble:[A,B]. It imports nothing heavy: the configuration asks it."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from ..system.hub import is_hub_name
from ..system.names import with_home

NAMES = ("domain", "niqe", "brisque", "daclip", "finpercep", "pyiqa:METRIC", "ensemble:[A,B]")
READY = {  # what `score` takes: scores that need no fitting, or were fitted
    "RUN": "the score that a run was trained with: its folder or its scorer.safetensors",
    "niqe:FILE": "NIQE by published parameters (.npz), or by a file of rgsud-fast fit-niqe",
    "brisque:FILE": "BRISQUE by OpenCV's brisque_model_live.yml",
    "daclip": "DACLIP-IQA (extra daclip); daclip:FILE by a file of weights",
    "finpercep:FILE": "FinPercep-RM by a file of rgsud-fast fit-finpercep, with maps of where an image is spoiled",
    "pyiqa:METRIC": "a no-reference metric of pyiqa (extra iqa)",
    "ensemble:[A,B]": "the mean of the ranks that two scores or more give among your images",
}
FITTED = {
    "domain": "give the path of a run or its scorer.safetensors",
    "niqe": "give the path of a run trained with it, niqe:FILE.npz, or what rgsud-fast fit-niqe PHOTOS FILE writes",
    "finpercep": "give the path of a run trained with it, or finpercep:FILE with what rgsud-fast fit-finpercep "
    "CLEAN FILE writes",
}
INSTEAD = (
    f"give a run, its scorer.safetensors, NIQE's parameters (.npz), or one of {', '.join([*READY][1:])} "
    "(rgsud-fast score --list)"
)
NEEDS = {
    "pyiqa": "a metric, as in pyiqa:piqe",
    "brisque": "OpenCV's file, as in brisque:brisque_model_live.yml",
    "ensemble": "two scores or more, as in ensemble:[domain,niqe]",
}


def parse_scorer(scorer: str) -> tuple[str, str]:
    """A scorer's name and what follows its colon.

    Raises:
        UserError: there is no such scorer.
    """
    name, _, argument = scorer.partition(":")
    if name not in [known.partition(":")[0] for known in NAMES] or (name == "domain" and argument):
        raise UserError(
            f"scorer {scorer}: no such score; choose one of {', '.join(NAMES)}, or give a function in Python"
        )
    return name, with_home(argument)


def check_scorer(scorer: str) -> None:
    """Demand a name that a scorer can be made of.

    Raises:
        UserError: there is no such scorer, or it needs an argument that is not given.
    """
    name, argument = parse_scorer(scorer)
    if scorer.endswith(":") and name not in NEEDS:
        raise UserError(f"scorer {scorer}: name a file after the colon, or leave the colon out")
    if name in NEEDS and not argument:
        raise UserError(f"scorer {scorer}: {name} needs {NEEDS[name]}")
    for member in members_of(scorer) if name == "ensemble" else ():
        if member == "finpercep":
            raise UserError(f"scorer {scorer}: in an ensemble finpercep needs a file of rgsud-fast fit-finpercep")
        check_scorer(member)


def is_name(scorer: str) -> bool:
    """Whether a user names a kind of score, and no file, by it: a file of the same name comes first."""
    return not Path(scorer).exists() and scorer.partition(":")[0] in {name.partition(":")[0] for name in NAMES}


def check_ready(scorer: str) -> None:
    """Demand a score that need not be fitted: a file or folder, a name on the model hub, or such a name of a score.

    Raises:
        UserError: there is no such file or score, a file that it needs is missing, or it must be fitted first.
    """
    if not is_name(scorer):
        if not is_hub_name(scorer) and not Path(scorer).exists():
            raise UserError(f"scorer {scorer}: no such file; {INSTEAD}")
        return
    check_scorer(scorer)
    for part in members_of(scorer) if scorer.startswith("ensemble") else [scorer]:
        if part in FITTED:
            raise UserError(f"scorer {part} must be fitted first: {FITTED[part]}")
        name, file = parse_scorer(part)
        if file and name != "pyiqa" and not Path(file).is_file():
            raise UserError(f"scorer {part}: no such file as {file}")


def members_of(scorer: str) -> list[str]:
    """The members' names in `ensemble:[A,B]`.

    Raises:
        UserError: it is not of this form.
    """
    inside = scorer.partition(":")[2]
    members = [member.strip() for member in inside[1:-1].split(",")]
    nested = any(member.startswith("ensemble") for member in members)
    if not (inside.startswith("[") and inside.endswith("]")) or not all(members) or len(members) < 2 or nested:
        raise UserError(f"scorer {scorer}: ensemble needs {NEEDS['ensemble']}, none of them an ensemble")
    return members


def name_of(scorer: str) -> str:
    """The `name` of the scorer that this string makes: without its files."""
    name, argument = parse_scorer(scorer)
    if name == "ensemble":
        return f"ensemble:[{','.join(name_of(member) for member in members_of(scorer))}]"
    return f"pyiqa:{argument}" if name == "pyiqa" else name
