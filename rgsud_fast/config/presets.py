"""Presets: what each changes of the paper's recipe, and which one a run takes where none is named."""

from __future__ import annotations

from typing import Any

from .host_presets import NARROW_DERAINERS, UNIRAIN, UNIRAIN_SMALL

# What made rewards better than the derainer that they teach (bench/studies/reward_quality.py); the decay lets a newer
# version win where the score hardly tells.
_REWARDS: dict[str, Any] = {"keep": 2, "decay": 0.05, "mirror": True, "grey_layer": True}

# Networks beside the derainer that two cores train.
_NARROW: dict[str, Any] = {
    "unet_width": 8,
    "unet_levels": 2,
    "generator_width": 16,
    "generator_blocks": 3,
    "discriminator_width": 16,
    "initialization": "fan_in",
    **NARROW_DERAINERS,
}

# Pasted rain in place of the generator: minutes teach a generator too little (docs/measurements.md). The newest reward
# wins: where candidates are nearly right the score cannot tell which is the better one.
_PASTED: dict[str, Any] = {
    "batch": 4,
    "crop": 64,
    "loss": {"adversarial": 0.0, "pair": 0.0, "pasted": 1.0, "pasted_on_rewards": 0.25, "pasted_floor": 1e-4},
    "optim": {"final_learning_rate": 1e-5, "hold": 0.6, "ema_decay": 0.995},
    "reward": {"first": "oriented", "newest": True, "mirror": True, "grey_layer": True},
    "stage2_iterations": 0,
}

# The paper's recipe with narrow networks. With N(0, 0.02) their generator adds nothing for hundreds of iterations, and
# a discriminator that has not warmed up lets the guidance terms switch its rain information off.
_GAN: dict[str, Any] = {
    "batch": 4,
    "crop": 64,
    "network": {
        "derainer_width": 12,
        "derainer_encoder": [1, 1],
        "derainer_middle": 1,
        "derainer_decoder": [1, 1],
        **_NARROW,
    },
    "loss": {"channel_consistency": 10.0, "background_guidance": 2.0, "reward_form": "sum"},
    "optim": {
        "learning_rate": 5e-4,
        "stage2_learning_rate": 2e-4,
        "final_learning_rate": 1e-5,
        "hold": 0.6,
        "discriminator_ratio": 2.0,
        "discriminator_reals": 2,
        "discriminator_warmup": 500,
        "ema_decay": 0.995,
    },
    "reward": {"sweep_every": 200, **_REWARDS},  # a sweep of 50 images: about 40 iterations
    "stage1_iterations": 2600,
    "stage2_iterations": 600,
    "val_every": 400,
    "save_every": 500,
}


def _pasted(width: int, levels: int, iterations: int, sweeps: int, rate: float, **fields: Any) -> dict[str, Any]:
    """Pasted rain for a derainer of one block a level, with sweeps evenly over the iterations."""
    network = {"derainer_width": width, "derainer_middle": 1, **_NARROW}
    blocks = dict.fromkeys(("derainer_encoder", "derainer_decoder"), [1] * levels)
    every = iterations // (sweeps + 1)
    changes = {
        "network": network | blocks,
        "optim": _PASTED["optim"] | {"learning_rate": rate, "warmup": iterations // 40},
        "reward": _PASTED["reward"] | {"sweep_every": every, "sweep_start": every / iterations},
        "stage1_iterations": iterations,
    }
    return _PASTED | changes | fields


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "medium": _pasted(32, 3, 40_000, 7, 1e-3, val_every=2000, save_every=1000),
    "small": _pasted(24, 3, 10_000, 4, 1.5e-3, val_every=1000, save_every=1000),
    "small-gan": _GAN,
    "unirain": UNIRAIN,
    "unirain-small": UNIRAIN_SMALL,
    "demo": _pasted(16, 3, 4_000, 3, 2e-3, data={"demo": True}, val_every=1000, save_every=1000),
}


def default_preset(folders: bool, device: str = "auto", pairs: bool = False, method: str = "") -> tuple[str, str]:
    """Demo without folders; with folders what the device can train.

    Args:
        folders: whether the user names images of their own.
        device: auto, cpu, cuda or cuda:N.
        pairs: whether labelled pairs are named.
        method: the one that is named, or "".

    Returns:
        The preset, and a line that says why.
    """
    folders |= pairs and method == "rgsud"  # which lacks images of its own, and says so
    pairs &= method in ("", "unirain")
    if not folders and not pairs:
        return "demo", "preset demo: embedded photographs, since no --data.rainy and --data.clean are given"
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    if pairs and not folders:
        if device.startswith("cuda"):
            return "unirain", "preset unirain: labelled pairs alone; --preset unirain-small is the CPU-sized one"
        return "unirain-small", "preset unirain-small: labelled pairs alone; --preset unirain has the full sizes"
    if device.startswith("cuda"):
        return "paper", "preset paper: a CUDA GPU trains; --preset small is the CPU-sized one"
    return "small", "preset small: a CPU trains; --preset medium takes over an hour, paper has the full sizes"
