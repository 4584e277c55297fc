"""One rule says which rainy and clean images are pairs, wherever they come from."""

from __future__ import annotations

import numpy as np
import pytest

from rgsud_fast.data import FolderSet
from rgsud_fast.data.load import pair_up
from rgsud_fast.data.pairing import match_names
from rgsud_fast.errors import UserError
from rgsud_fast.inference.inputs import Source, partners


def as_validation(rainy, clean):
    pair_up(*(FolderSet.from_arrays(names, [np.zeros((8, 8, 3), np.uint8)] * len(names)) for names in (rainy, clean)))


def as_evaluation(rainy, clean):
    return partners(*([Source(name, lambda: None, path=name) for name in names] for names in (rainy, clean)))


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
    partners([memory, memory], [file, Source("9.png", lambda: None, path="9.png")])
    with pytest.raises(UserError, match="rainy has 2 images and clean 1"):
        partners([memory, memory], [memory])


@each_use
@pytest.mark.parametrize(
    "rainy, clean, message",
    [
        (
            ["rain-1.png", "rain-3.png"],
            ["norain-1.png", "norain-2.png"],
            r"pair 2 would be .*'s rain-3\.png with .*numbers",
        ),
        (["r100_1.png", "r100_3.png"], ["c100_1.png", "c100_2.png"], r"pair 2 would be .*numbers differ"),
        (["rain-1.png"], ["norain-2.png"], r"pair 1 would be"),
        (["a1/r-7.png", "a2/r-7.png"], ["b1/c-7.png", "b3/c-7.png"], r"pair 2 would be"),
        (["901_1.png", "901_2.png", "903_1.png"], ["901.png", "902.png"], r"has 3 images and .* 2: the first names"),
        (["901_1.png", "901_2.png", "901_3.png"], ["901.png", "902.png"], r"has 3 images and .* 2: the first names"),
        (["9011.png", "9012.png"], ["901.png"], r"has 2 images and .* 1"),
    ],
)
def test_numbers_that_differ_are_refused(check, rainy, clean, message):
    with pytest.raises(UserError, match=message):
        check(rainy, clean)


@each_use
@pytest.mark.parametrize(
    "rainy, clean",
    [
        (["rain-001.png", "rain-002.png"], ["norain-1.png", "norain-2.png"]),
        (["1x2.png", "2x2.png", "10x2.png"], ["1.png", "2.png", "10.png"]),
        (["r100/a1.png", "r100/a2.png"], ["c200/b1.png", "c200/b2.png"]),
        (["rain-a.png", "rain-b2.png"], ["clean-a.png", "clean-b.png"]),
    ],
    ids=["zeros", "a scale", "folders of other sizes", "no number to compare"],
)
def test_numbers_that_agree_are_taken(check, rainy, clean):
    check(rainy, clean)


@pytest.mark.parametrize("between", ["_", "-", "/", " (", ".rain_"])
def test_several_rainy_images_of_one_clean_scene_are_pairs(between):
    rainy = [f"{scene}{between}{i}.jpg" for scene in ("90", "901", "a_1") for i in (1, 2, 14)]
    clean = ["90.png", "901.png", "a_1.png"]
    assert [source.name for source in as_evaluation(rainy, clean)] == [name for name in clean for _ in range(3)]


def test_several_rainy_images_of_one_clean_scene_validate():
    images = {
        name: np.full((8, 8, 3), i, np.uint8)
        for i, name in enumerate(("7_1.png", "7_2.png", "8_1.png", "7.png", "8.png"))
    }
    sets = [FolderSet.from_arrays(names, [images[n] for n in names]) for names in (list(images)[:3], list(images)[3:])]
    pairs = pair_up(*sets)
    assert [(pair.name, pair.clean[0, 0, 0]) for pair in pairs] == [("7_1.png", 3), ("7_2.png", 3), ("8_1.png", 4)]


@pytest.mark.parametrize("rainy, clean", [(["1_1", "1_2", "3_1"], ["1", "2", "3"]), (["1_1", "1_2"], ["1", "2"])])
def test_two_rainy_images_of_one_scene_are_not_judged_against_another(rainy, clean):
    names = [f"{name}.png" for name in rainy], [f"{name}.png" for name in clean]
    with pytest.raises(UserError, match=r"1_1\.png and 1_2\.png are both named after clean's 1\.png"):
        match_names(*names, "rainy", "clean")


def test_images_named_after_their_clean_ones_are_paired_by_name():
    assert match_names(["b_1.png", "a_1.png"], ["a.png", "b.png"], "rainy", "clean") == [1, 0]
