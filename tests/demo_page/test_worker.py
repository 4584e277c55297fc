"""Uploads to the demo page: a wrong file is refused in words before it is decoded, a right one is derained."""

from __future__ import annotations

import struct
import threading
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from rgsud_fast import derain
from rgsud_fast.config.tiling import OVERLAP, TILE
from rgsud_fast.data import read_image
from rgsud_fast.demo_page.uploads import MOST_BYTES, MOST_PIXELS, Refused, read_photo, result_name
from rgsud_fast.demo_page.worker import KEPT, LAYER, Stopped, Worker, load_own_scorer
from rgsud_fast.iqa import CallableScorer, DomainScorer, save_scorer
from rgsud_fast.iqa.domain import RainNet
from rgsud_fast.iqa.metrics import fixed_filter
from rgsud_fast.networks import NAFNet


def png_header(width: int, height: int) -> bytes:
    """A PNG file whose header promises a size that no data follows for."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")


WRONG = {
    "text.png": (b"hello", "no image that can be read here"),
    "nothing.png": (b"", "empty"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no image that can be read here"),
    "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\nshowpage\n", "no image that can be read"),
    "bomb.png": (png_header(60_000, 60_000), "far too many pixels"),
    "large.png": (png_header(8000, 5001), "8,000 x 5,001 pixels; at most 40 megapixels"),
    "torn.png": (png_header(64, 64), "damaged"),
    "small.png": (png_header(1, 1), "1 x 1 pixels; at least 32"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused_in_words_without_a_path(tmp_path, name):
    content, words = WRONG[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refused, match=words) as refused:
        read_photo(tmp_path / name)
    assert str(tmp_path) not in str(refused.value)


def test_only_the_named_formats_are_read_whatever_the_file_is_called(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP"):
        image.save(tmp_path / "image.png", kind)
        assert read_photo(tmp_path / "image.png").shape == (40, 50, 3)
    for kind in ("GIF", "PPM", "TGA", "ICO", "PCX", "PDF", "EPS"):
        image.save(tmp_path / "image.png", kind)
        with pytest.raises(Refused, match=r"Choose a PNG, JPEG, BMP, TIFF(,| or) WEBP"):
            read_photo(tmp_path / "image.png")


def test_nothing_is_decoded_before_the_size_was_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    for content in (png_header(60_000, 60_000), png_header(MOST_PIXELS // 100, 101)):
        (tmp_path / "image.png").write_bytes(content)
        with pytest.raises(Refused, match="megapixels"):
            read_photo(tmp_path / "image.png")
    with (tmp_path / "image.png").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(Refused, match="64 MiB"):
        read_photo(tmp_path / "image.png")


@pytest.mark.parametrize(
    "upload, name",
    [
        ("rain.jpg", "rain-derained.png"),
        ("../../etc/passwd", "passwd-derained.png"),
        ("..", "photograph-derained.png"),
        ('a b"<c>.png', "a_b_c-derained.png"),
        ("x" * 300 + ".png", "x" * 80 + "-derained.png"),
    ],
)
def test_a_result_is_named_after_the_upload_with_harmless_letters(upload, name):
    assert result_name(upload) == name


@pytest.fixture
def network():
    torch.manual_seed(0)
    return NAFNet(4, [1], 1, [1]).eval()


def photo(path, height=90, width=70):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize("tile", [TILE, OVERLAP + 1])
def test_the_result_has_the_bytes_that_derain_writes(tmp_path, network, tile):
    upload = photo(tmp_path / "rain.png")
    developed = Worker(network, None, "cpu", tmp_path, tile).develop(upload)
    (expected,) = derain(network, upload, tmp_path / "out", tile=tile)
    assert developed.result.read_bytes() == expected.read_bytes()
    assert developed.size == (70, 90)
    assert "score" not in developed.figures


def test_the_tiles_of_a_photograph_are_counted(tmp_path, network):
    seen = []
    upload = photo(tmp_path / "rain.png", 150, 200)
    Worker(network, None, "cpu", tmp_path, OVERLAP + 32).develop(upload, lambda *at: seen.append(at))
    totals = {total for _, total in seen}
    assert len(totals) == 1 and totals.pop() == seen[-1][0] > 4
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_figures_are_means_over_pieces_and_the_filter_is_the_fixed_one(tmp_path, network, monkeypatch):
    monkeypatch.setattr("rgsud_fast.demo_page.worker.TILE", 50)
    monkeypatch.setattr("rgsud_fast.demo_page.worker.STRIP", 7)
    upload = photo(tmp_path / "rain.png", 100, 150)
    scorer = CallableScorer(lambda images: images.mean((1, 2, 3)))
    developed = Worker(network, scorer, "cpu", tmp_path).develop(upload)
    rainy = torch.from_numpy(read_image(upload)).permute(2, 0, 1)[None] / 255
    filtered = (fixed_filter(rainy) * 255).round() / 255
    assert list(developed.figures) == ["score", *LAYER]
    assert developed.figures["score"][:2] == pytest.approx([rainy.mean().item(), filtered.mean().item()], abs=1e-6)
    removed = developed.figures["light removed"]
    assert removed[0] is None
    assert removed[1] == pytest.approx(100 * (rainy - filtered).mean().item(), abs=1e-4)
    assert developed.figures["light added"][1] == 0


def test_a_score_that_is_not_finite_is_no_figure(tmp_path, network):
    scorer = CallableScorer(lambda images: torch.full((len(images),), torch.nan))
    assert Worker(network, scorer, "cpu", tmp_path).develop(photo(tmp_path / "a.png")).figures["score"] == [None] * 3


def test_only_the_last_results_stay_on_disk(tmp_path, network):
    room = Worker(network, None, "cpu", tmp_path)
    results = [room.develop(photo(tmp_path / "rain.png", 40, 40)).result for _ in range(KEPT + 2)]
    assert [result.exists() for result in results] == [False] * 2 + [True] * KEPT


def test_closing_gives_up_the_photograph_in_work_and_takes_no_other(tmp_path):
    class Endless(nn.Module):
        def __init__(self):
            super().__init__()
            self.step = nn.Conv2d(3, 3, 1)

        def forward(self, images):
            started.set()
            while True:
                images = self.step(images)

    started, ended = threading.Event(), []
    room = Worker(Endless(), None, "cpu", tmp_path)
    upload = photo(tmp_path / "rain.png")

    def work():
        with pytest.raises(Stopped):
            room.develop(upload)
        ended.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(20)
    room.close()
    thread.join(20)
    assert ended
    with pytest.raises(Stopped):
        room.develop(upload)


def test_a_score_is_shown_only_where_it_needs_no_network(tmp_path):
    assert load_own_scorer(tmp_path, "cpu") == (None, "there is no scorer.safetensors beside the weights")
    save_scorer(DomainScorer(RainNet()), tmp_path / "scorer.safetensors")
    scorer, name = load_own_scorer(tmp_path, "cpu")
    assert (scorer.name, name) == ("domain", "domain")
    for named in ("pyiqa:musiq", "ensemble:[domain,pyiqa:musiq]"):
        save_scorer(DomainScorer(RainNet()), tmp_path / "scorer.safetensors", named)
        assert load_own_scorer(tmp_path, "cpu") == (None, f"{named} may fetch weights, and this page uses no network")
    (tmp_path / "scorer.safetensors").write_bytes(b"\x80\x02}q\x00.")
    assert load_own_scorer(tmp_path, "cpu") == (None, "the run's scorer.safetensors cannot be read")
