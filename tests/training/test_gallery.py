"""Galleries: one file that fetches nothing, shows what it is given, and survives odd names and numbers."""

from __future__ import annotations

import base64
import errno
import io
import re
import types
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import PASTED, darkness

from rgsud_fast.config import load_config, merge
from rgsud_fast.config.load import flatten_fields
from rgsud_fast.config.unread import reads
from rgsud_fast.data import Domains, Pair
from rgsud_fast.iqa import CallableScorer
from rgsud_fast.methods import rgsud
from rgsud_fast.methods.build import METHODS
from rgsud_fast.methods.method import Painter
from rgsud_fast.networks import NAFNet, RainGenerator, UNet
from rgsud_fast.rewards.pool import RewardPool
from rgsud_fast.runs.folder import RunFolder
from rgsud_fast.runs.html import Comparison, Panel, Row, comparisons, curves, facts, figures, rows, write_gallery
from rgsud_fast.runs.html.curves import MOST_POINTS, collect
from rgsud_fast.runs.html.page import data_uri
from rgsud_fast.system.distributed import Ranks
from rgsud_fast.training import gallery as gallery_run
from rgsud_fast.training import monitor as monitoring
from rgsud_fast.training import train
from rgsud_fast.training.gallery_advice import training_text

VOID = {"meta", "img", "input", "br", "link", "line", "circle", "polyline"}


class Checker(HTMLParser):
    """Collects the text and attributes of a page, and whether its elements are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.attributes, self.text = [], [], ""

    def handle_starttag(self, tag, attributes):
        self.attributes += [(tag, *attribute) for attribute in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data


def checked(path) -> Checker:
    """The page, after a look that it is well-formed and asks for nothing beyond itself."""
    html = path.read_text(encoding="utf-8")
    page = Checker()
    page.feed(html)
    assert not page.open
    for tag, name, value in page.attributes:
        if name in ("src", "href"):
            assert value.startswith("data:image/jpeg;base64,"), (tag, value[:40])
    assert not re.search(r"https?://|@import|url\(", html)
    return page


def image(height=40, width=60):
    return torch.rand(3, height, width)


def test_a_page_of_every_section_is_well_formed_and_self_contained(tmp_path):
    log = [{"step": s, "event": "train", "pair_psnr": -s / 10, "other_loss": float("nan")} for s in range(1, 9)]
    write_gallery(
        tmp_path / "g.html",
        "A title",
        figures("Figures", {"input": {"PSNR-RGB": 25.471, "SSIM-RGB": 0.82}}, {"gain": ("3.1 dB", "-0.2 dB")}),
        comparisons("Pairs", [Comparison("one", image(), image(), {"niqe": (-4.0, -3.5), "domain": 1.25})]),
        rows("Rows", [Row("two", [Panel("rainy", image()), Panel("reward", None, "none yet")])]),
        curves("Curves", log, [4], {"pair_psnr": ("input", -0.3)}),
        facts("Facts", {"device": "cpu", "sizes": (1, 2), "switch": True, "out": None}),
        subtitle="below",
    )
    page = checked(tmp_path / "g.html")
    for text in ("A title", "below", "25.47 dB", "0.8200", "-4.00 → -3.50", "+0.50", "domain 1.25", "none yet", "yes"):
        assert text in page.text, text
    assert sum(attribute[:2] == ("img", "src") and attribute[2] is not None for attribute in page.attributes) == 3
    assert "nan" not in page.text


def test_names_cannot_break_the_page(tmp_path):
    bad = '<img src=x onerror="alert(1)">&\'{0}'
    write_gallery(
        tmp_path / "g.html",
        bad,
        comparisons(bad, [Comparison(bad, image(), image(), {bad: 1.0})], bad),
        rows(bad, [Row(bad, [Panel(bad, image(), bad)])]),
        facts(bad, {bad: bad}),
    )
    page = checked(tmp_path / "g.html")
    assert not [attribute for attribute in page.attributes if attribute[1] == "onerror"]
    assert page.text.count(bad) >= 8


def test_embedded_images_are_what_was_given():
    smooth = torch.linspace(0, 1, 60).expand(3, 40, 60)
    uri, width, height = data_uri(smooth)
    decoded = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    assert decoded.size == (width, height) == (60, 40)
    assert np.abs(np.asarray(decoded).astype(float) - smooth.permute(1, 2, 0).numpy() * 255).max() < 4
    assert data_uri(np.zeros((100, 300, 3), np.uint8), longest=150)[1:] == (150, 50)


def test_an_image_of_noise_can_be_embedded():
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    assert data_uri(noise)[1:] == (300, 300)


def test_comparisons_can_be_sorted_and_a_missing_score_comes_last(tmp_path):
    items = [
        Comparison("a", image(), image(), {"niqe": (-4.0, -3.0)}),
        Comparison("b", image(), image(), {"niqe": (-4.0, float("nan"))}),
    ]
    html = comparisons("Pairs", items)
    assert 'data-s0="1"' in html
    assert 'data-s0="-1e+09"' in html
    assert "niqe: worst first" in html


def test_gradient_norms_are_a_group_of_their_own():
    (series,) = collect([{"step": 1, "gradient_channel_consistency_unet": 0.5}])
    assert (series.group, series.label) == ("Gradient norms", "channel consistency, unet")


def test_curves_take_numbers_and_leave_the_rest():
    log = [
        {"step": 1, "stage": 1, "event": "train", "adversarial": 0.5, "note": "text", "flag": True},
        {"step": 2, "adversarial": float("inf"), "fresh": 1e-7},
        {"adversarial": 3.0},
    ]
    series = {one.key: one for one in collect(log)}
    assert set(series) == {"adversarial", "fresh"}
    assert series["adversarial"].points == [(1, 0.5)]
    assert "1.0e-07" in curves("Curves", log)
    assert curves("Curves", []) == ""


def test_long_logs_are_thinned():
    html = curves("Curves", [{"step": s, "adversarial": float(s)} for s in range(5000)])
    (points,) = re.findall(r'points="([^"]*)"', html)
    assert 100 < len(points.split()) <= MOST_POINTS


@pytest.mark.parametrize("validated", [True, False], ids=["with pairs", "without pairs"])
def test_a_run_is_shown_with_rewards_scores_and_curves(tmp_path, validated, monkeypatch):
    class Images(list):
        names = ("first.png", "second.png", "third.png")
        sizes = ((40, 60), (36, 33), (40, 40))

    def images():
        return Images(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8) for size in Images.sizes)

    rainy, clean = images(), images()
    pool = RewardPool(rainy.sizes)
    pool.update([0], image()[None], torch.tensor([1.234]))
    torch.manual_seed(0)
    trainer = types.SimpleNamespace(
        config=load_config({"preset": "small-gan", "out": "x"}),
        step=4000,
        device=torch.device("cpu"),
        switched=validated,
        scorer=CallableScorer(lambda images: images.mean(dim=(1, 2, 3))),
        outcomes={0: 0, 1: 3, 2: 1},
        derainer=NAFNet(4, [1], 1, [1]).train(),
        nets=types.SimpleNamespace(unet=UNet(4, 2), generator=RainGenerator(4, 1)),
        pool=pool,
        ranks=Ranks(torch.device("cpu")),
        method=rgsud,
        recycles=True,
        domains=Domains(rainy, clean, [Pair("pair.png", rainy[0], clean[0])] if validated else None),
    )
    folder = RunFolder(tmp_path / "small-7")
    folder.path.mkdir()
    folder.append_log({"step": 100, "event": "train", "adversarial": 1.5})
    for step in (1, 2):
        folder.append_log({"step": step, "event": "sweep", "reasons": {"entered": 2, "blank": 1}})
    metrics = {"rewards": 1}
    if validated:
        for prefix, value in (("", 29.0), ("input_", 25.0), ("filter_", 28.0), ("stage1_", 28.5)):
            figures = {"psnr_rgb": value, "ssim_rgb": 0.9, "psnr_y": value + 1, "ssim_y": 0.91}
            metrics |= {prefix + key: figure for key, figure in figures.items()}

    estimates = []
    paint = gallery_run._paint
    monkeypatch.setattr(gallery_run, "_paint", lambda *args: estimates.append(args[3]) or paint(*args))
    gallery_run.write_run_gallery(trainer, folder, metrics)

    # Painted from the reward where there is one and stage 2 takes it, else from the U-Net.
    taken = [isinstance(estimate, torch.Tensor) for estimate in estimates]
    assert taken == [validated, False, False]
    page = checked(folder.gallery)
    for text in (
        "RGSUD run small-7",
        "score 1.234",
        "none passed the guards",
        "pseudo rainy",
        "third.png",
        "ema_decay",
        "first.pnglast sweep: entered",
        "second.pnglast sweep: refused: blank",
        "third.pnglast sweep: no better",
        "In all sweeps: 4 entered, 2 blank",
    ):
        assert text in page.text, text
    assert ("+4.00 dB" in page.text) == ("pair.png" in page.text) == validated
    assert ("No validation pairs" in page.text) != validated
    assert trainer.derainer.training


def test_an_image_of_noise_becomes_a_picture():
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    uri, width, height = data_uri(noise)
    assert uri.startswith("data:image/jpeg") and (width, height) == (400, 400)


def pages_of(config, monkeypatch, share: float) -> tuple[list[str], str]:
    """The galleries that a run writes before its end, and the last one."""
    pages = []
    write = gallery_run.write_gallery_so_far

    def kept(trainer, folder):
        write(trainer, folder)
        pages.append(folder.gallery.read_text(encoding="utf-8"))

    monkeypatch.setattr(monitoring, "write_gallery_so_far", kept)
    monkeypatch.setattr(monitoring, "SHOWING", share)
    result = train(config, scorer=darkness, quiet=True)
    return pages, (result.run_dir / "gallery.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("rain", PASTED)
def test_a_run_shows_itself_while_it_goes_on(config, monkeypatch, rain):
    pages, last = pages_of(merge(config, PASTED[rain]), monkeypatch, share=1e9)
    assert len(pages) >= 5  # of first rewards, sweeps and validations
    assert all('<progress id="progress"' in page for page in pages)
    learned = [": 0 of 10" not in page for page in pages]
    assert [">derained<" in page and ">pseudo rainy<" in page for page in pages] == learned
    assert [step for page in pages for step in re.findall(r": (\d+) of 10 iterations", page)][
        -1
    ] == "9"  # the last validation
    assert '<progress id="progress"' not in last


def test_showing_takes_a_small_share_of_a_run_and_can_be_switched_off(config, monkeypatch):
    assert len(pages_of(config, monkeypatch, share=1e-9)[0]) == 1
    off = config | {"live_gallery": False, "out": config["out"] + "-off"}
    assert len(pages_of(off, monkeypatch, share=1e9)[0]) == 0


def test_a_gallery_that_cannot_be_written_yet_stops_nothing(config, monkeypatch, capsys):
    def full(trainer, folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(monitoring, "write_gallery_so_far", full)
    result = train(config, scorer=darkness)
    assert (result.run_dir / "gallery.html").exists()
    assert capsys.readouterr().out.count("no pictures before the end") == 1


@pytest.mark.parametrize("name", METHODS)
def test_advice_names_fields_that_the_method_reads(name):
    method, config = METHODS[name], load_config({"preset": "paper", "method": name})
    text = training_text(method, config)
    fields = flatten_fields(config.model_dump(mode="json"))
    named = re.findall(r"\b[a-z]+\.[a-z_]+\b", text)
    assert all(field in fields and reads(name, field) for field in named), named
    assert ("painted" in text) == isinstance(method, Painter)
    assert (len(named) > 0) == (name in ("rgsud", "csud", "cyclegan", "dcdgan", "deraincyclegan"))


def test_advice_of_pasted_rain_names_no_field_of_a_generator():
    text = training_text(rgsud, load_config({"preset": "small"}))
    assert "Streaks that are missing there stay" in text and "loss." not in text
