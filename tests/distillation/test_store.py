"""Rows that several processes write and a kill may cut: what was committed stays, and nothing is there twice."""

from __future__ import annotations

import os
import sqlite3
import sys

import pytest
import torch

from rgsud_fast.distillation.store import Store, alone
from rgsud_fast.errors import UserError
from rgsud_fast.system.distributed import Ranks

COLUMNS = {"name": "TEXT", "value": "REAL"}


def open_store(path, rank=0, **made_of):
    return Store(path, COLUMNS, made_of, rank)


def test_ranks_write_apart_and_are_brought_together(tmp_path):
    stores = [open_store(tmp_path / "all.sqlite", rank) for rank in range(3)]
    for number in range(9):
        stores[number % 3].add(number, {"name": f"n{number}", "value": number / 2})
    for store in stores:
        store.commit()
    assert stores[0].count() == 0
    stores[0].merge()
    assert [row["number"] for row in stores[0].rows()] == list(range(9))
    assert not list(tmp_path.glob("*.part"))


def test_rows_of_a_killed_process_are_found_by_the_next(tmp_path):
    killed = open_store(tmp_path / "all.sqlite")
    killed.add(0, {"name": "safe"})
    killed.commit()
    killed.add(1, {"name": "lost"})  # no commit: the process is killed here
    killed._part.close()
    store = open_store(tmp_path / "all.sqlite")
    store.merge()
    assert store.done(3).tolist() == [True, False, False]


def test_a_row_that_is_made_again_is_there_once(tmp_path):
    store = open_store(tmp_path / "all.sqlite")
    for value in (1.0, 2.0):
        store.add(0, {"name": "a", "value": value})
    store.commit()
    store.merge()
    assert [row["value"] for row in store.rows()] == [2.0]


def test_names_that_are_no_utf_8_come_back(tmp_path):
    store = open_store(tmp_path / "all.sqlite")
    names = [os.fsdecode(b"rain-\xff.png"), "Straße.png", "雨.png", "plain.png"]
    store.fill({"name": name} for name in names)
    assert [row["name"] for row in store.rows()] == names


def test_other_options_are_refused_by_name(tmp_path):
    open_store(tmp_path / "all.sqlite", seed=0, folder="a").close()
    open_store(tmp_path / "all.sqlite", seed=0, folder="a").close()
    with pytest.raises(UserError, match="other values of: seed; give the same ones"):
        open_store(tmp_path / "all.sqlite", seed=1, folder="a")


def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path):
    (tmp_path / "text.sqlite").write_text("no database, but long enough to be one" * 30)
    with pytest.raises(UserError, match="cannot be used"):
        open_store(tmp_path / "text.sqlite")
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, colour TEXT)")
    other.close()
    with pytest.raises(UserError, match="not this version's"):
        open_store(tmp_path / "other.sqlite")


def test_what_is_added_after_a_merge_is_kept_as_well(tmp_path):
    store = open_store(tmp_path / "all.sqlite")
    for number in range(2):
        store.add(number, {"name": "a"})
        store.settle()
        store.merge()
    assert store.done(2).all()


def test_a_folder_has_one_owner_at_a_time(tmp_path):
    ranks = Ranks(torch.device("cpu"))
    told = "wait for its end, or give another folder"
    with alone(tmp_path, ranks), pytest.raises(UserError, match=told), alone(tmp_path, ranks):
        pass
    with alone(tmp_path, ranks):
        pass


def test_a_part_whose_process_was_killed_before_it_had_a_table_is_nothing(tmp_path):
    store = open_store(tmp_path / "all.sqlite")
    (tmp_path / "all.sqlite-3.part").touch()
    store.merge()
    assert store.count() == 0 and not list(tmp_path.glob("*.part"))


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode there")
def test_a_folder_whose_name_is_no_utf8_is_as_good(tmp_path):
    store = open_store(tmp_path / os.fsdecode(b"\xff") / "all.sqlite")
    store.add(0, {"name": "a"})
    store.settle()
    store.merge()
    assert store.count() == 1
