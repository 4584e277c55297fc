"""The page on toolboxes, and the bench, agree with the code."""

import runpy
from pathlib import Path

import torch
from pydantic import BaseModel

from rgsud_fast.config.toolbox import ToolboxConfig, ToolConfig
from rgsud_fast.runs.html import Panel, Row

ROOT = Path(__file__).resolve().parents[2]


def fields(model, prefix=""):
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, f"{prefix}{name}.")
        elif name != "tools":
            yield f"| `{prefix}{name}` | {field.description} |"


def test_the_page_has_every_field():
    page = (ROOT / "docs" / "toolbox.md").read_text(encoding="utf-8")
    assert not [line for line in (*fields(ToolboxConfig), *fields(ToolConfig, "tools[].")) if line not in page]


def test_the_rival_is_as_large_as_the_toolbox():
    bench = runpy.run_path(str(ROOT / "bench" / "toolbox.py"))
    sizes = {name: sum(p.numel() for p in bench["Rival"](*size).parameters()) for name, size in bench["SIZES"].items()}
    assert sizes == {"small": 130_998, "paper": 448_195}


def test_the_picture_of_chains_has_a_row_for_each():
    image, chains = torch.rand(3, 48, 48), runpy.run_path(str(ROOT / "docs" / "chains.py"))
    panels = [
        Panel("input", image, "20 dB"),
        Panel("noise", image, "22 dB"),
        Panel("stop", image),
        Panel("truth", image),
    ]
    page = chains["picture"]([Row("a", panels), Row("b", panels)])
    assert page.size == (5 * 200 - 8, 2 * 230 - 8)
    shown = [page.getpixel((x * 200 + 96, 96)) != (255, 255, 255) for x in range(5)]
    assert shown == [True, True, False, False, True]


def test_bars_and_table_of_the_bench():
    bench = runpy.run_path(str(ROOT / "bench" / "toolbox.py"))
    rungs = {"nothing": 0.0, "random": -1.0, "single": 1.0, "fixed": 1.5, "agent": 2.0, "greedy": 2.2}
    rungs |= {
        "agent_searched": 2.0,
        "searched": 2.3,
        "agent_joint": 2.3,
        "greedy_joint": 2.6,
        "stops": 0.3,
        "rival": 3.0,
    }
    found = dict.fromkeys(("mild", "moderate", "severe"), rungs)
    assert all(line.startswith("cleared") for line in bench["bars"](found))
    worse = {severity: rungs | {"agent": 1.4, "stops": 0.9} for severity in found}
    assert sum(line.startswith("MISSED") for line in bench["bars"](worse)) == 3
    assert "| one network of the same size | +3.00 | +3.00 | +3.00 | +3.00 |" in bench["table"](found)
