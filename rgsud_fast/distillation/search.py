"""The nearest of many vectors: exact, block by block, in torch; from a million on by faiss, where it is installed."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import torch

from ..errors import UserError, install

BLOCK = 65_536  # vectors that are in memory at once
MANY = 1_000_000  # from which on a graph is worth its building
LINKS, WIDER = 32, 10  # of the graph's vertices; candidates per wanted one, which are then compared exactly


def nearest(base: np.ndarray, query: np.ndarray, count: int, among: np.ndarray | None = None) -> np.ndarray:
    """Find the vectors that are nearest to one, exactly.

    Args:
        base: float32 [n, d], in memory or mapped; a block of it is read at a time.
        query: [d].
        count: how many.
        among: places to look at, int64 [m] in ascending order; all unless given.

    Returns:
        Their places, nearest first, the lower place first of equals; int64 [at most count].
    """
    asked = torch.from_numpy(np.ascontiguousarray(query, np.float32))
    best = np.empty(0), np.empty(0, np.int64)
    total = len(base) if among is None else len(among)
    for start in range(0, total, BLOCK):
        stop = min(start + BLOCK, total)
        places = np.arange(start, stop) if among is None else among[start:stop]
        rows = base[start:stop] if among is None else base[places]
        block = torch.from_numpy(np.array(rows, np.float32))
        distances = (block - asked).square().sum(1)
        far = distances.kthvalue(min(count, stop - start)).values  # not topk: of equals it takes any
        order = (distances <= far).nonzero()[:, 0].numpy()
        found = np.concatenate([best[0], distances.numpy()[order]]), np.concatenate([best[1], places[order]])
        kept = np.argsort(found[0], kind="stable")[:count]
        best = found[0][kept], found[1][kept]
    return best[1]


class Graph:
    """faiss' graph of vectors (HNSW), whose candidates are compared exactly.

    Args:
        base: float32 [n, d].
        among: places of those that the graph holds; all unless given.

    Raises:
        UserError: faiss is not installed.
    """

    def __init__(self, base: np.ndarray, among: np.ndarray | None = None) -> None:
        faiss = _faiss()
        self._base, self._among = base, among
        self._index = faiss.IndexHNSWFlat(base.shape[1], LINKS)
        total = len(base) if among is None else len(among)
        for start in range(0, total, BLOCK):
            rows = base[start : start + BLOCK] if among is None else base[among[start : start + BLOCK]]
            self._index.add(np.ascontiguousarray(rows, np.float32))

    def nearest(self, query: np.ndarray, count: int) -> np.ndarray:
        """As `nearest`, but that a near one may be missed."""
        asked = np.ascontiguousarray(query, np.float32)[None]
        self._index.hnsw.efSearch = max(WIDER * count, 64)
        _, found = self._index.search(asked, WIDER * count)
        candidates = np.sort(found[0][found[0] >= 0])
        places = candidates if self._among is None else self._among[candidates]
        return nearest(self._base, query, count, places)


def has_faiss() -> bool:
    """Whether the extra retrieval is installed."""
    return importlib.util.find_spec("faiss") is not None


def _faiss() -> Any:
    if not has_faiss():
        raise UserError(f"searching by a graph needs faiss: {install('retrieval')}")
    import faiss

    return faiss
