"""Folders of models of transformers, as a user names them: loaded offline, of safetensors alone, and without code."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError, install, reason
from ..system.files import read_small

SIDE = 512  # pixels of the longer side of the images that models see
LARGEST_CONFIG = 2**22  # bytes
CONFIGS = ("config.json", "processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
OFFLINE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
READ_AT_ONCE = 2**20  # bytes


def check_folder(folder: Path, what: str) -> None:
    """Refuse what would need code or pickles, before transformers sees it.

    Args:
        folder: as the user names it.
        what: the model that it should be, for people, as `a vision-language model`.

    Raises:
        UserError: a folder without a model of transformers' own, or one with code of its own; the extra is not
            installed.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} has no config.json: give the folder of {what} of transformers")
    for name in CONFIGS:
        if (folder / name).is_file() and "auto_map" in _read(folder / name):
            raise UserError(
                f"{folder / name} asks for code of its own (auto_map), which is never run: give a model of an "
                "architecture that transformers has, such as LLaVA-NeXT, InternVL or Qwen-VL in their -hf versions"
            )
    if (folder / "adapter_config.json").is_file():  # which names another folder, or one on the hub
        raise UserError(f"{folder} is an adapter to another model: give a folder of the whole model, merged")
    if code := next(iter(sorted(folder.glob("*.py"))), None):
        raise UserError(f"{code} is code, which is never run from a model's folder: give a model without, or remove it")
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"{folder} has no .safetensors: weights are read in that format alone; convert them")
    if importlib.util.find_spec("transformers") is None:
        raise UserError(f"{folder}: to load it you need transformers: {install('vlm')}")


def load_offline(folder: Path, kind: str) -> tuple[Any, Any]:
    """The model in a folder and its processor, from there alone.

    Args:
        folder: one that `check_folder` has passed.
        kind: the class of transformers that it is of.

    Raises:
        UserError: it cannot be loaded, or its weights lack a part, which transformers would draw at random.
    """
    import transformers

    try:
        processor = transformers.AutoProcessor.from_pretrained(folder, **OFFLINE)
        how: dict[str, Any] = {"use_safetensors": True, "output_loading_info": True, **OFFLINE}
        model, told = getattr(transformers, kind).from_pretrained(folder, **how)
        if lacking := sorted(told["missing_keys"]):
            raise ValueError(f"its weights lack {lacking[0]}")
    except Exception as error:  # damaged weights and tokenizers raise what has no other class
        raise UserError(f"{folder}: transformers cannot load it ({reason(error)}); give another model") from None
    return model, processor


def digest_of(folder: Path) -> str:
    """Of the weights in a folder, by which a model is told from another."""
    hashed = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb") as file:
            while block := file.read(READ_AT_ONCE):
                hashed.update(block)
    return hashed.hexdigest()


def picture(image: np.ndarray) -> Image.Image:
    """An image as processors take it, uint8 [H, W, 3], at most 512 pixels long."""
    small = Image.fromarray(np.ascontiguousarray(image))
    small.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    return small


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_small(path, LARGEST_CONFIG))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({reason(error)}); give another model") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: no configuration; give another model")
    return found
