"""The schema for editors: it is valid itself, takes what the package writes, and refuses what the package refuses."""

from __future__ import annotations

import json

import jsonschema
import pytest
import yaml

from rgsud_fast import cli
from rgsud_fast.config import PRESETS, Config, load_config, save_config
from rgsud_fast.config.schema import json_schema
from rgsud_fast.errors import UserError

Validator = jsonschema.Draft202012Validator


def faults(fields) -> list[str]:
    """Which fields the schema objects to; the package must object too."""
    found = [".".join(map(str, error.absolute_path)) for error in Validator(json_schema()).iter_errors(fields)]
    if found:
        with pytest.raises(UserError):
            load_config(fields)
    return found


def test_the_schema_is_a_valid_one_of_the_draft_it_names():
    schema = json_schema()
    assert jsonschema.validators.validator_for(schema) is Validator
    Validator.check_schema(schema)


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_saved_of_every_preset_is_valid(preset, tmp_path):
    config = load_config({"preset": preset, "out": "runs/x", "data": {"rainy": "a", "clean": "b"}})
    save_config(config, tmp_path / "config.yaml")
    assert faults(yaml.safe_load((tmp_path / "config.yaml").read_text())) == []
    assert faults({"preset": preset, **PRESETS[preset]}) == []


@pytest.mark.parametrize(
    "fields, place",
    [
        ({"batsch": 1}, ""),
        ({"optim": {"ema": 1}}, "optim"),
        ({"batch": 0}, "batch"),
        ({"batch": "many"}, "batch"),
        ({"preset": "huge"}, "preset"),
        ({"device": "tpu"}, "device"),
        ({"loss": {"reward_form": "max"}}, "loss.reward_form"),
        ({"optim": {"ema_decay": 1}}, "optim.ema_decay"),
        ({"network": {"derainer_encoder": 3}}, "network.derainer_encoder"),
    ],
    ids=str,
)
def test_what_the_schema_refuses_the_package_refuses(fields, place):
    assert faults(fields) == [place]


def test_every_field_is_described_and_every_section_closed():
    schema = json_schema()
    sections = [schema, *schema["$defs"].values()]
    assert len(sections) > 1
    for section in sections:
        assert section["additionalProperties"] is False
        for name, field in section["properties"].items():
            assert field.get("description") or "$ref" in field, name


def test_defaults_are_the_papers_where_json_has_them():
    schema, config = json_schema(), Config()
    assert schema["properties"]["batch"]["default"] == config.batch
    assert schema["$defs"]["LossConfig"]["properties"]["reward"]["default"] == config.loss.reward
    assert "default" not in schema["$defs"]["RewardConfig"]["properties"]["implausible"]  # infinite


def test_the_command_prints_it_and_nothing_else(capsys):
    assert cli.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == json_schema()
