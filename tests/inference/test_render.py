"""`render`: pairs of every type on disk, each a function of seed, name and type."""

from __future__ import annotations

import os
import sys

import pytest
import torch

from rgsud_fast import cli, render_pairs
from rgsud_fast.data import read_image, write_image
from rgsud_fast.errors import UserError


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    for name in ("a.png", "sub/b.png"):
        write_image(tmp_path / "in" / name, torch.rand(3, 48, 64))
    return tmp_path / "in"


def test_pairs_lie_in_the_layout_of_unirains_own_set(folder, tmp_path):
    written = render_pairs(folder, tmp_path / "out")
    assert len(written) == 8
    for kind in ("drs", "drd", "nrs", "nrd"):
        for side in ("input", "target"):
            assert {path.name for path in (tmp_path / "out" / kind / side).iterdir()} == {"a.png", "sub_b.png"}
    for rainy, clean in written:
        assert rainy.name == clean.name
        assert read_image(rainy).shape == read_image(clean).shape == (48, 64, 3)
        assert (read_image(rainy) != read_image(clean)).any()


def test_a_photographs_rain_does_not_depend_on_its_neighbours(folder, tmp_path):
    render_pairs(folder, tmp_path / "both", ["nrs"], seed=3)
    (folder / "a.png").unlink()
    render_pairs(folder, tmp_path / "alone", ["nrs"], seed=3)
    render_pairs(folder, tmp_path / "other", ["nrs"], seed=4)
    both, alone, other = (read_image(tmp_path / name / "nrs/input/sub_b.png") for name in ("both", "alone", "other"))
    assert (both == alone).all() and (both != other).any()


def test_mistakes_are_one_line_and_a_damaged_file_is_left_out(folder, tmp_path, capsys):
    for types, output, message in (
        (["snow"], tmp_path / "out", "no type of rain 'snow'"),
        (["drs"], folder / "out", "would be mixed with the pairs"),
    ):
        with pytest.raises(UserError, match=message):
            render_pairs(folder, output, types)
    with pytest.raises(UserError, match="seed -1 must be at least 0"):
        render_pairs(folder, tmp_path / "out", seed=-1)
    (folder / "c.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"2 pairs are written, 1 are left out: .*c\.png"):
        render_pairs(folder, tmp_path / "out", ["drs"])
    assert cli.main(["render", str(folder / "a.png"), str(tmp_path / "cli"), "--types", "drs,nrd"]) == 0
    assert "wrote 2 pairs" in capsys.readouterr().out
    assert cli.main(["render", str(folder), str(tmp_path / "cli"), "--types", "rain"]) == 2
    assert "no type of rain 'rain': give drs, drd, nrs or nrd" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode there")
def test_a_name_that_is_no_utf8_is_rendered(tmp_path):
    photograph = tmp_path / os.fsdecode(b"in/\xff.png")
    write_image(photograph, torch.rand(3, 48, 64))
    assert len(render_pairs(photograph.parent, tmp_path / "out", ["drs"])) == 1
