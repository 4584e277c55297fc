"""Labelled pairs whose names tell no type of rain get one from a network, the same in a resumed run."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny import labelled

from rgsud_fast.config import load_config
from rgsud_fast.data import load_domains, write_image
from rgsud_fast.distillation.index_files import NETWORK
from rgsud_fast.distillation.type_network import TypeNetwork, save_type_network
from rgsud_fast.errors import UserError
from rgsud_fast.system.progress import Progress
from rgsud_fast.training import pair_types, train
from rgsud_fast.training.pair_types import find_types

CPU = torch.device("cpu")


@pytest.fixture
def nameless(tmp_path):
    """Bright and dark pairs in folders that tell no type."""
    rng = np.random.default_rng(0)
    for i in range(8):
        clean = rng.integers(*((90, 200) if i % 2 else (0, 50)), (60, 64, 3)).astype(np.uint8)
        rainy = clean + np.uint8(5)
        write_image(tmp_path / "set" / "input" / f"{i}.png", rainy)
        write_image(tmp_path / "set" / "target" / f"{i}.png", clean)
    return tmp_path / "set"


@pytest.fixture
def by_brightness(monkeypatch):
    """A network that takes what is dark for drops by night, the rest for streaks by day; a list of its calls."""
    asked = []

    def probabilities(image, network, device):
        asked.append(image)
        dark = np.median(image) < 60
        return np.array([0.1, 0.0, 0.1, 0.8] if dark else [0.8, 0.0, 0.1, 0.1])

    monkeypatch.setattr(pair_types, "type_probabilities", probabilities)
    monkeypatch.setattr(pair_types, "FIT_ITERATIONS", 2)
    return asked


def kinds_of(data, tmp_path):
    said = []
    data = load_config({"preset": "unirain-small", "data": data}).data
    tell = find_types(data, tmp_path / "cache", 0, CPU, Progress(1, quiet=True))
    domains = load_domains(data, tmp_path / "cache", said.append, labelled=True, tell_types=tell)
    return {name: domains.pairs.kind_of(i) for i, name in enumerate(domains.pairs.rainy.names)}, said


def test_pairs_without_a_name_of_a_type_get_one_once(nameless, by_brightness, tmp_path, monkeypatch):
    kinds, said = kinds_of({"pairs": nameless, "pairs_type": "auto"}, tmp_path)
    assert list(kinds.values()) == ["nrd", "drs"] * 4 and len(by_brightness) == 8
    assert any("a network says: 4 drs, 0 drd, 0 nrs, 4 nrd, 0 unknown" in line for line in said)
    monkeypatch.setattr(pair_types, "fit_type_network", None)  # what was fitted is kept
    assert kinds_of({"pairs": nameless, "pairs_type": "auto"}, tmp_path)[0] == kinds and len(by_brightness) == 8
    (answers,) = (tmp_path / "cache").glob("types-*.json")
    answers.write_text("{")
    assert kinds_of({"pairs": nameless, "pairs_type": "auto"}, tmp_path)[0] == kinds and len(by_brightness) == 16


def test_names_come_before_the_network(nameless, by_brightness, tmp_path):
    named = nameless.with_name("two") / "drd"
    named.parent.mkdir()
    nameless.rename(named)
    kinds, _ = kinds_of({"pairs": named.parent, "pairs_type": "auto"}, tmp_path)
    assert set(kinds.values()) == {"drd"} and not by_brightness


def test_what_the_network_is_not_sure_of_stays_unknown(nameless, by_brightness, tmp_path, monkeypatch):
    monkeypatch.setattr(pair_types, "type_probabilities", lambda *args: np.array([0.55, 0.45, 0, 0]))
    kinds, said = kinds_of({"pairs": nameless, "pairs_type": "auto"}, tmp_path)
    assert set(kinds.values()) == {None} and any("8 unknown, with weight 1" in line for line in said)


def test_an_index_lends_its_network_and_is_checked_first(nameless, by_brightness, tmp_path, monkeypatch):
    monkeypatch.setattr(pair_types, "fit_type_network", None)  # nothing is fitted
    (tmp_path / "index").mkdir()
    save_type_network(TypeNetwork(), tmp_path / "index" / NETWORK)
    fields = {"pairs": nameless, "pairs_type": "auto", "pairs_index": tmp_path / "index"}
    assert list(kinds_of(fields, tmp_path)[0].values()) == ["nrd", "drs"] * 4
    with pytest.raises(UserError, match="no index: make one with rgsud-fast index"):
        kinds_of(fields | {"pairs_index": nameless}, tmp_path)
    with pytest.raises(UserError, match="pairs_index is asked by pairs_type auto alone"):
        load_config({"data": {"pairs": nameless, "pairs_index": tmp_path}})


def test_a_run_weighs_the_types_that_a_network_says(config, nameless, by_brightness):
    run = labelled(config)
    run["data"] = {"pairs": str(nameless), "pairs_type": "auto", "held_out": 0.3}
    result = train(run, quiet=True)
    rows = map(json.loads, (result.run_dir / "metrics.jsonl").read_text().splitlines())
    assert any({"weight_drs", "weight_nrd"} <= row.keys() for row in rows)
    assert {"psnr_rgb_drs", "psnr_rgb_nrd"} <= result.metrics.keys()
