"""Labelled pairs: opened in any layout, drawn alike for both images, balanced where asked, some held out."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from rgsud_fast.config import Config
from rgsud_fast.config.rain_types import UNKNOWN
from rgsud_fast.data import write_image
from rgsud_fast.data.folder_set import FolderSet
from rgsud_fast.data.open_pairs import VALIDATED, open_pairs, render_demo_pairs, validation_pairs
from rgsud_fast.data.pairs import MOST_HELD_OUT, PairSet, hold_out
from rgsud_fast.errors import UserError
from rgsud_fast.system.distributed import Ranks
from rgsud_fast.training.type_weights import TypeWeights


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for kind, count in (("drs", 6), ("nrd", 3)):
        for i in range(count):
            for side in ("input", "target"):
                write_image(tmp_path / "set" / kind / side / f"{i}.png", rng.integers(0, 255, (40, 50, 3), np.uint8))
    return tmp_path / "set"


def opened(folder, tmp_path, **options):
    told = []
    pairs = open_pairs([folder], tmp_path / "cache", told.append, **options)
    return pairs, told


def test_pairs_of_a_layout_are_opened_with_their_types(folder, tmp_path):
    pairs, told = opened(folder, tmp_path)
    assert len(pairs) == 9 and not told
    assert Counter(pairs.kind_of(i) for i in range(9)) == {"drs": 6, "nrd": 3}
    assert pairs.summary() == "9 labelled pairs (6 drs, 3 nrd; 2 of them held out)"
    for rainy, clean in pairs.places:
        assert pairs.rainy.names[rainy].replace("input", "target") == pairs.clean.names[clean]


def test_both_crops_of_a_pair_show_the_same_window(folder, tmp_path):
    pairs, _ = opened(folder, tmp_path)
    drawn = pairs.draw(0, 3, 8, 32, "natural")
    assert {crop.turn for step in range(20) for crop in pairs.draw(0, step, 8, 32, "natural")} == {0, 1, 2, 3}
    for one in drawn:
        assert one.rainy[1:] == one.clean[1:]
        assert (one.rainy.index, one.clean.index) == pairs.places[one.pair]
    assert drawn == pairs.draw(0, 3, 8, 32, "natural")
    assert drawn[2:5] == pairs.draw(0, 3, 8, 32, "natural", range(2, 5))  # a rank's slots


def test_no_step_sees_what_is_held_out_and_equal_balance_lets_types_take_turns(folder, tmp_path):
    pairs, _ = opened(folder, tmp_path)
    for balance in ("natural", "equal"):
        drawn = [crop.pair for step in range(60) for crop in pairs.draw(1, step, 4, 32, balance)]
        assert not set(drawn) & set(pairs.held_out)
        assert set(drawn) == set(pairs.training)
        counts = Counter(pairs.kind_of(pair) for pair in drawn)
        if balance == "equal":
            assert counts["drs"] == counts["nrd"]
        else:
            assert counts["drs"] > 1.5 * counts["nrd"]


def test_scenes_are_held_out_whole_and_within_bounds():
    kinds, scenes = [0, 1] * 20, [f"s{i // 2}" for i in range(40)]
    held = hold_out(kinds, scenes, 0.1)
    assert len(held) == 4 and len({scenes[i] for i in held}) == 2
    assert hold_out(kinds, scenes, 0) == [] and hold_out([0], ["a"], 0.5) == []
    assert hold_out([0, 0], ["a", "b"], 0.1) != []
    assert len(hold_out([0] * 2000, [f"{i}" for i in range(2000)], 0.1)) == MOST_HELD_OUT


def test_validation_takes_a_few_of_each_type():
    images = FolderSet.from_arrays([f"{i}" for i in range(60)], np.zeros((60, 8, 8, 3), np.uint8))
    kinds = [0] * 40 + [3] * 20
    pairs = PairSet(images, images, [(i, i) for i in range(60)], kinds, [1.0] * 60, list(range(20, 60)))
    assert Counter(pair.kind for pair in validation_pairs(pairs)) == {"drs": VALIDATED, "nrd": VALIDATED}


def test_halves_of_one_file_become_two_images(tmp_path):
    image = np.zeros((32, 64, 3), np.uint8)
    image[:, 32:] = 200
    write_image(tmp_path / "set" / "1.png", image)
    pairs, _ = opened(tmp_path / "set", tmp_path)
    assert pairs.rainy[0].shape == (32, 32, 3) and pairs.rainy[0].min() == 200 and pairs.clean[0].max() == 0


def test_pairs_that_cannot_be_used_are_told_and_unequal_sizes_refused(folder, tmp_path):
    (folder / "drs/input/2.png").write_bytes(b"none")
    pairs, told = opened(folder, tmp_path)
    assert len(pairs) == 8 and "1 of 9 pairs are skipped: drs/input/2.png" in told[0]
    write_image(folder / "nrd/target/0.png", np.zeros((41, 50, 3), np.uint8))
    with pytest.raises(UserError, match=r"is 50 x 40 pixels and its clean version .* 50 x 41"):
        opened(folder, tmp_path)


def test_a_type_is_given_to_those_whose_names_tell_none(tmp_path):
    for side in ("rainy", "clean"):
        write_image(tmp_path / "set" / side / "1.png", np.zeros((32, 32, 3), np.uint8))
    pairs, told = opened(tmp_path / "set", tmp_path)
    assert pairs.kinds == [UNKNOWN] and "train with weight 1" in told[0]
    pairs, told = opened(tmp_path / "set", tmp_path, kind="drd")
    assert pairs.kind_of(0) == "drd" and not told


def test_the_demos_pairs_are_of_all_types_and_held_out_by_scene():
    clean = FolderSet.from_arrays(
        ["a", "b", "c", "d"], np.random.default_rng(0).integers(0, 255, (4, 40, 48, 3), np.uint8)
    )
    pairs = render_demo_pairs(clean)
    assert len(pairs) == 16 and len(pairs.held_out) == 4
    assert len({pairs.rainy.names[i].split("/")[1] for i in pairs.held_out}) == 1


def test_types_are_weighed_by_few_pairs_even_where_a_scene_holds_hundreds():
    images = FolderSet.from_arrays([f"{i}" for i in range(400)], np.zeros((400, 8, 8, 3), np.uint8))
    kinds, scenes = [0, 1] * 200, [f"s{i // 200}" for i in range(400)]
    held = hold_out(kinds, scenes, 0.1)
    pairs = PairSet(images, images, [(i, i) for i in range(400)], kinds, [1.0] * 400, held)
    assert len(held) == 200
    measured = TypeWeights(Config(), pairs, Ranks(torch.device("cpu"))).measured
    assert set(measured) <= set(held)
    assert Counter(kinds[pair] for pair in measured) == {0: MOST_HELD_OUT, 1: MOST_HELD_OUT}
