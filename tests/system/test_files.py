"""What a file system refuses stops no writing, and names of any length are written."""

from __future__ import annotations

import errno
import os

import pytest

from rgsud_fast.system.files import remove_leftovers, replacing, write_text


def refusing(number: int):
    def refuse(*_args, **_keywords):
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize(
    "call, number",
    [("chmod", errno.EPERM), ("chmod", errno.ENOSYS), ("fsync", errno.EINVAL), ("replace", errno.ENOSYS)],
)
def test_a_courtesy_that_is_refused_stops_nothing(tmp_path, monkeypatch, call, number):
    monkeypatch.setattr(os, call, refusing(number))
    write_text(tmp_path / "a.txt", "one")
    write_text(tmp_path / "a.txt", "two")
    assert (tmp_path / "a.txt").read_text() == "two"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("call, number", [("fsync", errno.ENOSPC), ("fsync", errno.EIO), ("replace", errno.EACCES)])
def test_a_failed_write_is_told_and_keeps_what_was_there(tmp_path, monkeypatch, call, number):
    write_text(tmp_path / "a.txt", "one")
    monkeypatch.setattr(os, call, refusing(number))
    with pytest.raises(OSError) as told:
        write_text(tmp_path / "a.txt", "two")
    assert told.value.errno == number and told.value.filename == str(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "one"


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "雨" * 83 + ".tiff", "a." + "y" * 250, "雨" * 85])
def test_the_longest_names_are_written_and_tidied(tmp_path, name):
    write_text(tmp_path / name, "text")
    assert (tmp_path / name).read_text() == "text"
    with replacing(tmp_path / name) as temporary:
        left = temporary.name
    (tmp_path / left).touch()  # as of a writer that was killed
    remove_leftovers(tmp_path / name)
    assert os.listdir(tmp_path) == [name]
