"""Changes between the configuration of a run and the one it is resumed with: which are allowed, and what is said."""

from __future__ import annotations

from ..errors import UserError
from .config import Config
from .load import flatten_fields

SILENT = ("out", "device", "threads", "live_gallery", "data.cache_dir", "data.cache_gib")  # where it runs, not what
FIXED = ("seed", "preset", "method")  # what is done already was done with them


def check_changes(before: Config, now: Config, step: int) -> list[str]:
    """Compare the configuration of a run with the one it is to go on with.

    Args:
        before: as the run folder holds it.
        now: as asked for.
        step: iterations done.

    Returns:
        The changed fields, each with both values, for people.

    Raises:
        UserError: a change that the iterations done contradict.
    """
    old, new = (flatten_fields(config.model_dump(mode="json")) for config in (before, now))
    changed = {name: (old.get(name), value) for name, value in new.items() if old.get(name) != value}
    for name in FIXED:
        if name in changed:
            raise UserError(f"{name} is {changed[name][1]}, and the run began with {changed[name][0]}; start a new run")
    stages = {before.stage1_iterations, now.stage1_iterations}
    if len(stages) > 1 and step > min(stages):
        raise UserError(
            f"stage1_iterations is {now.stage1_iterations}, and the run came to step {step} with "
            f"{before.stage1_iterations}; start a new run"
        )
    if step > now.iterations:
        raise UserError(f"both stages have {now.iterations} iterations, and the run came to step {step} already")
    return [f"{name} {value} (was {was})" for name, (was, value) in changed.items() if name not in SILENT]
