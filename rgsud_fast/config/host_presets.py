"""Presets of the methods beside RGSUD: `paper` is as the published code trains, the others are for two cores."""

from __future__ import annotations

from typing import Any

# Judges that know rain before the first step, and a quarter of the published cycle, make of a method that stays at its
# input one that derains (docs/methods.md). The reward loss is on the scale of the cycle.
_SMALL: dict[str, Any] = {
    "batch": 4,
    "crop": 64,
    "network": {"initialization": "fan_in"},
    "loss": {"reward": 4.0, "reward_form": "l1"},
    "optim": {
        "learning_rate": 5e-4,
        "stage2_learning_rate": 2e-4,
        "final_learning_rate": 1e-5,
        "hold": 0.6,
        "betas": [0.5, 0.999],
        "discriminator_ratio": 2.0,
        "discriminator_warmup": 200,
        "ema_decay": 0.995,
    },
    "reward": {"first": "oriented", "sweep_every": 300, "newest": True, "mirror": True, "grey_layer": True},
    "stage1_iterations": 2000,
    "stage2_iterations": 600,
    "val_every": 400,
    "save_every": 500,
}
_NARROW: dict[str, Any] = {"width": 16, "blocks": 3, "antialias": False, "residual": True}
_NARROW |= {"judge_width": 16, "high_pass": True}

# 200 epochs of Rain100L's 200 images, the second half towards a rate of 0.
_PAPER: dict[str, Any] = {
    "batch": 1,
    "crop": 256,
    "loss": {"reward": 20.0, "reward_form": "l1"},
    "optim": {"learning_rate": 2e-4, "final_learning_rate": 0.0, "hold": 0.5, "betas": [0.5, 0.999]},
    "stage1_iterations": 40_000,
    "stage2_iterations": 10_000,
}

# UniRain's training, on this package's derainers; its epochs are of a set that nobody has.
UNIRAIN: dict[str, Any] = {
    "method": "unirain",
    "batch": 8,
    "crop": 128,
    "network": {"derainer_middle": 8},
    "optim": {"learning_rate": 2e-4, "final_learning_rate": 1e-6, "algorithm": "adamw", "weight_decay": 0.01},
    "reweight": {"every": 5000},
    "stage1_iterations": 300_000,
    "stage2_iterations": 0,
}
UNIRAIN_SMALL: dict[str, Any] = UNIRAIN | {
    "crop": 64,
    "network": {"derainer_width": 12, "derainer_encoder": [1, 1], "derainer_middle": 1, "derainer_decoder": [1, 1]},
    "optim": UNIRAIN["optim"] | {"learning_rate": 5e-4, "ema_decay": 0.995},
    "reweight": {"every": 100},
    "stage1_iterations": 4000,
    "val_every": 1000,
    "save_every": 500,
}

HOSTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # by method: its part of `paper`, and of the others
    "cyclegan": (_PAPER, _SMALL | {"cyclegan": _NARROW | {"cycle": 4.0, "identity": 2.0}}),
    "unirain": (UNIRAIN, UNIRAIN_SMALL),
    "cut": (_PAPER, _SMALL | {"cut": _NARROW | {"projector": 64, "patches": 64}}),
}


def host_preset(preset: str, method: str) -> dict[str, Any]:
    """The base values of a method that is not RGSUD, for a preset that exists."""
    whole, small = HOSTS[method]
    if preset in ("paper", "unirain"):
        return whole
    more: dict[str, dict[str, Any]] = {"demo": {"data": {"demo": True}}, "medium": {"stage1_iterations": 20_000}}
    return small | more.get(preset, {})
