"""DACLIP-IQA, the paper's score: how little the degradation encoder of DA-CLIP takes an image for a rainy one.

Formula: Luo et al., Controlling Vision-Language Models for Universal Image Restoration, ICLR 2024; the reading of the
paper's name as 1 - P(rainy) is inferred from it. The network is open_clip's; the weights are DA-CLIP's own.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError, install, reason
from ..ops.clip_preprocess import clip_preprocess
from ..system.files import replacing
from ..system.names import takes_home
from ..system.torch_files import load_tensors
from .scorer import below, check_images, finite

WORDS = (
    *("motion-blurry", "hazy", "jpeg-compressed", "low-light", "noisy"),
    *("raindrop", "rainy", "shadowed", "snowy", "uncompleted"),
)
RAINDROP, RAINY = WORDS.index("raindrop"), WORDS.index("rainy")
SHARPNESS = 100.0  # of the softmax over cosines
HEAD = 64  # channels of an attention head in CLIP's transformers
FILES = ("daclip.safetensors", "daclip_ViT-B-32.pt")  # looked for in this order
HOME = "https://github.com/Algolzw/daclip-uir"


class DaclipScorer:
    """Psi = 1 - P("rainy"), P the softmax over ten words of 100 times the cosine of the image with each.

    Args:
        encoder: the controller's image encoder, [N, 3, side, side] -> [N, D].
        words: the ten words' text features, [10, D], of length 1.
        tiles: mean over squares of the image at its own scale, in place of its middle shrunk: thin streaks survive.
        raindrops: subtract P("raindrop") as well.
    """

    name = "daclip"

    def __init__(self, encoder: nn.Module, words: Tensor, tiles: bool = False, raindrops: bool = False):
        self.encoder: Any = encoder.eval().requires_grad_(False)
        self.words = words
        self.tiles, self.raindrops = tiles, raindrops

    def score(self, images: Tensor, rainy: Tensor | None = None) -> Tensor:
        """Score each image by itself; see `Scorer.score`. `rainy` is not used."""
        check_images(images, rainy)
        with torch.no_grad():
            # One by one: in another batch sums may be taken in another order, and a score must not change with it.
            chances = torch.stack([self.chances(image[None]) for image in images])  # [N, 10]
        score = 1 - chances[:, RAINY] - (chances[:, RAINDROP] if self.raindrops else 0)
        return torch.where(finite(images), score, torch.nan)

    def chances(self, image: Tensor) -> Tensor:
        """P of each word for one image [1, 3, H, W] -> [10] float32."""
        side = self.encoder.image_size[0]
        squares = _squares(image.float(), side) if self.tiles else clip_preprocess(image.float(), side)
        features = self.encoder(squares.to(self.encoder.conv1.weight.dtype)).float()
        cosines = F.normalize(features, dim=1) @ self.words.T
        return (SHARPNESS * cosines).softmax(1).mean(0)

    def state(self) -> dict[str, Tensor]:
        """The options; the weights have their own file."""
        return {"options": torch.tensor([self.tiles, self.raindrops])}


def load_daclip(path: str | Path | None = None, device: torch.device | str = "cpu") -> DaclipScorer:
    """Read DACLIP-IQA from DA-CLIP's checkpoint, or from what `convert_daclip` made of it.

    Args:
        path: the file; by default daclip.safetensors or daclip_ViT-B-32.pt in the folder RGSUD_WEIGHTS
            (~/.cache/rgsud_fast).
        device: where to score; bfloat16 on a GPU, float32 on a CPU.

    Raises:
        UserError: no such file, it holds something else, or open_clip is missing.
    """
    path = _find(path)
    if path.suffix == ".safetensors":
        try:
            weights = safetensors.torch.load_file(path)
        except Exception as error:  # a damaged header makes its reader raise nearly anything
            raise UserError(f"DACLIP weights {path}: {reason(error, 100)}") from None
        words = weights.pop("words", None)
        if words is None or words.dim() != 2 or len(words) != len(WORDS):
            raise UserError(f"DACLIP weights {path} hold no text features of {len(WORDS)} words: convert them again")
    else:
        weights, words = _from_checkpoint(path)
    encoder = _encoder(weights, path).to(device)
    if torch.device(device).type == "cuda":
        encoder = encoder.to(torch.bfloat16)
    # A copy: on some processors the product's last bit depends on where in memory the file's bytes lie.
    return DaclipScorer(encoder, words.to(device, torch.float32, copy=True).contiguous())


@takes_home
def convert_daclip(checkpoint: str | Path, output: str | Path) -> None:
    """Keep of DA-CLIP's checkpoint what the score needs: 1.74 GB become about 350 MB of safetensors.

    Args:
        checkpoint: daclip_ViT-B-32.pt.
        output: the file to write, for `load_daclip`.

    Raises:
        UserError: it is no such checkpoint, or open_clip is missing.
    """
    weights, words = _from_checkpoint(_find(checkpoint))
    with replacing(output) as temporary:
        tensors = {name: value.contiguous() for name, value in weights.items()} | {"words": words}
        temporary.write_bytes(safetensors.torch.save(tensors))


def _find(path: str | Path | None) -> Path:
    folder = Path(os.environ.get("RGSUD_WEIGHTS") or Path.home() / ".cache" / "rgsud_fast")
    tried = [Path(path)] if path else [folder / name for name in FILES]
    for file in tried:
        if file.is_file():
            return file
    raise UserError(
        f"DACLIP weights {tried[0]}: no such file. Get daclip_ViT-B-32.pt (1.74 GB) from {HOME} and put it into "
        f"{folder} (or set RGSUD_WEIGHTS); rgsud-fast convert-daclip makes 350 MB of it"
    )


def _from_checkpoint(path: Path) -> tuple[dict[str, Tensor], Tensor]:
    """The controller's weights under open_clip's names, and the words' features [10, D]."""
    try:
        saved = load_tensors(path)
    except (OSError, ValueError) as error:
        raise UserError(f"DACLIP weights {path} are no PyTorch checkpoint, or a damaged one ({error})") from None
    saved = saved.get("state_dict", saved) if isinstance(saved, Mapping) else {}
    saved = {str(name).removeprefix("module."): value for name, value in saved.items() if isinstance(value, Tensor)}
    # The controller's transformer is wrapped in another that adds what only restoration needs.
    controller = {
        name.replace("transformer.transformer.", "transformer."): value.float()
        for name, value in below(saved, "visual_control.").items()
        if "zero_modules" not in name
    }
    text = below(saved, "clip.")
    if not controller or "token_embedding.weight" not in text:
        raise UserError(f"DACLIP weights {path} hold no controller and text encoder: daclip_ViT-B-32.pt does")
    return controller, _text_features(text, path)


def _encoder(weights: dict[str, Tensor], path: Path) -> nn.Module:
    """open_clip's vision transformer in the sizes of these weights."""
    transformer = _open_clip().transformer
    try:
        width, _, patch, _ = weights["conv1.weight"].shape
        places = len(weights["positional_embedding"]) - 1
        layers = _layers(weights)
        make = functools.partial(
            transformer.VisionTransformer,
            image_size=patch * round(places**0.5),
            patch_size=patch,
            width=width,
            layers=layers,
            heads=max(width // HEAD, 1),
            mlp_ratio=len(weights["transformer.resblocks.0.mlp.c_fc.weight"]) / width,
            output_dim=weights["proj"].shape[1],
        )
        encoder = _fill(make, weights)
    except Exception as error:  # shapes that make no sense fail in any way
        raise UserError(f"DACLIP weights {path} fit no ViT: {reason(error)}") from None
    return encoder


@torch.no_grad()
def _text_features(weights: dict[str, Tensor], path: Path) -> Tensor:
    """The bare words through the text tower, of length 1, [10, D]."""
    open_clip = _open_clip()
    try:
        context, width = weights["positional_embedding"].shape
        make = functools.partial(
            open_clip.transformer.TextTransformer,
            context_length=context,
            vocab_size=len(weights["token_embedding.weight"]),
            width=width,
            heads=max(width // HEAD, 1),
            layers=_layers(weights),
            output_dim=weights["text_projection"].shape[1],
        )
        weights = {name: value.float() for name, value in weights.items() if not name.startswith("visual.")}
        tower = _fill(make, weights, strict=False)
    except Exception as error:  # shapes that make no sense fail in any way
        raise UserError(f"DACLIP weights {path} fit no text tower: {reason(error)}") from None
    tokens = open_clip.tokenizer.SimpleTokenizer(context_length=context)(list(WORDS))
    return F.normalize(tower.eval()(tokens), dim=1)


def _fill(make: Callable[[], nn.Module], weights: dict[str, Tensor], strict: bool = True) -> nn.Module:
    """The module with these weights; that they fit is known before it takes any memory."""
    with torch.device("meta"):
        missing = make().load_state_dict(weights, strict, assign=True).missing_keys
    if missing := [name for name in missing if name != "attn_mask"]:
        raise KeyError(f"without {missing[0]}")
    module = make()
    module.load_state_dict(weights, strict)
    return module


def _layers(weights: Mapping[str, Tensor]) -> int:
    return sum(name.endswith(".ln_1.weight") for name in weights if name.startswith("transformer.resblocks."))


def _squares(image: Tensor, side: int) -> Tensor:
    """[1, 3, H, W] -> squares at its own scale that cover it, evenly spread, normalised for CLIP."""
    short = min(image.shape[2:])
    if short < side:
        return clip_preprocess(image, side)
    places = [_spread(size, side) for size in image.shape[2:]]
    squares = [image[:, :, y : y + side, x : x + side] for y in places[0] for x in places[1]]
    return torch.cat([clip_preprocess(square, side) for square in squares])  # of this side already: normalised alone


def _spread(size: int, side: int) -> list[int]:
    count = -(-size // side)
    return [round(i * (size - side) / max(count - 1, 1)) for i in range(count)]


def _open_clip():
    try:
        import open_clip
    except ImportError as error:
        raise UserError(f"DACLIP-IQA needs open_clip ({error}): {install('daclip')}") from None
    return open_clip
