"""The nearest vectors: those of a full sort, whatever the blocks; and those that a graph finds."""

from __future__ import annotations

import numpy as np
import pytest

from rgsud_fast.distillation import search
from rgsud_fast.errors import UserError


@pytest.fixture
def base():
    return np.random.default_rng(0).normal(size=(500, 7)).astype(np.float32)


@pytest.mark.parametrize("block", [3, 64, 1000])
@pytest.mark.parametrize("among", [None, np.arange(1, 500, 3)], ids=["all", "some"])
def test_blocks_change_nothing(base, block, among, monkeypatch):
    monkeypatch.setattr(search, "BLOCK", block)
    query = np.random.default_rng(1).normal(size=7)
    places = np.arange(500) if among is None else among
    distances = np.square(base[places].astype(np.float64) - query).sum(1)
    assert search.nearest(base, query, 20, among).tolist() == places[np.argsort(distances)][:20].tolist()


def test_of_equals_the_first_come_first(monkeypatch):
    monkeypatch.setattr(search, "BLOCK", 4)
    assert search.nearest(np.zeros((10, 2), np.float32), np.zeros(2), 6).tolist() == [0, 1, 2, 3, 4, 5]


def test_fewer_than_asked_for(base):
    assert len(search.nearest(base[:3], base[0], 9)) == 3


def test_a_graph_finds_nearly_all(base):
    if not search.has_faiss():
        pytest.skip("faiss, the extra retrieval, is not installed")
    among = np.arange(0, 500, 2)
    graph = search.Graph(base, among)
    found = [set(graph.nearest(query, 10)) & set(search.nearest(base, query, 10, among)) for query in base[:50]]
    assert np.mean([len(both) for both in found]) > 9.5


def test_without_faiss_a_graph_is_refused_in_one_line(base, monkeypatch):
    monkeypatch.setattr(search, "has_faiss", lambda: False)
    with pytest.raises(UserError, match=r"needs faiss: pip install -e '\.\[retrieval\]'"):
        search.Graph(base)
