"""The four types of rain: streaks or drops, by day or by night."""

from __future__ import annotations

from typing import Literal, cast

from ..errors import UserError, either

RainType = Literal["drs", "drd", "nrs", "nrd"]
RAIN_TYPES: dict[RainType, str] = {
    "drs": "streaks by day",
    "drd": "drops by day",
    "nrs": "streaks by night",
    "nrd": "drops by night",
}
FIT_ITERATIONS = 1000  # of what tells the types of photographs apart
UNKNOWN = -1  # in place of a type's number, its place in RAIN_TYPES


def types_of(text: str) -> tuple[RainType, ...]:
    """The types in a list with commas, each once, in its order.

    Raises:
        UserError: none, or an unknown one.
    """
    names = dict.fromkeys(name.strip() for name in text.split(",") if name.strip())
    if strange := next((name for name in names if name not in RAIN_TYPES), None):
        raise UserError(f"no type of rain {strange!r}: give {either(list(RAIN_TYPES))}, several with commas")
    if not names:
        raise UserError(f"no type of rain: give {either(list(RAIN_TYPES))}, several with commas")
    return cast(tuple[RainType, ...], tuple(names))
