"""A small network that tells the four types of rain apart, fitted to rendered rain; its features describe photographs.

It sees detail alone; what brightness says of night is added to its verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.rain_types import FIT_ITERATIONS, RAIN_TYPES, RainType
from ..data import list_images, read_image
from ..data.demo import photograph
from ..data.pairs import middle_of
from ..data.sampler import evenly
from ..data.weather import render_pair
from ..errors import UserError, reason
from ..iqa import _augment as augment
from ..iqa.domain import BATCH, CROP, LEARNING_RATE, WEIGHT_DECAY, WIDTHS, RainNet
from ..system.files import replacing
from ..system.watch import Watch, nobody, watched
from .measures import grey

TYPES: tuple[RainType, ...] = tuple(RAIN_TYPES)
# The darker, the more it is night: added to the logits of its two types, of the median luma. Rendered nights have one
# of 24 to 81 of 255, days of 62 on.
NIGHT, DUSK = 67 / 255, 6 / 255
SURE = 0.6  # probability from which on a photograph has a type
SCENES, SIDE = 48, 256  # clean photographs that rain is rendered on, and the pixels of their middle that are used
EMBEDDED = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "motorcycle_right.png")


class TypeNetwork(RainNet):
    """RainNet with an output for each type: its first filters sum to zero, so brightness never enters."""

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__(widths)
        self.rest[-1] = nn.Conv2d(widths[-1], len(TYPES), 1)

    def features(self, images: Tensor) -> Tensor:
        """Last features, [N, 3, H, W] in [0, 1] -> [N, 48, h, w]."""
        filters = self.first.weight - self.first.weight.mean((2, 3), keepdim=True)
        detail = F.conv2d(images, 4 * filters, self.first.bias, self.first.stride)
        return self.rest[:-1](detail)

    def forward(self, images: Tensor) -> Tensor:
        """Mean of the local logits, [N, 3, H, W] -> [N, 4]."""
        return self.rest[-1](self.features(images)).mean((2, 3))

    @torch.no_grad()
    def describe(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities [4] of the types, and mean and deviation of the last features [96], of one image [1, 3, H, W].

        The network judges by detail alone; what brightness says of the time of day is added.
        """
        features = self.features(image)
        logits = self.rest[-1](features).mean((2, 3))[0]
        dark = (NIGHT - grey(image).median()) / DUSK
        logits = logits + dark * logits.new_tensor([0.5 if kind.startswith("n") else -0.5 for kind in TYPES])
        return logits.softmax(0), torch.cat([features.mean((2, 3))[0], features.std((2, 3))[0]])


def sure_type(probabilities: Sequence[float]) -> str:
    """The type whose probability is at least .6; "" of a photograph that might be of any."""
    best = int(np.argmax(probabilities))
    return TYPES[best] if probabilities[best] >= SURE else ""


def fit_type_network(
    clean: Sequence[np.ndarray],
    seed: int = 0,
    iterations: int = FIT_ITERATIONS,
    device: torch.device | str = "cpu",
    watch: Watch = nobody,
) -> TypeNetwork:
    """Fit to rain of the four types, rendered on clean photographs.

    Args:
        clean: uint8 [H, W, 3] each.
        seed: of everything drawn; the same seed gives the same network.
        iterations: steps of 8 crops of each type: on 34 scenes 400 named 64 % of 136 unseen images, 1,000 named 87 %.
        device: where to train.
        watch: told how far it is: a share of the work each scene and each step.
    """
    total = len(clean) + iterations
    rendered: Mapping[RainType, list[np.ndarray]] = {kind: [] for kind in TYPES}
    for done, image in enumerate(clean, 1):
        for kind in TYPES:
            rendered[kind].append(render_pair(image, kind, (seed, done)).rainy)
        watch(done, total)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = TypeNetwork().to(device)
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=max(iterations, 2))
    target = torch.arange(len(TYPES), device=device).repeat_interleave(BATCH)
    with torch.enable_grad():
        for _ in watched(range(iterations), lambda done, _: watch(len(clean) + done, total)):
            crops = torch.cat([augment.crops(rendered[kind], BATCH, CROP, generator) for kind in TYPES])
            loss = F.cross_entropy(network(augment.vary(crops, generator).to(device)), target)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval().requires_grad_(False)


def clean_scenes(folder: Path | None, most: int = SCENES) -> list[np.ndarray]:
    """The middles of clean photographs, evenly chosen; without a folder of the embedded ones in colour.

    Raises:
        UserError: a folder without images, or one that cannot be read.
    """
    if folder is None:
        return [middle(photograph(name)) for name in EMBEDDED]
    paths = list_images(folder)
    return [middle(read_image(paths[i])) for i in evenly(len(paths), most)]


def middle(image: np.ndarray, side: int = SIDE) -> np.ndarray:
    """The middle of a photograph, shrunk until its shorter side is at most twice as long, uint8 [H, W, 3]."""
    by = max(min(image.shape[:2]) // (2 * side), 1)
    image = image[::by, ::by] if by == 1 else _shrink(image, by)
    return np.ascontiguousarray(middle_of(image, side))


def save_type_network(network: TypeNetwork, path: Path) -> None:
    """Write the weights, all or nothing."""
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with replacing(path) as temporary:
        safetensors.torch.save_file(state, temporary)


def load_type_network(path: Path, device: torch.device | str = "cpu") -> TypeNetwork:
    """Read what `save_type_network` wrote.

    Raises:
        UserError: the file is missing, damaged, or of something else.
    """
    network = TypeNetwork()
    try:
        network.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: no type network ({reason(error, 80)}); make the index anew") from None
    return network.to(device).eval().requires_grad_(False)


def _shrink(image: np.ndarray, by: int) -> np.ndarray:
    height, width = (length // by * by for length in image.shape[:2])
    squares = image[:height, :width].reshape(height // by, by, width // by, by, 3)
    return np.rint(squares.mean((1, 3), dtype=np.float32)).astype(np.uint8)


def counts_of(types: Iterable[str]) -> dict[str, int]:
    """How many of each type, and of none: "unknown"."""
    found = list(types)
    return {name: found.count(kind) for kind, name in ((*((kind, kind) for kind in TYPES), ("", "unknown")))}
