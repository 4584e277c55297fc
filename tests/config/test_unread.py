"""A field that the chosen method does not read ends the run where somebody gave it, and nowhere else."""

from __future__ import annotations

from typing import get_args

import pytest
from tiny import darkness, run_of, train_and_interrupt

from rgsud_fast.config import load_config
from rgsud_fast.config.load import flatten_fields
from rgsud_fast.config.parts import MethodName
from rgsud_fast.config.presets import PRESETS
from rgsud_fast.config.unread import reads, refuse_unread
from rgsud_fast.errors import UserError
from rgsud_fast.training import train

HOST_FIELDS = {"network.unet_width": 8, "loss.pair": 2.0, "loss.pasted": 1.0, "network.checkpoint": "block"}


@pytest.mark.parametrize(
    "method, preset",
    [
        (method, preset)
        for method in get_args(MethodName)
        for preset, fields in PRESETS.items()
        if fields.get("method", method) == method  # some are of one method alone
    ],
)
def test_what_a_preset_holds_is_not_refused_nor_is_what_its_run_writes(preset, method):
    if PRESETS[preset].get("method", method) != method:
        pytest.skip("a preset of another method")
    config = load_config({"preset": preset, "method": method})
    refuse_unread(config)
    refuse_unread(load_config(config.model_dump(mode="json")))


@pytest.mark.parametrize("field, value", HOST_FIELDS.items())
@pytest.mark.parametrize("method", ["cyclegan", "cut"])
def test_fields_of_rgsud_are_not_given_to_other_methods(method, field, value):
    section, name = field.split(".")
    config = load_config({"preset": "small", "method": method, section: {name: value}})
    with pytest.raises(
        UserError, match=rf"^{field}: method {method} does not read what was given there; leave it out$"
    ):
        refuse_unread(config)


@pytest.mark.parametrize(
    "fields",
    [{"loss": {"labelled_floor": 2.0}}, {"data": {"pairs_type": "auto"}}, {"reweight": {"form": "off"}}],
    ids=["labelled_floor", "pairs_type", "reweight"],
)
def test_what_only_labelled_pairs_need_is_not_given_without_them(fields):
    config = load_config({"preset": "small", **fields})
    with pytest.raises(UserError, match=r"^[a-z_.]+: only labelled pairs need it; give --data\.pairs DIR"):
        refuse_unread(config)
    pairs = {"data": {**fields.get("data", {}), "pairs": ["pairs"]}}
    refuse_unread(load_config({"preset": "small", **fields, **pairs}))


def test_a_method_that_takes_no_pairs_reads_nothing_of_them():
    with pytest.raises(UserError, match=r"^data\.held_out, data\.balance: method csud does not read"):
        refuse_unread(load_config({"method": "csud", "data": {"held_out": 0.2, "balance": "equal"}}))


def test_sections_of_other_methods_are_not_given():
    with pytest.raises(UserError, match=r"^cyclegan\.width, cyclegan\.cycle: method rgsud does not read"):
        refuse_unread(load_config({"cyclegan": {"width": 8, "cycle": 1.0}}))
    with pytest.raises(UserError, match=r"^cut\.width: method cyclegan"):
        refuse_unread(load_config({"method": "cyclegan", "cut": {"width": 8}, "cyclegan": {"width": 8}}))


def test_a_field_that_was_asked_for_is_refused_with_the_presets_value_too():
    config = load_config({"preset": "small", "method": "cut"})
    refuse_unread(config, {"batch", "cut.width", "preset", "config"})
    for name in ("reward.switch", "network.unet_width", "network.moe.encoder", "cyclegan.cycle"):
        field = ".".join(name.split(".")[:2])
        with pytest.raises(UserError, match=rf"^{field}: method cut does not read what was given there"):
            refuse_unread(config, {name})


def test_sizes_of_another_derainer_are_not_given():
    dim = {"dim": 12}
    message = r"^network\.restormer: derainer nafnet does not read .*, or give network\.derainer restormer$"
    with pytest.raises(UserError, match=message):
        refuse_unread(load_config({"preset": "small", "network": {"restormer": dim}}))
    with pytest.raises(UserError, match=r"^network\.moe: derainer restormer does not read"):
        refuse_unread(load_config({"network": {"derainer": "restormer", "moe": {"decoder": "soft"}}}))
    refuse_unread(load_config({"preset": "small", "network": {"derainer": "restormer", "restormer": dim}}))


def test_sizes_of_nafnet_are_refused_to_others_where_a_flag_names_them():
    network = {"derainer": "restormer", "derainer_width": 8}
    config = load_config({"preset": "small", "network": network})
    message = r"^network\.derainer_width: derainer restormer .*, or give network\.derainer nafnet$"
    with pytest.raises(UserError, match=message):
        refuse_unread(config, {"network.derainer", "network.derainer_width"})
    refuse_unread(config, {"network.derainer", "network.derainer_start"})
    refuse_unread(load_config({"network": network | {"derainer": "moe"}}), {"network.derainer_width"})


def test_a_switch_is_not_given_where_a_reward_is_a_target_alone():
    for method in ("cut", "unirain"):
        with pytest.raises(UserError, match=rf"^reward\.switch: method {method}"):
            refuse_unread(load_config({"method": method, "reward": {"switch": False}}))
    refuse_unread(load_config({"method": "cyclegan", "reward": {"switch": False}}))


def test_types_of_rain_are_not_weighed_where_no_labelled_pairs_are_taken():
    with pytest.raises(UserError, match=r"^reweight\.every: method cyclegan"):
        refuse_unread(load_config({"method": "cyclegan", "reweight": {"every": 7}}))
    refuse_unread(load_config({"method": "rgsud", "reweight": {"every": 7}, "data": {"pairs": ["pairs"]}}))


@pytest.mark.parametrize("method", ["rgsud", "cyclegan"])
def test_the_form_of_the_labelled_term_is_unirains_to_choose(method):
    with pytest.raises(UserError, match=rf"^loss\.labelled_form: method {method} does not read"):
        refuse_unread(load_config({"method": method, "loss": {"labelled_form": "psnr"}}))
    refuse_unread(load_config({"method": "unirain", "loss": {"labelled_form": "psnr"}}))


def test_many_fields_are_counted():
    network = {"unet_width": 8, "unet_levels": 2, "generator_width": 8, "derainer_width": 8, "discriminator_width": 8}
    config = load_config({"method": "cut", "network": network | {"generator_blocks": 1, "last_gain": 0.5}})
    with pytest.raises(UserError, match=r"^network.*, network.generator_width and 2 more: method cut"):
        refuse_unread(config)


def test_every_field_is_read_by_some_method():
    names = flatten_fields(load_config({}).model_dump(mode="json"))
    assert [name for name in names if not any(reads(method, name) for method in get_args(MethodName))] == []


def test_a_run_says_so_before_it_begins_and_a_resumed_one_goes_on(config, monkeypatch):
    fields = run_of(config, "cyclegan")
    with pytest.raises(UserError, match=r"^loss\.pair: method cyclegan"):
        train(fields | {"loss": {"pair": 2.0}}, scorer=darkness, quiet=True)
    train_and_interrupt(fields, 2, monkeypatch)
    train(fields | {"loss": {"pair": 2.0}}, scorer=darkness, quiet=True, resume=True)  # of an older release, say
