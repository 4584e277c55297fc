"""Presets: what each changes of the paper's recipe, and which one a run takes where none is named."""

from __future__ import annotations

from typing import Any

# What made rewards better than the derainer that they teach (bench/studies/reward_quality.py); the decay lets a newer
# version win where the score hardly tells.
_REWARDS: dict[str, Any] = {"keep": 2, "decay": 0.05, "mirror": True, "grey_layer": True}

# Narrow networks that two cores train. With N(0, 0.02) their generator adds nothing for hundreds of iterations, and a
# discriminator that has not warmed up lets the guidance terms switch its rain information off.
_TINY: dict[str, Any] = {
    "batch": 4,
    "crop": 64,
    "network": {
        "derainer_width": 12,
        "derainer_encoder": [1, 1],
        "derainer_middle": 1,
        "derainer_decoder": [1, 1],
        "unet_width": 8,
        "unet_levels": 2,
        "generator_width": 16,
        "generator_blocks": 3,
        "discriminator_width": 16,
        "initialization": "fan_in",
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
}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "small": _TINY | {"stage1_iterations": 2600, "stage2_iterations": 600, "val_every": 400, "save_every": 500},
    "demo": _TINY
    | {
        "data": {"demo": True},
        "stage1_iterations": 1150,
        "stage2_iterations": 250,
        "val_every": 500,
        "save_every": 500,
        "reward": {"sweep_every": 300, **_REWARDS},
    },
}


def default_preset(folders: bool, device: str = "auto") -> tuple[str, str]:
    """Demo without folders; with folders what the device can train.

    Args:
        folders: whether the user names images of their own.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        The preset, and a line that says why.
    """
    if not folders:
        return "demo", "preset demo: embedded photographs, since no --data.rainy and --data.clean are given"
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        return "paper", "preset paper: a CUDA GPU trains; --preset small is the CPU-sized one"
    return "small", "preset small: a CPU trains; --preset paper has the full sizes"
