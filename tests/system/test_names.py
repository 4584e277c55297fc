"""Names that are no UTF-8, as archives from elsewhere leave them: they end no job, whatever is done with them."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open

from rgsud_fast.cli import main
from rgsud_fast.config import load_config, save_config
from rgsud_fast.config.scorer_names import parse_scorer
from rgsud_fast.data import FolderSet
from rgsud_fast.data.shard_files import expand, index_name
from rgsud_fast.inference.derain import derain
from rgsud_fast.iqa import CallableScorer
from rgsud_fast.iqa.factory import save_scorer
from rgsud_fast.networks import NAFNet
from rgsud_fast.networks.weights import load_network, save_network
from rgsud_fast.system.files import write_text
from rgsud_fast.system.names import name_bytes
from rgsud_fast.system.progress import Progress, counting
from rgsud_fast.system.torch_files import load_tensors

GBK = os.fsdecode("下雨".encode("gbk"))  # as a zip from China is unpacked
ESCAPED = "\\udccf\\udcc2\\udcd3\\udcea"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of such a name with an image of such a name."""
    (tmp_path / GBK).mkdir()
    with open(tmp_path / GBK / f"{GBK}.png", "wb") as file:
        Image.new("RGB", (40, 40)).save(file, "PNG")
    return tmp_path / GBK


def stream(encoding):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", write_through=True)


def test_a_name_in_utf8_keeps_its_hash():
    assert name_bytes("ü雨") == "ü雨".encode()


def test_such_a_folder_is_cached_and_opened_again(folder, tmp_path):
    for _ in range(2):
        assert FolderSet.from_folder(folder, tmp_path / "cache").names == [f"{GBK}.png"]


def test_such_a_shard_has_an_index(folder):
    pytest.importorskip("webdataset")
    (folder / "a.tar").write_bytes(b"")
    assert index_name(expand(str(folder / "a.tar"))[0])[0].endswith(".shard")


def test_a_configuration_with_such_a_folder_is_read_back(folder, tmp_path):
    config = load_config({"preset": "small", "data": {"rainy": str(folder)}, "out": str(folder)})
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["out"] == str(folder)


def test_a_text_with_such_a_name_is_written_escaped(tmp_path):
    write_text(tmp_path / "page.html", f"<p>{GBK} ü</p>")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == f"<p>{ESCAPED} ü</p>"


def test_weights_and_tensors_in_such_a_folder_are_read(folder):
    save_network(folder / "derainer.safetensors", NAFNet(4, [1], 1, [1]), "derainer")
    assert isinstance(load_network(folder), NAFNet)
    with open(folder / "x.pth", "wb") as file:
        torch.save({"a": torch.ones(3)}, file)
    assert load_tensors(folder / "x.pth")["a"].tolist() == [1, 1, 1]


def test_a_score_made_of_such_a_file_is_saved(tmp_path):
    scorer = CallableScorer(lambda images: images.mean((1, 2, 3)))
    scorer.state = lambda: {"a": torch.zeros(1)}
    save_scorer(scorer, tmp_path / "scorer.safetensors", f"niqe:{GBK}.npz")
    with safe_open(tmp_path / "scorer.safetensors", "pt") as file:
        assert file.metadata() == {"scorer": f"niqe:{ESCAPED}.npz"}


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_terminal_ends_a_job_by_a_name(encoding, monkeypatch):
    for name in (f"{GBK}.png", "ü雨.png"):
        out = stream(encoding)
        monkeypatch.setattr(sys, "stdout", out)
        with counting("derained") as watch:
            watch(1, 1, name)
        with Progress(1, stream=stream(encoding)) as progress:
            progress.say(name)
            progress.advance(1, 1, {"image": name})
        out.flush()
        assert b"derained 1/1" in out.buffer.getvalue()


def test_the_command_line_prints_any_name(folder, monkeypatch):
    out = stream("ascii")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr("rgsud_fast.inference.score.fit_niqe", lambda images, output: 2)
    assert main(["fit-niqe", str(folder), str(folder.with_name(f"{GBK}ü.safetensors"))]) == 0
    assert ESCAPED.encode() in out.buffer.getvalue()


def test_a_path_from_home_is_understood_everywhere(tmp_path, monkeypatch, photos, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load_config({"preset": "small", "data": {"rainy": "~/photos", "clean": "~/s-{0..1}.tar"}, "out": "~/run"})
    assert (config.data.rainy, config.data.clean, config.out) == (
        photos,
        f"{tmp_path}/s-{{0..1}}.tar",
        tmp_path / "run",
    )
    save_config(config, tmp_path / "config.yaml")
    assert load_config("~/config.yaml") == config
    assert parse_scorer("niqe:~/x.npz") == ("niqe", f"{tmp_path}/x.npz")
    save_network("~/derainer.safetensors", NAFNet(4, [1], 1, [1]), "derainer")
    assert len(derain("~/derainer.safetensors", ["~/photos"], "~/out")) == len(list((tmp_path / "out").iterdir())) > 0
    main(["score", "~/photos", "--metric=niqe:~/gone.npz"])
    assert f"{tmp_path}/gone.npz" in capsys.readouterr().err
    main(["score", "~/photos", "--metric", "niqe", "--pairs=~/nowhere"])
    assert f"{tmp_path}/nowhere" in capsys.readouterr().err
