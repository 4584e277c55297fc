"""The configuration as a JSON schema: editors complete and check a YAML file with it."""

from __future__ import annotations

import json
import math
from typing import Any

from .config import Config

DRAFT = "https://json-schema.org/draft/2020-12/schema"  # the dialect that pydantic writes


def json_schema() -> dict[str, Any]:
    """Describe every field: type, range, the paper's default, what it is for. Unknown keys are refused.

    Rules between two fields (validation folders go together, as do the derainer's levels) and names of scores are not
    in it: `load_config` judges those. A path is a string.

    Returns:
        The schema, in JSON's own types.
    """
    return {"$schema": DRAFT, **_without_infinity(Config.model_json_schema())}


def schema_text() -> str:
    """The schema as `rgsud-fast schema` prints it."""
    return json.dumps(json_schema(), indent=2, allow_nan=False)


def _without_infinity(node: Any) -> Any:
    """The same, less every default that JSON has no number for."""
    if isinstance(node, list):
        return [_without_infinity(part) for part in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _without_infinity(value)
        for key, value in node.items()
        if not (key == "default" and isinstance(value, float) and not math.isfinite(value))
    }
