"""The pages agree with the code: fields, commands, files and links that they name exist."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest
import yaml

from rgsud_fast.cli import COMMANDS
from rgsud_fast.config.schema import json_schema

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


def section_fields() -> dict[str, set[str]]:
    """The names of the fields of every section of the configuration."""
    schema = json_schema()
    sections = {name: field["$ref"] for name, field in schema["properties"].items() if "$ref" in field}
    return {name: set(schema["$defs"][ref.rpartition("/")[2]]["properties"]) for name, ref in sections.items()}


def test_the_page_of_fields_is_what_make_writes():
    made = runpy.run_path(str(ROOT / "docs" / "make.py"))
    assert made["PAGE"].read_text(encoding="utf-8") == made["page"](), "stale: run python docs/make.py"


def test_the_page_of_fields_has_every_field():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for section, fields in section_fields().items():
        for field in fields:  # a row, or a section of its own
            assert f"| `{section}.{field}` |" in page or f"## `{section}.{field}`\n" in page, field


@each_page
def test_links_lead_to_files(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) + re.findall(r'(?:src|srcset)="([^":]+)"', text):
        assert (page.parent / target).exists(), target


@each_page
def test_fields_that_are_named_exist(page):
    text, sections = page.read_text(encoding="utf-8"), section_fields()
    for section, field in re.findall(rf"(?:--|`)({'|'.join(sections)})\.(?:no-)?([a-z][a-z0-9_-]+)", text):
        assert field.replace("-", "_") in sections[section] or field in ("py", "md"), f"{section}.{field}"


@each_page
def test_commands_that_are_named_exist(page):
    named = re.findall(r"(?:`|^)(?:rgsud-fast|python -m rgsud_fast|-m rgsud_fast) ([a-z-]+)", page.read_text(), re.M)
    assert set(named) <= {*COMMANDS}


def test_the_list_of_every_command_has_every_command():
    page = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8").partition("## Every command")[2].split("```")[1]
    assert set(re.findall(r"-m rgsud_fast ([a-z-]+)|^rgsud-fast ([a-z-]+)", page, re.M)) >= {("", c) for c in COMMANDS}


@each_page
def test_files_of_the_repository_that_are_named_exist(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:rgsud_fast|csrc|kernels|tests|bench|docs|examples)/[\w./-]+)`", text):
        assert (ROOT / name).exists() or "OP" in name, name


def test_figures_of_the_readme_stand_in_the_measurements():
    figures = re.findall(r"(?<![\d.])\d+\.\d\d(?!\d)", (ROOT / "README.md").read_text(encoding="utf-8"))
    measured = (ROOT / "docs" / "measurements.md").read_text(encoding="utf-8")
    assert figures and not [figure for figure in figures if figure not in measured]


def test_the_index_has_every_page():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert all(f"]({page.name})" in index for page in (ROOT / "docs").glob("*.md") if page.name != "README.md")


def test_pictures_are_light():
    assert all(picture.stat().st_size < 300_000 for picture in (ROOT / "docs" / "img").iterdir())


def test_package_indices_are_told_what_this_is():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert project["authors"] == citation["authors"]
    assert {*citation["keywords"]} <= {*project["keywords"]}
    assert all((ROOT / name).is_file() for name in [project["readme"], *project["license-files"]])
    oldest = project["requires-python"].removeprefix(">=")
    assert {"Typing :: Typed", f"Programming Language :: Python :: {oldest}"} <= {*project["classifiers"]}
    assert not any(name.startswith("License ::") for name in project["classifiers"]), "the expression says it"
    assert (ROOT / "rgsud_fast" / "py.typed").is_file() and "py.typed" in (ROOT / "setup.py").read_text()


def test_the_citation_is_of_this_version_under_this_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["authors"] and all(reference["authors"] for reference in citation["references"])
