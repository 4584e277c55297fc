"""pool_update against a brute-force top-k, in any order and batching, and its refusals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import each_kernel

from rgsud_fast.data.image_files import quantise
from rgsud_fast.ops import _backends as backends
from rgsud_fast.ops import pool_update, use_backend
from rgsud_fast.ops.pool_update import EMPTY

CASES = [*each_kernel("pool_update").args[1], pytest.param("cpu", "reference", id="reference-cpu")]
each_implementation = pytest.mark.parametrize("device, backend", CASES)
HEIGHT, WIDTH = 5, 7
BYTES = 3 * HEIGHT * WIDTH


def empty_pool(entries=3, slots=2, device="cpu"):
    arena = torch.zeros(slots, entries * BYTES, dtype=torch.uint8, device=device)
    return arena, torch.full((entries, slots), EMPTY, device=device)


def places(entries, device="cpu"):
    return torch.tensor([[entry, entry * BYTES] for entry in entries], device=device)


def candidates(count, device="cpu"):
    return torch.rand(count, 3, HEIGHT, WIDTH).to(device)


def stored(arena, slot, entry):
    """The bytes of a slot as [3, H, W]."""
    return arena[slot, entry * BYTES :][:BYTES].reshape(HEIGHT, WIDTH, 3).permute(2, 0, 1)


@each_implementation
def test_winners_are_rounded_and_copied_and_nothing_else_changes(device, backend):
    (arena, scores), images = empty_pool(device=device), candidates(3, device) * 1.4 - 0.2
    values = torch.tensor([1.0, float("nan"), 2.0], device=device)
    with use_backend(backend):
        entered = pool_update(arena, scores, images, values, places([2, 1, 0], device))
    assert entered.tolist() == [True, False, True]
    assert torch.equal(stored(arena, 0, 2), quantise(images[0]))
    assert torch.equal(stored(arena, 0, 0), quantise(images[2]))
    assert (stored(arena, 0, 1) == 0).all() and (arena[1] == 0).all()
    assert scores.tolist() == [[2.0, EMPTY], [EMPTY, EMPTY], [1.0, EMPTY]]


@each_implementation
def test_several_candidates_of_one_image_are_let_in_one_after_another(device, backend):
    (arena, scores), images = empty_pool(device=device), candidates(5, device)
    values = torch.tensor([1.0, 3.0, 2.0, 2.5, 0.5], device=device)
    with use_backend(backend):
        entered = pool_update(arena, scores, images, values, places([1] * 5, device))
    assert entered.tolist() == [True, True, True, True, False]
    assert sorted(scores[1].tolist()) == [2.5, 3.0]
    for slot, score in enumerate(scores[1].tolist()):
        assert torch.equal(stored(arena, slot, 1), quantise(images[values.tolist().index(score)]))


@each_implementation
def test_a_margin_counts_against_what_is_there_but_not_against_emptiness(device, backend):
    arena, scores = empty_pool(slots=1, device=device)
    with use_backend(backend):
        for value, enters in ((-5.0, True), (-4.8, False), (-4.4, True)):
            offer = torch.tensor([value], device=device)
            entered = pool_update(arena, scores, candidates(1, device), offer, places([0], device), margin=0.5)
            assert entered.tolist() == [enters]


@each_implementation
@settings(max_examples=20, deadline=None)
@given(
    slots=st.integers(1, 3),
    offers=st.lists(st.tuples(st.integers(0, 2), st.floats(-9, 9, width=32)), min_size=1, max_size=12),
    batch=st.integers(1, 5),
)
def test_any_batching_leaves_the_best_k_of_each_image(device, backend, slots, offers, batch):
    (arena, scores), images = empty_pool(slots=slots, device=device), candidates(len(offers), device)
    best_before = scores.max(dim=1).values
    with use_backend(backend):
        for start in range(0, len(offers), batch):
            part = offers[start : start + batch]
            values = torch.tensor([score for _, score in part], device=device)
            where = places([entry for entry, _ in part], device)
            pool_update(arena, scores, images[start : start + batch], values, where)
            best = scores.max(dim=1).values
            assert (best >= best_before).all()
            best_before = best
    for entry in range(3):
        wanted = sorted((score for index, score in offers if index == entry), reverse=True)[:slots]
        assert sorted((score for score in scores[entry].tolist() if score != EMPTY), reverse=True) == wanted
        for slot, score in enumerate(scores[entry].tolist()):
            versions = [quantise(images[i]) for i, offer in enumerate(offers) if offer == (entry, score)]
            assert score == EMPTY or any(torch.equal(stored(arena, slot, entry), version) for version in versions)


@each_implementation
def test_rounding_is_to_the_nearest_ties_to_even(device, backend):
    arena, scores = empty_pool(device=device)
    image = (torch.arange(BYTES, device=device).reshape(1, 3, HEIGHT, WIDTH) / 2 + 20) / 255
    with use_backend(backend):
        pool_update(arena, scores, image, torch.ones(1, device=device), places([0], device))
    assert torch.equal(stored(arena, 0, 0), quantise(image[0]))


@each_implementation
def test_strided_and_half_precision_candidates(device, backend):
    whole = torch.rand(2, 3, 2 * HEIGHT, 2 * WIDTH, device=device)
    views = whole[:, :, ::2, ::2], whole[:, :, :HEIGHT, :WIDTH].bfloat16()
    for images in (*views, views[0].contiguous(memory_format=torch.channels_last)):
        arena, scores = empty_pool(device=device)
        with use_backend(backend):
            pool_update(arena, scores, images, torch.ones(2, device=device), places([0, 2], device))
        assert torch.equal(stored(arena, 0, 2), quantise(images[1].float()))


@pytest.mark.parametrize("place", [[3, 0], [-1, 0], [0, -3], [0, 2 * BYTES + 3]], ids=str)
def test_a_place_that_does_not_exist_is_refused_and_changes_nothing(place):
    arena, scores = empty_pool()
    arguments = arena, scores, candidates(2), torch.ones(2), torch.tensor([[0, 0], place])
    with use_backend("native"), pytest.raises(ValueError, match="candidate 1 has no place"):
        pool_update(*arguments)
    assert (scores == EMPTY).all()
    if not backends.why_not("pool_update", "triton", "cpu"):  # the interpreter, where there is no GPU
        with use_backend("triton"):
            assert pool_update(*arguments).tolist() == [True, False]


def test_refuses_other_types_and_shapes():
    arena, scores = empty_pool()
    images, values, where = candidates(2), torch.ones(2), places([0, 1])
    with pytest.raises(TypeError, match="arena must be a tensor of torch"):
        pool_update(arena.int(), scores, images, values, where)
    with pytest.raises(ValueError, match=r"scores must be \['any', 2\]"):
        pool_update(arena, scores[:, :1], images, values, where)
    with pytest.raises(ValueError, match=r"values must be \[2\]"):
        pool_update(arena, scores, images, values[:1], where)
    with pytest.raises(ValueError, match=r"images must be \[M, 3, H, W\]"):
        pool_update(arena, scores, images[:, :2], values, where)
