"""Distillation from folders to a manifest: good pairs stay, spoiled ones go, and a kill changes nothing."""

from __future__ import annotations

import json
import sqlite3
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import pair, scene, write_all, write_pairs

import rgsud_fast
from rgsud_fast.data.manifest import read_manifest
from rgsud_fast.distillation import candidates, selection
from rgsud_fast.distillation import distil as distil_module
from rgsud_fast.distillation.distil import distil
from rgsud_fast.distillation.faults import plant
from rgsud_fast.distillation.index import index
from rgsud_fast.distillation.references import References
from rgsud_fast.distillation.store import Store
from rgsud_fast.errors import UserError
from rgsud_fast.system.distributed import Ranks

GOOD, BAD = 12, 8


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An index, trusted pairs, and a set of 12 good pairs and 8 whose targets are shifted."""
    root = tmp_path_factory.mktemp("distil")
    write_all(root / "real", [pair(1000 + i, 60, 64)[0] for i in range(24)])
    clean = write_all(root / "scenes", [scene(i, 100, 110) for i in range(2)])
    index(root / "real", root / "index", clean=clean, iterations=4, device="cpu")
    write_pairs(root / "trusted_streak", [pair(i) for i in range(60)])
    rng = np.random.default_rng(0)
    bad = [plant("target shifted by 2 to 4 pixels", pair(i), pair(i), rng) for i in range(300, 300 + BAD)]
    write_pairs(root / "set_streak", [pair(i) for i in range(200, 200 + GOOD)] + bad)
    return root


def run(made, out, **options):
    options = {"trusted": made / "trusted_streak", "device": "cpu"} | options
    return distil(made / "index", options.pop("pairs", made / "set_streak"), out, **options)


@pytest.fixture(scope="module")
def whole(made):
    return made / "whole", run(made, made / "whole")


def content(folder):
    with sqlite3.connect(folder / "manifest.sqlite") as database:
        rows = database.execute("SELECT * FROM rows ORDER BY number").fetchall()
    return rows, (folder / "kept.jsonl").read_bytes(), (folder / "report.html").read_bytes()


def test_good_pairs_stay_and_spoiled_ones_go(whole):
    out, figures = whole
    kept = read_manifest(out)
    numbers = [int(one.rainy.stem) for one in kept]
    assert figures["kept"] == len(kept) and all(one.kind == "drs" and one.clean.is_file() for one in kept)
    assert sum(number < GOOD for number in numbers) >= GOOD - 3
    assert sum(number >= GOOD for number in numbers) == 0
    assert sum(figures["outcomes"]["drs"].values()) == GOOD + BAD == figures["pairs"]


def test_types_without_photographs_to_compare_with_are_named(made, tmp_path):
    said = []
    labels = [["", ""], ["drs", "drd"]]
    for i, folder in enumerate(("streak", "drop")):
        write_all(tmp_path / "real" / f"{folder}", [pair(1000 + i * 50 + k, 60, 64)[0] for k in range(22 - 19 * i)])
    index(tmp_path / "real", tmp_path / "index", clean=made / "scenes", iterations=1, device="cpu")
    references = References(tmp_path / "index")
    assert references.counts["drs"] == 22 and references.counts["drd"] == 3
    assert references.lacking(labels[0]) == ["drd", "nrs", "nrd"] and references.lacking(labels[1]) == ["drd"]
    run(made, tmp_path / "out", pairs=made / "set_streak", say=said.append)
    (line,) = [line for line in said if "fewer than 4 photographs of" in line]
    assert "\n" not in line and "drs" in line  # the index of these tests knows no type surely


def test_the_report_shows_both(whole):
    out, figures = whole
    page = (out / "report.html").read_text()
    assert "kept: " in page and "pair: " in page and "reference" in page and page.count("<img") >= 4 * 8
    assert figures["seconds_per_pair"] > 0
    assert json.loads((out / "report.json").read_text())["hours_per_million_and_process"] == pytest.approx(
        figures["seconds_per_pair"] * 1e6 / 3600
    )


def test_a_killed_distillation_goes_on_to_the_same_manifest(made, whole, monkeypatch):
    class Killed(BaseException):
        pass

    embedded, calls = distil_module.embed, []

    def killing(*args):
        calls.append(1)
        if len(calls) in (2, 7, 8, 15):
            raise Killed
        return embedded(*args)

    monkeypatch.setattr(distil_module, "embed", killing)
    monkeypatch.setattr("rgsud_fast.distillation.store.COMMIT", 0.0)
    for _ in range(4):
        with pytest.raises(Killed):
            run(made, made / "killed")
    run(made, made / "killed")
    assert content(made / "killed") == content(whole[0])
    assert len(calls) < GOOD + BAD + 10


def test_another_strictness_or_budget_judges_nothing_anew(made, whole, monkeypatch):
    out, figures = whole
    before = content(out)
    with monkeypatch.context() as patch:
        patch.setattr(distil_module, "embed", None)  # nobody may look at a pair
        few = run(made, out, budget=3)
        assert few["kept"] == len(read_manifest(out)) == 3 and few["judged_now"] == 0
        assert few["outcomes"]["drs"]["beyond the budget"] == figures["kept"] - 3
        assert run(made, out, strictness=0.5)["kept"] < figures["kept"]
        run(made, out)
    assert content(out) == before


def test_pairs_that_cannot_be_judged_are_told_apart(made, tmp_path):
    folder = write_pairs(tmp_path / "set_streak", [pair(i) for i in range(200, 206)])
    Image.fromarray(scene(1, 50, 50)).save(folder / "clean" / "001.png")
    (folder / "rainy" / "002.png").write_bytes(b"no image")
    outcomes = run(made, tmp_path / "out", pairs=folder)["outcomes"]["drs"]
    assert outcomes["sizes differ"] == outcomes["cannot be read"] == 1


@pytest.mark.parametrize(
    "change, told",
    [
        ({"pairs": "real"}, "is in no layout that is known"),
        ({"pairs": "uneven"}, "input has 3 images and .*target 2|each rainy image needs its clean version"),
        ({"pairs": "unequal"}, "is 120 x 100 pixels and its target 50 x 40, and so on throughout"),
        ({"trusted": None}, "give --clean DIR"),
        ({"trusted": "few"}, "trusted pairs: 3 drs; at least 20"),
        ({"strictness": 1.5}, "strictness 1.5 must be between 0 and 1"),
        ({"seed": -1}, "seed -1 must be at least 0"),
        ({"budget": 0}, "budget 0 must be at least 1"),
        ({"judges": ["gpt"]}, "judge 'gpt': give vlm:FOLDER"),
        ({"type": "snow"}, "type must be drs"),
        ({"type": "nrd"}, "no pair was kept: 20 for no trusted pairs of its type"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_mistakes_are_one_line(made, tmp_path, change, told):
    write_all(made / "uneven" / "input", [scene(i, 40, 40) for i in range(3)])
    write_all(made / "uneven" / "target", [scene(i, 40, 40) for i in range(2)])
    write_all(made / "unequal" / "rainy", [scene(i) for i in range(3)])
    write_all(made / "unequal" / "clean", [scene(i, 40, 50) for i in range(3)])
    write_pairs(made / "few" / "streak", [pair(i) for i in range(3)])
    change = {k: made / v if k in ("pairs", "trusted") and v else v for k, v in change.items()}
    with pytest.raises(UserError, match=told) as caught:
        run(made, tmp_path / "out", **change)
    assert "\n" not in str(caught.value)


def test_without_an_index_one_line_says_how_to_make_it(made, tmp_path):
    with pytest.raises(UserError, match="is no index: make one with rgsud-fast index"):
        distil(tmp_path, made / "set_streak", tmp_path / "out", trusted=tmp_path / "none", device="cpu")


def test_all_rejected_says_who_did_it(made, tmp_path):
    rng = np.random.default_rng(0)
    bad = [plant("a grid for rain", pair(i), pair(i), rng) for i in range(5)]
    folder = write_pairs(tmp_path / "bad_streak", bad)
    with pytest.raises(UserError, match=r"no pair was kept: \d for \w+: .*p up to 0\.\d+"):
        run(made, tmp_path / "out", pairs=folder)
    assert (tmp_path / "out" / "report.html").is_file()


def test_generalists_vote_on_what_specialists_pass(made, tmp_path, monkeypatch):
    class Voter:
        def __init__(self, name, says):
            self.name, self.says, self.asked = name, says, 0

        def score(self, rainy, target, references):
            assert len(references) == 4
            self.asked += 1
            return self.says

    def kept(*says):
        voters = [Voter(f"v{i}", one) for i, one in enumerate(says)]
        monkeypatch.setattr(distil_module, "load_generalists", lambda names, device: voters)
        out = tmp_path / "-".join(map(str, says))
        try:
            return run(made, out, judges=[f"vlm:{i}" for i in says]), voters
        except UserError as error:
            assert "for generalists" in str(error)
            return {"kept": 0}, voters

    two, voters = kept(0.9, 0.6, 0.1)
    assert 0 < two["kept"] == voters[0].asked < GOOD + BAD
    assert {one.weight for one in read_manifest(tmp_path / "0.9-0.6-0.1")} == {2 / 3}
    assert kept(0.9, 0.4, 0.1)[0]["kept"] == 0
    assert kept(0.9, 0.4)[0]["kept"] == 0  # half is no majority


def test_the_face_of_the_package_has_it():
    assert rgsud_fast.distil is distil


def test_memory_grows_by_few_bytes_a_pair(tmp_path):
    """Names are read in chunks and rows written as they come: what is held of each pair is a flag and its number."""
    ranks = Ranks(torch.device("cpu"))

    class Nobody:
        def __init__(self):
            self.ranks = ranks

        def judge(self, row):
            return {"root": row["root"], "rainy": row["rainy"], "p": 0.5}

    def peak(count):
        names = ({"root": 0, "rainy": f"input/{i:07d}.png", "clean": f"target/{i:07d}.png"} for i in range(count))
        named = Store(tmp_path / f"pairs-{count}.sqlite", candidates.COLUMNS, {})
        manifest = Store(tmp_path / f"manifest-{count}.sqlite", selection.COLUMNS, {})
        tracemalloc.start()
        named.fill(names)
        distil_module._judge_all(Nobody(), named, manifest, lambda done, total: None)
        _, held = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        manifest.settle()
        manifest.merge()
        assert manifest.count() == count
        return held

    assert peak(20_000) - peak(2_000) < 18_000 * 32


def test_the_folder_of_pairs_may_be_the_present_one(made, tmp_path, monkeypatch):
    monkeypatch.chdir(write_pairs(tmp_path / "set_streak", [pair(i) for i in range(2)]))
    store = Store(tmp_path / "pairs.sqlite", candidates.COLUMNS, {})
    assert candidates.list_candidates(store, [Path()], None, None) == 2
    assert [(row["rainy"], row["label"]) for row in store.rows()] == [
        ("rainy/000.png", "drs"),
        ("rainy/001.png", "drs"),
    ]


def test_other_trusted_pairs_in_the_same_folder_are_no_continuation(made, tmp_path):
    trusted = write_pairs(tmp_path / "streak", [pair(i) for i in range(20)])
    run(made, tmp_path / "out", trusted=trusted, strictness=0.01)
    write_pairs(trusted, [pair(i) for i in range(24)])
    with pytest.raises(UserError, match="was made with other values of: what is trusted"):
        run(made, tmp_path / "out", trusted=trusted, strictness=0.01)


def test_a_refused_call_may_be_mended_in_the_same_folder(made, tmp_path):
    with pytest.raises(UserError, match="is not in the layout spa"):
        run(made, tmp_path / "out", layout="spa", strictness=0.01)
    assert run(made, tmp_path / "out", layout="folders", strictness=0.01)["kept"]
    with pytest.raises(UserError, match="was made with other values of: layout"):
        run(made, tmp_path / "out", strictness=0.01)
