"""Presets of the methods beside RGSUD: `paper` is as the published code trains, the others are for two cores."""

from __future__ import annotations

from typing import Any

# Derainers other than NAFNet that two cores train, where one is asked for; also RGSUD's.
NARROW_DERAINERS: dict[str, Any] = {
    "restormer": {"dim": 8, "blocks": [1, 1, 1, 1], "refinement": 1},
    "drsformer": {"dim": 8, "blocks": [1, 1, 1, 1], "experts": False},
    "nerd_rain": {"dim": 8, "blocks": [1, 1, 1]},
}

# Judges that know rain before the first step, and a fifth of the published cycle, make of a method that stays at its
# input one that derains (docs/methods.md). First rewards are better than what a derainer makes early on, so the better
# one stays (`newest` is off), and stage 2 is the longer one. Its reward loss is of squares: rain is on few pixels, and
# where a small network is unsure of them the least L1 is to leave all as it is.
_SMALL: dict[str, Any] = {
    "batch": 4,
    "crop": 64,
    "network": {"initialization": "fan_in"},
    "loss": {"reward": 1.0, "reward_form": "psnr"},
    "optim": {
        "learning_rate": 5e-4,
        "stage2_learning_rate": 1e-3,
        "final_learning_rate": 1e-5,
        "hold": 0.6,
        "stage2_hold": 0.6,
        "betas": [0.5, 0.999],
        "discriminator_ratio": 2.0,
        "discriminator_warmup": 200,
        "ema_decay": 0.995,
    },
    "reward": {"first": "oriented", "sweep_every": 300, "mirror": True, "grey_layer": True},
    "stage1_iterations": 600,
    "stage2_iterations": 1200,
    "val_every": 300,
    "save_every": 500,
}
_NARROW: dict[str, Any] = {"width": 16, "blocks": 3, "antialias": False, "residual": True}
_NARROW |= {"judge_width": 16, "high_pass": True}

# 200 epochs of Rain100L's 200 images, the second half towards a rate of 0.
_PAPER: dict[str, Any] = {
    "batch": 1,
    "crop": 256,
    "loss": {"reward": 20.0, "reward_form": "l1"},
    "optim": {"learning_rate": 2e-4, "final_learning_rate": 0.0, "hold": 0.5, "betas": [0.5, 0.999], "clip_norm": 0.0},
    "stage1_iterations": 40_000,
    "stage2_iterations": 10_000,
}

# Of the published run; its batch of 2, and a fourth of it more for rewards.
_CSUD: dict[str, Any] = {
    "batch": 2,
    "crop": 256,
    "loss": {"reward": 1.0, "reward_form": "l1"},
    "optim": {"learning_rate": 1e-4, "halve_every": 20_000, "betas": [0.9, 0.99], "clip_norm": 0.0},
    "stage1_iterations": 100_000,
    "stage2_iterations": 25_000,
}
# The transfer network has no normalisation, so it rises to its rate; a judge that knows little rain by then lets the
# grey-rain term silence it. The adversarial term asks the derainer for what paints rain best, which is rain: at the
# published weights the pair's terms do not hold a small derainer against that.
_SMALL_CSUD: dict[str, Any] = _SMALL | {
    "network": {
        "derainer_width": 12,
        "derainer_encoder": [1, 1],
        "derainer_middle": 1,
        "derainer_decoder": [1, 1],
        "initialization": "fan_in",
        **NARROW_DERAINERS,
    },
    "optim": _SMALL["optim"] | {"warmup": 100, "discriminator_reals": 2, "discriminator_warmup": 500},
    "stage1_iterations": 300,
    "stage2_iterations": 600,
    "csud": {"width": 16, "blocks": 3, "residual": True, "judge_width": 16, "pair": 10.0, "structure": 5.0},
}

# 600 epochs, the projectors at a rate and with moments of their own.
_DCDGAN: dict[str, Any] = _PAPER | {
    "network": {"initialization": "xavier"},
    "optim": _PAPER["optim"] | {"learning_rate": 1e-4},
    "stage1_iterations": 120_000,
    "stage2_iterations": 30_000,
}
# With the published identity a network of this size loses the image.
_SMALL_DCDGAN: dict[str, Any] = _SMALL | {
    "dcdgan": _NARROW | {"projector": 64, "patches": 64, "identity": 10.0, "switch": 4.0},
}

# 200 epochs and 10 more towards a rate of 0.
_NLCL: dict[str, Any] = _PAPER | {
    "network": {"initialization": "xavier"},
    "optim": _PAPER["optim"] | {"hold": 200 / 210},
    "stage1_iterations": 42_000,
}
_SMALL_NLCL: dict[str, Any] = _SMALL | {
    "nlcl": _NARROW
    | {"blocks": 6, "patch": 8, "reach": 12, "patches": 48, "rain_patches": 32, "projector": 64, "judge_layers": 4},
}

# 400 epochs.
_DERAINCYCLEGAN: dict[str, Any] = _PAPER | {
    "crop": 216,
    "optim": _PAPER["optim"] | {"learning_rate": 1e-4, "weight_decay": 1e-4},
    "stage1_iterations": 80_000,
}
_SMALL_DERAINCYCLEGAN: dict[str, Any] = _SMALL | {
    "deraincyclegan": {
        "width": 8,
        "around": 1,
        "dilations": [2, 4],
        "transposed": False,
        "residual": True,
        "detector_width": 8,
        "steps": 3,
        "blocks": 2,
        "judge_width": 16,
        "scales": 0,
        "high_pass": True,
        "cycle": 4.0,
        "switch": 4.0,
    }
}

# UniRain's training, on this package's derainers; its epochs are of a set that nobody has.
UNIRAIN: dict[str, Any] = {
    "method": "unirain",
    "batch": 8,
    "crop": 128,
    "network": {"derainer": "moe", "derainer_middle": 8},
    "optim": {"learning_rate": 2e-4, "final_learning_rate": 1e-6, "algorithm": "adamw", "weight_decay": 0.01},
    "reweight": {"every": 5000},
    "keep_weights": "best",
    "stage1_iterations": 300_000,
    "stage2_iterations": 0,
}
# In decibels: by the absolute error a small network leaves all as it is, and without a floor crops with hardly any rain
# outweigh those with much. Drops need crops and a network that reach across them. Experts cost a CPU more steps than
# they are worth (docs/unirain.md).
UNIRAIN_SMALL: dict[str, Any] = UNIRAIN | {
    "batch": 4,
    "network": {
        "derainer": "nafnet",
        "derainer_width": 16,
        "derainer_encoder": [1, 1, 1, 1],
        "derainer_middle": 1,
        "derainer_decoder": [1, 1, 1, 1],
        **NARROW_DERAINERS,
    },
    "loss": {"labelled_form": "psnr", "labelled_floor": 2.0},
    "optim": UNIRAIN["optim"]
    | {"learning_rate": 2e-3, "final_learning_rate": 1e-5, "warmup": 100, "hold": 0.6, "ema_decay": 0.995},
    "reweight": {"every": 100},
    "stage1_iterations": 4000,
    "val_every": 1000,
    "save_every": 500,
}

HOSTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # by method: its part of `paper`, and of the others
    "cyclegan": (_PAPER, _SMALL | {"cyclegan": _NARROW | {"cycle": 4.0, "identity": 2.0}}),
    "csud": (_CSUD, _SMALL_CSUD),
    "dcdgan": (_DCDGAN, _SMALL_DCDGAN),
    "cut": (
        _PAPER | {"network": {"initialization": "xavier"}, "stage1_iterations": 80_000},  # 400 epochs
        _SMALL | {"cut": _NARROW | {"projector": 64, "patches": 64}},
    ),
    "nlcl": (_NLCL, _SMALL_NLCL),
    "unirain": (UNIRAIN, UNIRAIN_SMALL),
    "deraincyclegan": (_DERAINCYCLEGAN, _SMALL_DERAINCYCLEGAN),
}


def host_preset(preset: str, method: str) -> dict[str, Any]:
    """The base values of a method that is not RGSUD, for a preset that exists."""
    whole, small = HOSTS[method]
    if preset in ("paper", "unirain"):
        return whole
    more: dict[str, dict[str, Any]] = {"demo": {"data": {"demo": True}}, "medium": {"stage1_iterations": 20_000}}
    return small | more.get(preset, {})
