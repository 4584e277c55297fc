"""A vision transformer of the user's that tells how spoiled an image is by its patches, in place of local structure."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ...errors import UserError, install, reason
from ...system.torch_files import load_tensors

LARGER = 2  # times that images are enlarged, so that a patch of 16 pixels is one of 8


class PatchFeatures(nn.Module):
    """How far the patches of two images are apart, by a transformer of timm; it learns nothing.

    Args:
        model: with `patch_embed`, `num_prefix_tokens` and `forward_features`, as timm's are.
        mean, std: of the images that it knows, RGB.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.patch = int(model.patch_embed.patch_size[0])
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    @torch.no_grad()
    def forward(self, image: Tensor, clean: Tensor) -> Tensor:
        """1 - cosine of the patches' tokens, between images [N, 3, H, W] in [0, 1] -> [N, 1, H, W] in [0, 1].

        Exactly 0 where both are equal: it is computed as half the squared distance of tokens of length 1.
        """
        there, (height, width) = image.device, image.shape[2:]
        image, clean = image.to(self.mean.device), clean.to(self.mean.device)
        rows, columns = (max(round(LARGER * side / self.patch), 1) for side in (height, width))
        size = rows * self.patch, columns * self.patch
        both = F.interpolate(torch.cat([image, clean]), size, mode="bilinear", align_corners=False)
        tokens = self.model.forward_features((both - self.mean) / self.std)[:, self.model.num_prefix_tokens :]
        one, other = F.normalize(tokens.float(), dim=2).chunk(2)
        apart = (0.5 * (one - other).square().sum(2)).reshape(-1, 1, rows, columns)
        return F.interpolate(apart, (height, width), mode="bilinear", align_corners=False).clamp(0, 1).to(there)


def read_features(name: str) -> PatchFeatures:
    """The transformer that "timm:NAME,FILE" names: a model of timm, and its weights in a file.

    Raises:
        UserError: another form, no such file or model, weights of another one, or timm is not installed.
    """
    kind, _, rest = name.partition(":")
    model_name, _, file = rest.partition(",")
    if kind != "timm" or not model_name or not file:
        raise UserError(f"feature {name!r}: give timm:NAME,FILE, a vision transformer of timm and its weights")
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"feature {name}: no such file as {path}")
    if importlib.util.find_spec("timm") is None:
        raise UserError(f"feature {name} needs timm: {install('daclip')}")
    import timm

    try:
        model = timm.create_model(model_name, pretrained=False, num_classes=0, dynamic_img_size=True)
    except Exception as error:  # of no such model, of one that is no transformer, and whatever else timm raises
        raise UserError(f"feature {name}: timm makes no transformer {model_name} ({reason(error)})") from None
    try:
        state = load_file(path) if path.suffix == ".safetensors" else load_tensors(path)
        lacking, _ = model.load_state_dict(dict(state), strict=False)
    except Exception as error:  # damaged files raise what has no other class
        raise UserError(f"feature {name}: {path} cannot be read ({reason(error)})") from None
    if lacking:
        raise UserError(f"feature {name}: {path} lacks {lacking[0]}: it holds another model")
    known: Any = model.pretrained_cfg  # of every model of timm
    return PatchFeatures(model, tuple(known["mean"]), tuple(known["std"]))
