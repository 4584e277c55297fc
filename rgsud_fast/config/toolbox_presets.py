"""Presets of toolboxes: the paper's twelve tools, six for two cores, and a box against rain."""

from __future__ import annotations

from typing import Any


def _tool(name: str, damage: str, low: float, high: float, net: str = "small") -> dict[str, Any]:
    return {"name": name, "damage": damage, "low": low, "high": high, "net": net}


# What two quiet cores train in 15 minutes, where 1,500 steps of a tool take 50 s.
_SMALL: dict[str, Any] = {
    "fit": {
        "steps": 1500,
        "batch": 12,
        "optimizer": "adam",
        "loss": "decibels",  # blur up to sigma 2: -0.04 dB in its own band, -0.67 by the squared error
        "learning_rate": 1.5e-3,  # at 2e-3 the JPEG tools may die: no unit of the second layer answers any more
        "look_every": 150,
        "look_patches": 48,
    },
    "damage": {"severity": "all"},
    "agent": {
        "side": 48,
        "pooled": True,  # 88 % of the greedy oracle on unseen photographs
        "every_tool": True,  # with the paper's eye 87 %, double DQN 73 to 78 %
        "average": 0.99,
        "total": 24_000,
        "update_every": 5,
        "learning_rate": 2e-3,  # at which the paper's eye learned nothing
        "final_learning_rate": 3e-5,
        "halve_every": 0,
        "clip_norm": 1.0,
        "explore_after": 500,
        "explore_over": 15_000,
        "replay": 20_000,
    },
    "joint": {
        "steps": 1500,
        "batch": 12,
        "learning_rate": 7e-4,  # at 1.5e-3 from the first step on what tools had learned was lost: 2.30 to 1.74 dB
        "one_cycle": True,
        "look_every": 100,
        "look_episodes": 48,
    },
    "measure": {"gate_states": 200, "episodes": 96, "search_episodes": 24},
}

_TWELVE = [
    *(_tool(f"blur-{i}", "blur", 1.25 * (i - 1), 1.25 * i, "small" if i < 3 else "large") for i in range(1, 5)),
    *(_tool(f"noise-{i}", "noise", 12.5 * (i - 1), 12.5 * i, "small" if i < 3 else "large") for i in range(1, 5)),
    _tool("jpeg-1", "jpeg", 60, 100),
    _tool("jpeg-2", "jpeg", 35, 60),
    _tool("jpeg-3", "jpeg", 20, 35, "large"),
    _tool("jpeg-4", "jpeg", 10, 20, "large"),
]
_SIX = [
    _tool("blur-1", "blur", 0, 2),
    _tool("blur-2", "blur", 2, 4),
    _tool("noise-1", "noise", 0, 20),
    _tool("noise-2", "noise", 20, 50),
    _tool("jpeg-1", "jpeg", 40, 100),
    _tool("jpeg-2", "jpeg", 10, 40),
]
_CAMERA = [
    _tool("noise", "noise", 5, 30),
    _tool("blur", "blur", 0.8, 2.5),
    _tool("jpeg", "jpeg", 15, 60),
    _tool("night", "night", 0.3, 1),
]
_RAIN = [
    _tool("streaks-light", "streaks", 0.12, 0.3),
    _tool("streaks-heavy", "streaks", 0.3, 0.55),
    _tool("drops", "drops", 0.05, 0.25),
]

TOOLBOX_PRESETS: dict[str, dict[str, Any]] = {
    "toolbox": {"tools": _TWELVE},
    "toolbox-small": {"tools": _SIX, **_SMALL},
    "rain-box": {
        **_SMALL,
        "tools": _RAIN + _CAMERA,
        "damage": {"rain": True, "severity": "all"},
        "fit": _SMALL["fit"] | {"idle": 0.25},
        "agent": _SMALL["agent"] | {"jitter": 0.25, "undamaged": 0.05, "total": 30_000},
        "joint": _SMALL["joint"] | {"steps": 2000},  # three kinds of damage more to tune for
    },
}


def with_run(tools: list[dict[str, Any]], name: str = "derain") -> list[dict[str, Any]]:
    """The tools with a run's derainer in place of those that remove streaks, or in addition where there are none."""
    return [_tool(name, "given", 0, 0), *(tool for tool in tools if tool["damage"] != "streaks")]
