"""One rule says which rainy and clean images are pairs, wherever they come from."""

from __future__ import annotations

import numpy as np
import pytest

from rgsud_fast.data import FolderSet
from rgsud_fast.data.load import pair_up
from rgsud_fast.errors import UserError
from rgsud_fast.inference.inputs import Source, check_pairs


def as_validation(rainy, clean):
    pair_up(*(FolderSet.from_arrays(names, [np.zeros((8, 8, 3), np.uint8)] * len(names)) for names in (rainy, clean)))


def as_evaluation(rainy, clean):
    check_pairs(*([Source(name, lambda: None, path=name) for name in names] for names in (rainy, clean)))


each_use = pytest.mark.parametrize("check", [as_validation, as_evaluation])


@each_use
@pytest.mark.parametrize(
    "rainy, clean",
    [
        (["a.png", "b.png"], ["a.jpg", "b.png"]),
        (["rain-1.png", "rain-2.png"], ["norain-1.png", "norain-2.png"]),
        (["sub/a.png"], ["other/a.png"]),
    ],
    ids=["endings differ", "all names differ", "folders differ"],
)
def test_pairs_are_taken(check, rainy, clean):
    check(rainy, clean)


@each_use
@pytest.mark.parametrize(
    "rainy, clean, message",
    [
        (["a.png", "z.png"], ["a.png", "zz.png"], r"pair 2 would be .*'s z\.png with .*'s zz\.png"),
        (["b.png", "c.png"], ["a.png", "b.png"], r"pair 1 would be .*'s b\.png with .*'s a\.png"),
        (["a.png", "b.png"], ["a.png"], r"has 2 images and .* 1: b\.png has no partner"),
        (["a.png", "b.png"], ["b.png"], r"the first names that differ are a\.png and b\.png"),
    ],
    ids=["one name in both", "a step apart", "one too many", "the first too many"],
)
def test_what_may_be_no_pair_is_refused(check, rainy, clean, message):
    with pytest.raises(UserError, match=message):
        check(rainy, clean)


def test_images_in_memory_have_no_names_that_could_clash():
    memory, file = Source("00001.png", lambda: None), Source("00001.png", lambda: None, path="00001.png")
    check_pairs([memory, memory], [file, Source("x.png", lambda: None, path="x.png")])
    with pytest.raises(UserError, match="rainy has 2 images and clean 1"):
        check_pairs([memory, memory], [memory])
