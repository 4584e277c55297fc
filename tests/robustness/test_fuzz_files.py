"""Configurations, score models and weights from anywhere that are damaged, or made to do damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from fuzzing import damaged, refuses, try_cases
from hypothesis import strategies as st

from rgsud_fast.cli.arguments import read_train
from rgsud_fast.config import PRESETS, Config, load_config
from rgsud_fast.iqa import NiqeScorer, brisque, load_brisque_model, load_scorer, save_scorer
from rgsud_fast.iqa.niqe import NiqeModel, load_niqe_model
from rgsud_fast.networks import NAFNet
from rgsud_fast.networks.known import DERAINERS
from rgsud_fast.networks.weights import load_network, save_network
from rgsud_fast.runs.checkpoint import FIELDS, load_checkpoint, save_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SCRAPS = (
    *(
        "~",
        ".nan",
        "-.inf",
        "1e400",
        "0x",
        "0o9",
        "1:99:99",
        "2001-99-99",
        "yes",
        "''",
        '"\\0"',
        '"a\\nb"',
        "[",
        "{",
        "]",
        "- -",
    ),
    *("!!python/object/apply:os.system ['true']", "!!python/name:os.system", "!!timestamp x", "!!binary x", "!!int x"),
    *(
        "!!bool x",
        "!!float x",
        "!!set {a}",
        "!!omap [a: 1]",
        "!!pairs [1]",
        "!!null x",
        "? [a]\n: b",
        "<<: 3",
        "<<: [{a: 1}]",
    ),
    *(
        "&a [*a]",
        "*a",
        "&a {b: *a}",
        "[" * 3000,
        "{a: " * 800,
        "9" * 6000,
        "- " * 2000,
        "a" * 5000,
        "../../x",
        "/",
        "$HOME",
    ),
    *(
        "%YAML 9.9",
        "---\n---",
        "...",
        "\t",
        "\ufeff",
        "\u2028",
        "\x85",
        "!<tag:a> b",
        "| \n x",
        ">9\n x",
        "@",
        "`",
        "'",
    ),
)
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary(max_size=4)
)
FIELD_NAMES = sorted(
    {
        *Config.model_fields,
        *(
            name
            for part in ("data", "network", "loss", "optim", "reward")
            for name in Config.model_fields[part].annotation.model_fields
        ),
    }
)
KEYS = st.sampled_from(FIELD_NAMES) | st.sampled_from(FIELD_NAMES) | LEAVES
DOCUMENTS = st.recursive(
    LEAVES | st.sampled_from(list(PRESETS)),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(KEYS, parts, max_size=4),
    max_leaves=12,
)


VALID = yaml.safe_dump(
    {
        **{"preset": "small", "out": "runs/one", "device": "cpu", "batch": 2, "cuda_graph": False},
        "data": {"rainy": "r", "clean": "c", "cache_dir": None},
        "network": {"derainer_width": 8, "derainer_encoder": [1, 1], "derainer_decoder": [1, 1]},
        "optim": {"learning_rate": 0.0002, "ema_decay": 0.9},
        "reward": {"scorer": "ensemble:[domain,niqe]", "pool_device_gib": 0.5, "mirror": True},
    },
    sort_keys=False,
)


@st.composite
def scraped(draw: st.DrawFn, text: str) -> str:
    """The text with a few of its lines, values or letters replaced by what YAML can trip over."""
    lines = text.split("\n")
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        scrap = draw(st.sampled_from(SCRAPS) | st.text(max_size=6))
        head = lines[at].split(":")[0]
        kind = draw(st.sampled_from(("value", "value", "value", "line", "key", "twice", "letter", "gone")))
        if kind == "letter":
            place = draw(st.integers(0, len(lines[at])))
            lines[at] = lines[at][:place] + scrap[:2] + lines[at][place + 1 :]
        elif kind == "twice":
            lines.insert(at, lines[draw(st.integers(0, len(lines) - 1))])
        elif kind == "gone":
            lines[at] = ""
        else:
            lines[at] = {"value": f"{head}: {scrap}", "line": scrap, "key": f"{scrap}: 1"}[kind]
    return "\n".join(lines)


def written(path: Path, document: Any) -> None:
    """The document as YAML; text as it is."""
    text = document if isinstance(document, str) else yaml.safe_dump(document, allow_unicode=True)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


def test_a_configuration_is_read_or_refused(tmp_path):
    path = tmp_path / "config.yaml"

    def check(document: Any) -> None:
        written(path, document)
        config = refuses(load_config, path, "config")
        assert config is None or isinstance(config, Config)

    try_cases(check, 2000, scraped(VALID) | scraped(VALID) | DOCUMENTS)


def test_a_configuration_in_python_is_taken_or_refused():
    def check(document: Any) -> None:
        if not isinstance(document, (str, bytes, type(None))):
            refuses(load_config, document, "config")

    try_cases(check, 1000, DOCUMENTS)


def test_the_command_line_reads_a_configuration_or_refuses_it(tmp_path):
    path = tmp_path / "config.yaml"

    def check(document: Any) -> None:
        written(path, document)
        read = refuses(lambda path: read_train(["--config", str(path), "--device", "cpu"]), path, "")
        assert read is None or isinstance(read[0], Config)

    try_cases(check, 200, scraped(VALID) | DOCUMENTS)


# Scores and weights


def svr(folder: Path, vectors: int = 3) -> tuple[Path, str, str]:
    """A small model in OpenCV's format: the first file, its text and that of its ranges."""
    numbers = np.random.default_rng(0).random((vectors, 36)).round(3)
    rows = "".join(f"      - [ {', '.join(map(str, row))} ]\n" for row in numbers)
    weights = ", ".join(f"{weight}." for weight in range(vectors))
    model = (
        "%YAML:1.0\n---\nopencv_ml_svm:\n   format: 3\n   svmType: EPS_SVR\n   kernel:\n      type: RBF\n"
        f"      gamma: 5.0e-02\n   var_count: 36\n   sv_total: {vectors}\n   support_vectors:\n{rows}"
        f"   decision_functions:\n      -\n         sv_count: {vectors}\n         rho: -5.7e+01\n"
        f"         alpha: [ {weights} ]\n"
    )
    span = ", ".join(["0."] * 36 + ["1."] * 36)
    ranges = f"%YAML:1.0\n---\nrange: !!opencv-matrix\n   rows: 2\n   cols: 36\n   dt: f\n   data: [ {span} ]\n"
    path = folder / "small_model.yml"
    path.write_text(model)
    (folder / "small_range.yml").write_text(ranges)
    return path, model, ranges


def test_the_svr_reader_reads_or_refuses(tmp_path):
    path, model, ranges = svr(tmp_path)
    image = torch.rand(1, 3, 32, 32)
    assert brisque(image, load_brisque_model(path)).shape == (1,)
    whole = {"model": model.encode(), "range": ranges.encode()}
    texts = st.tuples(st.just("model"), scraped(model)) | st.tuples(st.just("range"), scraped(ranges))

    def check(case: tuple[str, bytes | str]) -> None:
        name, content = case
        files = dict(whole)
        files[name] = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        for part, data in files.items():
            (tmp_path / f"small_{part}.yml").write_bytes(data)
        read = refuses(load_brisque_model, path, "BRISQUE model")
        assert read is None or brisque(image, read).shape == (1,)

    try_cases(check, 1500, texts | damaged(whole))


def test_the_svr_reader_reads_or_refuses_the_published_model_damaged(tmp_path, rgsud_data):
    whole = {"model": (rgsud_data / "iqa/brisque_model_live.yml").read_bytes()}
    (tmp_path / "live_range.yml").write_bytes((rgsud_data / "iqa/brisque_range_live.yml").read_bytes())

    def check(case: tuple[str, bytes]) -> None:
        (tmp_path / "live_model.yml").write_bytes(case[1])
        refuses(load_brisque_model, tmp_path / "live_model.yml", "BRISQUE model")

    try_cases(check, 40, damaged(whole))


def test_weights_scorers_and_checkpoints_are_read_or_refused(tmp_path):
    """Files of this package's own, and NIQE's parameters, damaged; headers and pickles are text and opcodes."""
    save_network(tmp_path / "weights.safetensors", NAFNet(2, [1], 1, [1]), "derainer")
    save_scorer(
        NiqeScorer(NiqeModel(torch.zeros(36).double(), torch.eye(36).double())), tmp_path / "scorer.safetensors"
    )
    np.savez(tmp_path / "niqe.npz", mu_pris_param=np.zeros((1, 36)), cov_pris_param=np.eye(36))
    save_checkpoint(
        tmp_path / "checkpoint.pt", {name: kind() for name, kind in FIELDS.items()} | {"tensor": torch.rand(3)}
    )
    readers = {
        "weights.safetensors": load_network,
        "scorer.safetensors": load_scorer,
        "niqe.npz": load_niqe_model,
        "checkpoint.pt": load_checkpoint,
    }
    for name in ("restormer", "drsformer", "nerd_rain"):  # as others publish them
        network = DERAINERS[name](dim=2, blocks=[1, 1], heads=[1, 1])
        torch.save({"params": network.state_dict()}, tmp_path / f"{name}.pth")
        readers[f"{name}.pth"] = load_network
    whole = {name: (tmp_path / name).read_bytes() for name in readers}
    for name, read in readers.items():
        read(tmp_path / name)

    def check(case: tuple[str, bytes]) -> None:
        (tmp_path / case[0]).write_bytes(case[1])
        refuses(readers[case[0]], tmp_path / case[0], case[0])

    try_cases(check, 2000, damaged(whole))
