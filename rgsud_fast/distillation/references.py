"""An index of real rainy photographs: those that are like a given one, by caption, by looks, and by structure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from ..config.rain_types import RainType
from ..errors import UserError
from ..ops import ssim
from .embeddings import CAPTION, Embedding
from .encoders import load_remembered
from .index_files import LEAST, NETWORK, Catalogue
from .measures import detail
from .search import MANY, Graph, has_faiss, nearest
from .type_network import TYPES, TypeNetwork, counts_of, load_type_network

LEVELS = (100, 20, 4)  # how many pass: captions, looks, structure
SHARE = 10  # at most one in so many passes the first level: the others match scenes, whatever the rain
# A type's probability weighs more than any other number of a caption.
WEIGHTS = np.array([3.0 if name in TYPES else 1.0 for name in CAPTION], np.float32)


class References:
    """An index that is complete, open for reading; photographs that could not be read are no part of it.

    Args:
        folder: what `index` wrote.

    Raises:
        UserError: no index, one that is unfinished, or one of fewer than 20 photographs.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        self.folder, self.device = folder, device
        self._catalogue = catalogue = Catalogue(folder)
        self.types = catalogue.types  # int8 [n]: the place in TYPES; -1 unknown, -2 left out
        if (count := int((self.types > -2).sum())) < LEAST:
            raise UserError(f"{folder} holds {count} photographs, at least {LEAST} needed: index a larger folder")
        self.network: TypeNetwork = load_type_network(folder / NETWORK, device)
        self.encoders = load_remembered(catalogue.encoders, device)
        if self.encoders.captioner:  # words, which stay on disk
            self._middle, self._scale, self._captions = catalogue.middle, catalogue.spread, catalogue.array("captions")
        else:
            self._middle, self._scale = catalogue.middle, WEIGHTS / catalogue.spread
            captions = np.array(catalogue.array("captions"))
            self._captions = (captions - self._middle) * self._scale  # 48 bytes a photograph
        self._visual, self._thumbs = catalogue.array("visual"), catalogue.array("thumbs")
        self._among = {kind: self._places(kind) for kind in ("", *TYPES)}
        self._graphs: dict[str, Graph] = {}

    @property
    def digest(self) -> str:
        """Of the captions: another index has another."""
        return self._catalogue.digest

    def __len__(self) -> int:
        return int((self.types > -2).sum())

    @property
    def counts(self) -> dict[str, int]:
        """How many photographs there are of each type."""
        return counts_of(TYPES[number] if number >= 0 else "" for number in self.types if number > -2)

    def lacking(self, kinds: Iterable[str]) -> list[RainType]:
        """Those of the types of which there are too few for `nearest` to look among; all are asked where one is ""."""
        wanted = set(kinds)
        return [kind for kind in TYPES if ({kind, ""} & wanted) and len(self._among[kind]) < LEVELS[-1]]

    def path(self, place: int) -> Path:
        """The photograph's file."""
        return self._catalogue.path(place)

    def thumb(self, place: int) -> np.ndarray:
        """Its small grey version, uint8 [256, 256]."""
        return np.array(self._thumbs[place])

    def nearest(self, query: Embedding, kind: str = "", levels: tuple[int, int, int] = LEVELS) -> list[int]:
        """Find the photographs most like one, by three levels of which each passes fewer.

        Args:
            query: of the photograph; see `embed`.
            kind: the type to look among, where the index holds at least 4 of it; "" for all.
            levels: how many pass by caption, by looks, by structure; 0 leaves a level out.

        Returns:
            Their places, the most alike in structure first.
        """
        among = self._among[kind if len(self._among.get(kind, ())) >= LEVELS[-1] else ""]
        captions, looks, structure = levels
        found = among
        if captions:
            wanted = max(min(captions, len(among) // SHARE), structure or looks or 1)
            found = self._by_caption(self._standard(query), wanted, kind, among)
        if looks:
            found = nearest(self._visual, query.visual, looks, np.sort(found))
        if structure:
            found = self._by_structure(query.thumb, np.sort(found))[:structure]
        return [int(place) for place in found]

    def distance(self, query: Embedding, places: list[int]) -> float:
        """How far a photograph's detail is from that of others; see `detail`. 0 without any."""
        if not places:
            return 0.0
        lumas = np.stack([query.thumb, *(self._thumbs[place] for place in places)])
        found = detail(torch.from_numpy(lumas).to(self.device)[:, None].float() / 255)
        return float((found[1:] - found[0]).abs().mean())

    def _standard(self, query: Embedding) -> np.ndarray:
        return (query.caption - self._middle) * self._scale

    def _by_caption(self, caption: np.ndarray, count: int, kind: str, among: np.ndarray) -> np.ndarray:
        if len(among) >= MANY and has_faiss():
            if kind not in self._graphs:
                self._graphs[kind] = Graph(self._captions, among)
            return self._graphs[kind].nearest(caption, count)
        return nearest(self._captions, caption, count, among)

    def _by_structure(self, thumb: np.ndarray, places: np.ndarray) -> np.ndarray:
        asked = self._image(thumb)
        alike = [float(ssim(asked, self._image(self._thumbs[place]))) for place in places]
        return places[np.argsort(-np.array(alike), kind="stable")]

    def _image(self, thumb: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(thumb)).to(self.device)[None, None].float() / 255

    def _places(self, kind: str) -> np.ndarray:
        wanted = self.types > -2 if not kind else self.types == [*map(str, TYPES)].index(kind)
        return np.flatnonzero(wanted)
