"""Generalists: vision-language models of the user's that look at a pair beside real photographs and answer questions.

Offline: a folder that the user names, of an architecture that transformers itself has. Code that comes with weights is
never run, and weights are read as safetensors alone. The quality of their judgement was not measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import UserError
from .model_folders import check_folder, load_offline, picture

QUESTIONS = (
    "Does the rain in image 1 look physically real, like the rain in images 3 and later?",
    "Is the background of image 1 sharp, natural and without traces of compression?",
    "Is image 1 free of anything that was pasted, copied or painted into it?",
    "Does image 2 show the same scene as image 1, aligned to the pixel, and without any rain?",
)
FRAME = (
    "Image 1 is a rainy photograph, image 2 is meant to be the same scene without rain, and the others are real "
    "photographs of rain to compare with. {question} Answer with yes or no."
)
YES, NO = ("yes", "Yes", " yes", " Yes"), ("no", "No", " no", " No")


class Generalist:
    """A vision-language model and what brings images and words to it.

    Args:
        name: in the manifest.
        model: of transformers, in evaluation mode.
        processor: its processor.
    """

    def __init__(self, name: str, model: Any, processor: Any) -> None:
        self.name, self.model, self.processor = name, model, processor
        tokens = getattr(processor, "tokenizer", processor)
        self._yes, self._no = (_first_tokens(tokens, words) for words in (YES, NO))
        if not self._yes or not self._no or set(self._yes) & set(self._no):
            raise UserError(f"{name}: its tokenizer does not tell yes from no; give another model")

    @torch.no_grad()
    def score(self, rainy: np.ndarray, target: np.ndarray, references: Sequence[np.ndarray]) -> float:
        """P(yes) / (P(yes) + P(no)) of the first token of the answer, mean of four questions, in 0...1.

        Args:
            rainy, target: the pair, uint8 [H, W, 3].
            references: real photographs.
        """
        images = [picture(image) for image in (rainy, target, *references)]
        return float(np.mean([self._ask(images, FRAME.format(question=question)) for question in QUESTIONS]))

    def _ask(self, images: list[Image.Image], text: str) -> float:
        inputs = self.processor(text=[self._prompt(len(images), text)], images=images, return_tensors="pt")
        logits = self.model(**inputs.to(self.model.device)).logits[0, -1].float()
        chances = logits.softmax(0)
        yes, no = (float(chances[ids].sum()) for ids in (self._yes, self._no))
        return yes / (yes + no) if yes + no > 0 else 0.5

    def _prompt(self, images: int, text: str) -> str:
        if getattr(self.processor, "chat_template", None):
            content = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": text}]
            messages = [{"role": "user", "content": content}]
            return str(self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
        return getattr(self.processor, "image_token", "<image>") * images + text


def load_generalists(names: Sequence[str], device: torch.device | str = "cpu") -> list[Generalist]:
    """The models of names vlm:FOLDER.

    Raises:
        UserError: another name, a folder without a model of transformers' own, or one with code of its own; the extra
            is not installed.
    """
    found = []
    for name in names:
        kind, _, place = name.partition(":")
        if kind != "vlm" or not place:
            raise UserError(f"judge {name!r}: give vlm:FOLDER, the folder of a vision-language model of transformers")
        found.append(load_generalist(Path(place).expanduser(), device))
    if len({one.name for one in found}) < len(found):
        raise UserError("two judges have one name: name each folder once, under names of its own")
    return found


def load_generalist(folder: Path, device: torch.device | str = "cpu") -> Generalist:
    """Load the model in a folder, from that folder alone.

    Raises:
        UserError: see `load_generalists`.
    """
    check_folder(folder, "a vision-language model")
    model, processor = load_offline(folder, "AutoModelForImageTextToText")
    return Generalist(folder.name, model.to(device).eval(), processor)


def _first_tokens(tokenizer: Any, words: Sequence[str]) -> list[int]:
    """The tokens that answers begin with; those of a word that the tokenizer does not know stand for none."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    begun = (tokenizer(word, add_special_tokens=False)["input_ids"] for word in words)
    return sorted({ids[0] for ids in begun if ids and ids[0] != unknown})
