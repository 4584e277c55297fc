"""CLIP and a captioner of the user's, by which an index finds photographs in place of numbers of its own.

Offline, as generalists are (`model_folders`). What real ones are worth here was not measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError, reason
from .model_folders import check_folder, digest_of, load_offline, picture

WORDS = 40  # tokens of a caption at most


class Clip:
    """Images and captions as vectors of length 1, in one space.

    Args:
        model: CLIP of transformers, in evaluation mode.
        processor: its processor.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self._model, self._processor = model, processor
        self.size = int(model.config.projection_dim)

    @torch.no_grad()
    def image(self, image: np.ndarray) -> Tensor:
        """An image, uint8 [H, W, 3] -> [size]."""
        inputs = self._processor(images=picture(image), return_tensors="pt").to(self._model.device)
        return _vector(self._model.get_image_features(**inputs))

    @torch.no_grad()
    def text(self, text: str) -> Tensor:
        """A caption -> [size]; what is longer than the model reads is cut."""
        inputs = self._processor(text=[text], return_tensors="pt", padding=True, truncation=True)
        return _vector(self._model.get_text_features(**inputs.to(self._model.device)))


class Captioner:
    """Says in words what an image shows.

    Args:
        model: such as BLIP of transformers, in evaluation mode.
        processor: its processor.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self._model, self._processor = model, processor

    @torch.no_grad()
    def caption(self, image: np.ndarray) -> str:
        """The likeliest words, one after another, of an image, uint8 [H, W, 3]."""
        inputs = self._processor(images=picture(image), return_tensors="pt").to(self._model.device)
        found = self._model.generate(**inputs, max_new_tokens=WORDS, do_sample=False, num_beams=1)
        return str(self._processor.decode(found[0], skip_special_tokens=True)).strip()


class Encoders(NamedTuple):
    """What an index finds photographs by besides its own numbers."""

    clip: Clip | None = None  # looks, and with a captioner captions
    captioner: Captioner | None = None


NONE = Encoders()


def check_encoders(clip: Path | None, captions: Path | None) -> None:
    """Refuse folders that cannot be used, before anything is read.

    Raises:
        UserError: see `check_folder`; a captioner without CLIP.
    """
    if captions is not None and clip is None:
        raise UserError("captions are compared by CLIP's text tower: give --clip FOLDER beside --captions, or neither")
    for folder, what in ((clip, "a CLIP model"), (captions, "an image captioner such as BLIP")):
        if folder is not None:
            check_folder(folder, what)


def identity_of(clip: Path | None, captions: Path | None) -> dict[str, list[str]]:
    """The folders that are given and digests of their weights, as an index remembers them."""
    given = {"clip": clip, "captions": captions}
    return {name: [str(folder.resolve()), digest_of(folder)] for name, folder in given.items() if folder is not None}


def load_encoders(
    clip: Path | None = None, captions: Path | None = None, device: torch.device | str = "cpu"
) -> Encoders:
    """The models in these folders, from there alone.

    Raises:
        UserError: see `check_encoders`; a model of another kind, or a captioner that needs a question.
    """
    check_encoders(clip, captions)
    if clip is None:
        return NONE
    model, processor = load_offline(clip, "CLIPModel")
    found = Encoders(Clip(model.to(device).eval(), processor))
    if captions is not None:
        model, processor = load_offline(captions, "AutoModelForImageTextToText")
        captioner = Captioner(model.to(device).eval(), processor)
        _check_captioner(captions, captioner)
        found = found._replace(captioner=captioner)
    return found


def _check_captioner(folder: Path, captioner: Captioner) -> None:
    """Refuse a model that says nothing of an image alone, as one that is asked questions, before any photograph."""
    try:
        captioner.caption(np.zeros((64, 64, 3), np.uint8))
    except Exception as error:  # whatever other architectures raise
        raise UserError(
            f"{folder}: the model says nothing of an image alone ({reason(error)}); give a captioner such as BLIP"
        ) from None


def load_remembered(kept: dict[str, list[str]], device: torch.device | str = "cpu") -> Encoders:
    """The models that `identity_of` described.

    Raises:
        UserError: one is not there any more, or is another.
    """
    for folder, digest in kept.values():
        if not Path(folder).is_dir() or digest_of(Path(folder)) != digest:
            raise UserError(
                f"{folder} no longer holds the model that the index was made with: put it back or index anew"
            )
    folders = {name: Path(folder) for name, (folder, _) in kept.items()}
    return load_encoders(folders.get("clip"), folders.get("captions"), device)


def _vector(found: Any) -> Tensor:
    features: Tensor = getattr(found, "pooler_output", found)  # which of both depends on transformers' version
    return F.normalize(features[0].float(), dim=0)
