"""The smallest networks that every test of a whole run trains."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

TINY_NETWORKS = {
    "derainer_width": 4,
    "derainer_encoder": [1],
    "derainer_middle": 1,
    "derainer_decoder": [1],
    "unet_width": 4,
    "unet_levels": 2,
    "generator_width": 4,
    "generator_blocks": 1,
    "discriminator_width": 4,
}

# What makes each derainer as small, by its name in the configuration.
TINY_DERAINERS: dict[str, dict] = {
    "nafnet": {},
    "restormer": {"restormer": {"dim": 4, "blocks": [1, 1], "heads": [1, 2], "refinement": 1}},
    "drsformer": {"drsformer": {"dim": 4, "blocks": [1, 1], "heads": [1, 2], "experts": True}},
    "nerd_rain": {"nerd_rain": {"dim": 4, "blocks": [1, 1], "heads": [1, 2], "hidden": 8}},
    "moe": {"moe": {"noise": 0.2}},
}

# A whole run of ten iterations, beside its images and `out`.
TINY_RUN = {
    "preset": "small-gan",
    "batch": 2,
    "crop": 32,
    "device": "cpu",
    "stage1_iterations": 6,
    "stage2_iterations": 4,
    "log_every": 2,
    "val_every": 3,
    "save_every": 100,
    "network": TINY_NETWORKS,
    "optim": {"ema_decay": 0.9, "hold": 0.0, "discriminator_reals": 2},
    "reward": {"sweep_every": 2, "keep": 2},
}

# The smallest networks of each method.
TINY_HOST = {"width": 4, "blocks": 1, "judge_width": 4}
TINY_METHODS = {
    "rgsud": {},
    "cyclegan": {"cyclegan": TINY_HOST},
    "csud": {"csud": {"width": 4, "blocks": 1, "judge_width": 4}},
    "dcdgan": {"dcdgan": TINY_HOST | {"projector": 8, "patches": 8}},
    "cut": {"cut": TINY_HOST | {"projector": 8, "patches": 8}},
    "unirain": {"reweight": {"every": 2}, "network": {"derainer": "moe"}},
    "nlcl": {"nlcl": TINY_HOST | {"projector": 8, "patch": 4, "reach": 4, "patches": 8, "rain_patches": 6}},
    "deraincyclegan": {
        "deraincyclegan": TINY_HOST | {"around": 0, "dilations": [2], "detector_width": 4, "steps": 2, "scales": 2}
    },
}


def run_of(config, method, **fields):
    """That run by a method, which need not read RGSUD's networks."""
    from rgsud_fast.config import merge
    from rgsud_fast.config.unread import reads

    if method == "unirain":
        config = config | {"data": labelled_data(config)}
    network = {name: value for name, value in config.get("network", {}).items() if reads(method, f"network.{name}")}
    return merge(config | {"network": network}, {"method": method, **TINY_METHODS[method], **fields})


# What turns that run into one of pasted rain: without a generator, or beside it.
NO_GENERATOR = dict.fromkeys(("adversarial", "pair", "channel_consistency", "background_guidance"), 0)
_FIRST = {"reward": {"first": "oriented", "fidelity": 9.0}}
PASTED = {
    "generator": {},
    "pasted": {"loss": NO_GENERATOR | {"pasted": 1, "pasted_on_rewards": 0.5}, **_FIRST},
    "both": {"loss": {"pasted": 1, "pasted_share": 0.5}, **_FIRST},
}


def write_pairs(folder, types=("drs", "nrd"), scenes=3):
    """Labelled pairs of noise in the layout of UniRain's own set; returns the folder's name."""
    generator = np.random.default_rng(1)
    for kind in types:
        for scene in range(scenes):
            clean = generator.integers(0, 200, (44, 52, 3), dtype=np.uint8)
            for side, image in (("input", clean + 40), ("target", clean)):
                (folder / kind / side).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image.astype(np.uint8)).save(folder / kind / side / f"{scene}.png")
    return str(folder)


def labelled_data(config):
    """The data of the tiny run on labelled pairs alone, which lie beside its other images."""
    data = {"pairs": write_pairs(Path(config["out"]).parent / "pairs"), "held_out": 0.4}
    return data | {name: config["data"][name] for name in ("val_rainy", "val_clean")}


def labelled(config, **fields):
    """The tiny run by UniRain's method."""
    return run_of(config, "unirain", **fields)


def darkness(images):
    """A score: darker is better."""
    return -images.mean(dim=(1, 2, 3))


def same_bits(a, b) -> bool:
    """Whether two nests of dicts, lists, tensors and plain values are equal."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_bits(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same_bits, a, b))
    return a == b


def train_and_interrupt(config, at, monkeypatch, quiet=True) -> None:
    """Train until SIGTERM comes in the iteration after `at` others, which still ends and is saved."""
    from rgsud_fast.training import train
    from rgsud_fast.training.trainer import Trainer  # not before conftest has set what the package reads

    iterate = Trainer.iterate

    def interrupted(self):
        if self.step == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return iterate(self)

    monkeypatch.setattr(Trainer, "iterate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config, scorer=darkness, quiet=quiet)
    monkeypatch.setattr(Trainer, "iterate", iterate)
