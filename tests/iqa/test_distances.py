"""LPIPS and DISTS beside PSNR and SSIM: what of pyiqa is called, and what is said without it."""

from __future__ import annotations

import json
import sys
import types

import pytest
import torch
from darker import Darker

from rgsud_fast import cli
from rgsud_fast.data import write_image
from rgsud_fast.errors import UserError
from rgsud_fast.inference.evaluate import evaluate
from rgsud_fast.iqa.distances import Distance


@pytest.fixture
def pyiqa(monkeypatch):
    """A stand-in that downloads nothing: each distance is a multiple of the mean absolute difference."""
    stub = types.ModuleType("pyiqa")
    stub.made = []

    def create_metric(name, *, device, as_loss, check_input_range):
        stub.made.append((name, str(device), as_loss))
        return lambda x, y: {"lpips": 1.0, "dists": 2.0}[name] * (x - y).abs().mean().reshape(1, 1)

    stub.create_metric = create_metric
    monkeypatch.setitem(sys.modules, "pyiqa", stub)
    monkeypatch.setattr("socket.create_connection", lambda *args, **options: pytest.fail("asked the network"))
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "proxy"})
    return stub


def folders(tmp_path):
    for i in range(2):
        clean = torch.rand(3, 40, 44) / 4
        write_image(tmp_path / "clean" / f"{i}.png", clean)
        write_image(tmp_path / "rainy" / f"{i}.png", clean + 0.5)
    return tmp_path / "rainy", tmp_path / "clean"


def test_evaluate_measures_them_for_the_result_the_input_and_the_filter(pyiqa, tmp_path):
    figures = evaluate(Darker(), *folders(tmp_path), metrics=("lpips", "dists"), device="cpu")
    assert pyiqa.made == [("lpips", "cpu", False), ("dists", "cpu", False)]
    assert figures["input_lpips"] == pytest.approx(0.5, abs=4e-3)
    for prefix in ("", "input_", "filter_"):
        assert figures[f"{prefix}dists"] == pytest.approx(2 * figures[f"{prefix}lpips"])
    assert figures["lpips"] < figures["input_lpips"]
    assert figures["lpips"] == pytest.approx(sum(image["lpips"] for image in figures["images"]) / 2)


def test_images_are_rounded_to_8_bits_as_for_the_other_figures(pyiqa):
    distance, image = Distance("lpips"), torch.full((2, 3, 8, 8), 128 / 255)
    assert distance.between(image, image + 1e-4) == 0
    assert distance.between(image, image + 2 / 255) == pytest.approx(2 / 255, rel=1e-3)


def test_none_is_made_unless_asked_for(pyiqa, tmp_path):
    assert not [name for name in evaluate(Darker(), *folders(tmp_path)) if "lpips" in name or "dists" in name]
    assert pyiqa.made == []


def test_the_command_prints_and_writes_them(pyiqa, tmp_path, capsys):
    from rgsud_fast.networks import NAFNet
    from rgsud_fast.networks.weights import save_network

    save_network(tmp_path / "run/derainer.safetensors", NAFNet(4, [1], 1, [1]), "derainer")
    rainy, clean = folders(tmp_path)
    args = ["evaluate", str(tmp_path / "run"), "--rainy", str(rainy), "--clean", str(clean), "--device", "cpu"]
    assert cli.main([*args, "--metrics", "lpips", "dists", "--json", str(tmp_path / "f.json")]) == 0
    head, *lines, note = capsys.readouterr().out.splitlines()[-5:]
    assert head.split()[-2:] == ["LPIPS", "DISTS"]
    assert note == "LPIPS, DISTS: lower is better"
    written = json.loads((tmp_path / "f.json").read_text())
    assert lines[0].split()[-2:] == [f"{written['input_lpips']:.4f}", f"{written['input_dists']:.4f}"]
    assert cli.main([*args, "--metrics", "fid"]) == 2
    assert "--metrics must be lpips or dists, got 'fid'" in capsys.readouterr().err


def test_mistakes_are_told(pyiqa, monkeypatch):
    with pytest.raises(UserError, match="metrics: must be lpips or dists, got 'fid'"):
        Distance("fid")

    def failing(*args, **options):
        def compare(x, y):
            raise RuntimeError("kernel size\ncannot be greater")

        return compare

    pyiqa.create_metric = failing
    with pytest.raises(UserError, match=r"lpips cannot compare images of \[1, 3, 8, 8\]: kernel size cannot"):
        Distance("lpips").between(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))

    def offline(*args, **options):
        raise OSError("no route to host")

    pyiqa.create_metric = offline
    with pytest.raises(UserError, match=r"metric lpips could not be made.*no route to host.*copy pyiqa's cache folder"):
        Distance("lpips")
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(UserError, match=r"pyiqa does not import .*pip install -e '\.\[iqa\]'"):
        Distance("lpips")
