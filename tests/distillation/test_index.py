"""An index of photographs: the same however often its making was cut, and refused where it would mean nothing."""

from __future__ import annotations

import sqlite3
import warnings

import numpy as np
import pytest
from PIL import Image
from scenes import pair, scene, write_all

import rgsud_fast
from rgsud_fast.distillation import index as index_module
from rgsud_fast.distillation.embeddings import embed
from rgsud_fast.distillation.index import index
from rgsud_fast.distillation.references import References
from rgsud_fast.distillation.type_network import TYPES, fit_type_network
from rgsud_fast.errors import UserError

FIT = {"iterations": 4, "device": "cpu"}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for place, kind in enumerate(TYPES):
        images = [pair(100 * place + i, 60, 64)[0] for i in range(6)]
        if kind.startswith("n"):
            images = [(image // 5).astype(np.uint8) for image in images]
        write_all(folder / kind, images)
    return folder


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("clean"), [scene(i, 100, 110) for i in range(3)])


@pytest.fixture(scope="module")
def indexed(photographs, clean, tmp_path_factory):
    out = tmp_path_factory.mktemp("index") / "index"
    return out, index(photographs, out, clean=clean, **FIT)


def content(folder) -> tuple:
    """Rows, notes and the bytes of the arrays."""
    with sqlite3.connect(folder / "index.sqlite") as database:
        tables = [database.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in ("rows", "notes")]
    return tables, [(folder / f"{name}.npy").read_bytes() for name in ("captions", "visual", "thumbs")]


def test_every_photograph_has_a_row_and_the_type_of_its_folder(indexed):
    out, figures = indexed
    assert figures["photographs"] == 24
    assert figures["types"] == {**dict.fromkeys(TYPES, 6), "unknown": 0}
    references = References(out)
    assert len(references) == 24 and references.path(0).is_file() and references.thumb(3).shape == (256, 256)


def test_a_killed_index_goes_on_to_the_same_one(photographs, clean, indexed, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    embedded, calls = index_module.embed, []

    def killing(*args):
        calls.append(1)
        if len(calls) in (3, 9, 10):
            raise Killed
        return embedded(*args)

    monkeypatch.setattr(index_module, "embed", killing)
    monkeypatch.setattr("rgsud_fast.distillation.store.COMMIT", 0.0)
    for _ in range(3):
        with pytest.raises(Killed):
            index(photographs, tmp_path / "again", clean=clean, **FIT)
    index(photographs, tmp_path / "again", clean=clean, **FIT)
    assert content(tmp_path / "again") == content(indexed[0])
    assert len(calls) < 24 + 10  # nothing was described twice but what a kill lost
    index(photographs, tmp_path / "again", clean=clean, **FIT)
    assert content(tmp_path / "again") == content(indexed[0])


def test_a_photograph_finds_itself_first(photographs, indexed):
    references = References(indexed[0])
    for place in (0, 7, 23):
        image = np.array(Image.open(references.path(place)))
        query = embed(image, references.network)
        kind = TYPES[references.types[place]]
        assert references.nearest(query, kind)[0] == place
        assert references.nearest(query, "", (0, 0, 4))[0] == place
        assert all(references.types[found] == references.types[place] for found in references.nearest(query, kind))


def test_detail_is_nearer_to_itself_than_to_others(indexed):
    references = References(indexed[0])
    query = embed(np.array(Image.open(references.path(0))), references.network)
    assert references.distance(query, [0]) < 1e-6 < references.distance(query, [1])
    assert references.distance(query, []) == 0


def test_an_unreadable_photograph_is_left_out_and_told(photographs, clean, tmp_path):
    folder = tmp_path / "photographs"
    write_all(folder, [scene(i, 40, 40) for i in range(21)])
    (folder / "003.png").write_bytes(b"no image")
    figures = index(folder, tmp_path / "out", clean=clean, **FIT)
    assert figures["photographs"] == 20 and figures["left_out"][0][0] == "003.png"
    references = References(tmp_path / "out")
    query = embed(scene(3, 40, 40), references.network)
    assert len(references) == 20 and 3 not in references.nearest(query, "", (0, 0, 21))


def test_too_few_photographs_are_refused(clean, tmp_path):
    folder = write_all(tmp_path / "few", [scene(i, 40, 40) for i in range(19)])
    with pytest.raises(UserError, match="has 19 photographs, at least 20 needed"):
        index(folder, tmp_path / "out", clean=clean, **FIT)
    with pytest.raises(UserError, match="no image in this folder"):
        (tmp_path / "empty").mkdir()
        index(tmp_path / "empty", tmp_path / "out", **FIT)


def test_other_photographs_do_not_go_into_an_old_index(photographs, clean, indexed, tmp_path):
    folder = write_all(tmp_path / "others", [scene(i, 40, 40) for i in range(20)])
    with pytest.raises(UserError, match="other values of: photographs, references"):
        index(folder, indexed[0], clean=clean, **FIT)


def test_what_is_no_index_is_refused_in_one_line(indexed, tmp_path):
    with pytest.raises(UserError, match="is no index: make one with rgsud-fast index"):
        References(tmp_path)
    (tmp_path / "index.sqlite").write_text("nothing of the kind" * 99)
    with pytest.raises(UserError, match="no index"):
        References(tmp_path)


def test_the_network_is_the_same_for_the_same_seed():
    scenes = [scene(i, 100, 100) for i in range(2)]
    one, other, third = (fit_type_network(scenes, seed, 2) for seed in (0, 0, 1))
    states = [network.state_dict() for network in (one, other, third)]
    assert all((states[0][name] == states[1][name]).all() for name in states[0])
    assert any((states[0][name] != states[2][name]).any() for name in states[0])


def test_an_embedding_does_not_depend_on_the_camera_s_pixels(indexed):
    references = References(indexed[0])
    image = scene(5, 400, 500)
    large = image.repeat(2, 0).repeat(2, 1)
    small, big = (embed(one, references.network) for one in (image, large))
    assert np.abs(small.thumb.astype(int) - big.thumb).mean() < 2
    assert float(small.visual @ big.visual) > 1.9  # of 2: each part has length 1


def test_the_face_of_the_package_has_it():
    assert rgsud_fast.index is index
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "index" in dir(rgsud_fast)
