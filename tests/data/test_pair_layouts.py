"""Every layout of a public set is read from a folder of tiny images, and an unknown one is told."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rgsud_fast.data import write_image
from rgsud_fast.data.layouts import LAYOUTS, read_layout, type_of
from rgsud_fast.data.manifest import read_manifest, write_manifest
from rgsud_fast.errors import UserError

# layout, files, and pairs (rainy, clean, type)
SETS = {
    "unirain": (
        "folders",
        [f"{kind}/{side}/a.png" for kind in ("drs", "drd", "nrs", "nrd") for side in ("input", "target")],
        [(f"{kind}/input/a.png", f"{kind}/target/a.png", kind) for kind in ("drd", "drs", "nrd", "nrs")],
    ),
    "train and test": (
        "folders",
        ["train/input/1.png", "train/target/1.png", "test/input/2.png", "test/target/2.png"],
        [("test/input/2.png", "test/target/2.png", None), ("train/input/1.png", "train/target/1.png", None)],
    ),
    "Rain13K": (
        "folders",
        ["test/Rain100L/input/1.png", "test/Rain100L/target/1.png"],
        [("test/Rain100L/input/1.png", "test/Rain100L/target/1.png", "drs")],
    ),
    "BDD-NightRain": ("folders", ["train/lq/1.jpg", "train/gt/1.jpg"], [("train/lq/1.jpg", "train/gt/1.jpg", "nrs")]),
    "Rain200L": (
        "folders",
        ["rain/X2/norain-1x2.png", "rain/X2/norain-2x2.png", "norain/norain-1.png", "norain/norain-2.png"],
        [
            ("rain/X2/norain-1x2.png", "norain/norain-1.png", "drs"),
            ("rain/X2/norain-2x2.png", "norain/norain-2.png", "drs"),
        ],
    ),
    "Rain100L": ("prefixes", ["rain-001.png", "norain-001.png"], [("rain-001.png", "norain-001.png", "drs")]),
    "Rain1400": (
        "numbered",
        ["901_1.jpg", "901_14.jpg", "901.jpg"],
        [("901_1.jpg", "901.jpg", "drs"), ("901_14.jpg", "901.jpg", "drs")],
    ),
    "DDN": (
        "folders",
        ["rainy_image/901_1.jpg", "rainy_image/901_2.jpg", "ground_truth/901.jpg"],
        [
            ("rainy_image/901_1.jpg", "ground_truth/901.jpg", "drs"),
            ("rainy_image/901_2.jpg", "ground_truth/901.jpg", "drs"),
        ],
    ),
    "DeRaindrop": (
        "folders",
        ["train/data/0_rain.png", "train/data/1_rain.png", "train/gt/0_clean.png", "train/gt/1_clean.png"],
        [
            ("train/data/0_rain.png", "train/gt/0_clean.png", "drd"),
            ("train/data/1_rain.png", "train/gt/1_clean.png", "drd"),
        ],
    ),
    "RainDS": (
        "rainds",
        [
            *("RainDS_syn/train_set/rainstreak/rain-1.png", "RainDS_syn/train_set/rainstreak/pie-rain-1.png"),
            *("RainDS_syn/train_set/raindrop/rd-1.png", "RainDS_syn/train_set/rainstreak_raindrop/rd-rain-1.png"),
            *("RainDS_syn/train_set/gt/norain-1.png", "RainDS_syn/train_set/gt/pie-norain-1.png"),
        ],
        [
            ("RainDS_syn/train_set/raindrop/rd-1.png", "RainDS_syn/train_set/gt/norain-1.png", "drd"),
            ("RainDS_syn/train_set/rainstreak/pie-rain-1.png", "RainDS_syn/train_set/gt/pie-norain-1.png", "drs"),
            ("RainDS_syn/train_set/rainstreak/rain-1.png", "RainDS_syn/train_set/gt/norain-1.png", "drs"),
            ("RainDS_syn/train_set/rainstreak_raindrop/rd-rain-1.png", "RainDS_syn/train_set/gt/norain-1.png", "drd"),
        ],
    ),
    "RaindropClarity": (
        "clarity",
        [
            f"{time}RainDrop_Train/{what}/0001/00002.png"
            for time in ("Day", "Night")
            for what in ("Drop", "Blur", "Clear")
        ],
        [
            (f"{time}RainDrop_Train/Drop/0001/00002.png", f"{time}RainDrop_Train/Clear/0001/00002.png", kind)
            for time, kind in (("Day", "drd"), ("Night", "nrd"))
        ],
    ),
    "GTAV-NightRain": (
        "folders",
        ["set1/train/rainy/0001_00.png", "set1/train/rainy/0001_01.png", "set1/train/gt/0001.png"],
        [(f"set1/train/rainy/0001_{k}.png", "set1/train/gt/0001.png", "nrs") for k in ("00", "01")],
    ),
    "GT-RAIN": (
        "gt-rain",
        ["town/Webcam-R-000.png", "town/Webcam-R-001.png", "town/Webcam-C-000.png"],
        [(f"town/Webcam-R-00{k}.png", "town/Webcam-C-000.png", "drs") for k in (0, 1)],
    ),
    "Rain800": ("halves", ["1.png", "2.png"], [("1.png", "1.png", "drs"), ("2.png", "2.png", "drs")]),
    "SPA-Data": (
        "spa",
        ["real_world/1/r.png", "real_world_gt/1.png"],
        [("real_world/1/r.png", "real_world_gt/1.png", "drs")],
    ),
}


def write(root, files, size=(32, 32)):
    for name in files:
        write_image(root / name, np.full((*size, 3), 90, np.uint8))
    return root


@pytest.mark.parametrize("name", SETS)
def test_each_layout_is_read(tmp_path, name):
    layout, files, expected = SETS[name]
    root = write(tmp_path / name.replace(" ", ""), files, (32, 64) if layout == "halves" else (32, 32))
    if layout == "spa":
        (root / "real_world.txt").write_text("/real_world/1/r.png /real_world_gt/1.png\nmissing.png gone.png\n")
    if name == "GTAV-NightRain":
        assert type_of(f"{root.name}/x") == "nrs"
    for asked in (None, layout):
        pairs = read_layout(root, asked)
        got = [
            (pair.rainy.relative_to(root).as_posix(), pair.clean.relative_to(root).as_posix(), pair.kind)
            for pair in pairs
        ]
        assert sorted(got) == sorted((rainy, clean, kind) for rainy, clean, kind in expected)
        assert all(pair.halves == (layout == "halves") for pair in pairs)
    assert {pair.kind for pair in read_layout(root, kind="nrd")} == {"nrd"}


def test_layouts_in_the_test_are_all_there_are():
    assert {layout for layout, _, _ in SETS.values()} == set(LAYOUTS)


def test_an_unknown_layout_is_one_line_that_names_what_was_found(tmp_path):
    root = write(tmp_path / "set", ["one/a.png", "two/b.png"])
    with pytest.raises(UserError, match=r"no layout that is known: it has 2 images in one, two, such as one/a\.png"):
        read_layout(root)
    with pytest.raises(UserError, match="is not in the layout spa"):
        read_layout(root, "spa")
    with pytest.raises(UserError, match="no layout 'mine': give spa"):
        read_layout(root, "mine")


def test_folders_of_unequal_count_name_the_first_that_has_no_partner(tmp_path):
    root = write(tmp_path / "set", ["input/a.png", "input/b.png", "target/a.png", "target/c.png", "target/d.png"])
    with pytest.raises(UserError, match="input has 2 images and target 3"):
        read_layout(root)


@pytest.mark.parametrize(
    "name, kind",
    [
        ("sets/nrd/input/a.png", "nrd"),
        ("BDD-NightRain/a.png", "nrs"),
        ("NightRainDrop/a.png", "nrd"),
        ("raindrop/a.png", "drd"),
        ("Rain100H/a.png", "drs"),
        ("holiday/a.png", None),
        ("mine/input/rain100.png", None),
        ("mine/streaks-1.png", "drs"),
    ],
)
def test_words_tell_types(name, kind):
    assert type_of(name) == kind


def test_a_manifest_is_read_back_and_comes_before_every_layout(tmp_path):
    rows = [
        {"root": 0, "rainy": "x/a.png", "clean": "y/a.png", "type": "nrs", "weight": 0.5, "votes": 2},
        {"root": 1, "rainy": "b.png", "clean": "b.png", "type": None, "halves": True},
    ]
    write_manifest(tmp_path / "kept", ["../one", tmp_path / "two"], rows)
    pairs = read_layout(tmp_path / "kept")
    assert [pair.kind for pair in pairs] == ["nrs", None]
    assert [pair.weight for pair in pairs] == [0.5, 1.0]
    assert pairs[0].rainy.resolve() == (tmp_path / "one/x/a.png").resolve()
    assert pairs[1].rainy == tmp_path / "two/b.png" and pairs[1].halves


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "{}",
        json.dumps({"root": 5, "rainy": "a", "clean": "b"}),
        json.dumps({"rainy": "../a", "clean": "b"}),
        json.dumps({"rainy": "a", "clean": "b", "weight": -1}),
    ],
)
def test_a_line_that_is_no_pair_is_named(tmp_path, line):
    write_manifest(tmp_path, ["."], [])
    with (tmp_path / "kept.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=r"kept\.jsonl, line 2: no line of a manifest"):
        read_manifest(tmp_path)


def test_an_empty_manifest_says_so(tmp_path):
    write_manifest(tmp_path, ["."], [])
    with pytest.raises(UserError, match="no pair was kept"):
        read_manifest(tmp_path)


def test_wide_photographs_are_no_pairs_of_halves(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(3):
        left, right = (np.kron(rng.integers(0, 255, (6, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(2))
        write_image(tmp_path / "wide" / f"{i}.png", np.hstack([left, right]))
        write_image(tmp_path / "pairs" / f"{i}.png", np.hstack([left, np.clip(left, 60, 255)]))
    assert all(pair.halves for pair in read_layout(tmp_path / "pairs"))
    with pytest.raises(UserError, match="is in no layout that is known: it has 3 images"):
        read_layout(tmp_path / "wide")


def test_images_that_would_be_left_out_without_a_word_are_refused(tmp_path):
    root = write(tmp_path / "lonely", ["rain-1.png", "norain-1.png", "rain-2.png"])
    with pytest.raises(UserError, match=r"rain-2\.png has no clean version"):
        read_layout(root)
    root = write(
        tmp_path / "three", ["a/input/1.png", "a/target/1.png", "b/input/1.png", "b/target/1.png", "b/gt/1.png"]
    )
    with pytest.raises(UserError, match="b holds input, gt, target: leave one folder of rainy"):
        read_layout(root)
