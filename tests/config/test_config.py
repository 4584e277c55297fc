"""The configuration: presets fill in, unknown and ill-typed fields are refused in one line, YAML holds it all."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rgsud_fast.config import PRESETS, Config, DataConfig, OptimConfig, load_config, merge, save_config
from rgsud_fast.config.config import MOST_NUMBERS
from rgsud_fast.errors import UserError
from rgsud_fast.ops._check import MOST


def told(source) -> str:
    """The one line that a mistake gives."""
    with pytest.raises(UserError) as caught:
        load_config(source)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults_are_the_papers():
    config = Config()
    assert config.preset == "paper"
    assert (config.batch, config.crop, config.stage1_iterations, config.stage2_iterations) == (8, 256, 100_000, 40_000)
    assert (config.loss.pair, config.loss.reward, config.loss.reward_form) == (1.0, 0.8, "psnr")
    assert (config.optim.learning_rate, config.optim.stage2_learning_rate) == (2e-4, 1e-4)
    assert config.network.derainer_encoder == (2, 2, 4, 8)
    assert config.iterations == 140_000


def test_nothing_means_the_demo():
    assert load_config() == load_config({"preset": "demo"})
    assert load_config().data.demo


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid_and_changes_what_it_says(preset):
    config = load_config({"preset": preset})

    def check(model, values):
        for key, value in values.items():
            found = getattr(model, key)
            if isinstance(value, dict):
                check(found, value)
            else:
                assert (list(found) if isinstance(found, tuple) else found) == value, key

    check(config, PRESETS[preset])


def test_a_given_field_wins_over_its_preset_and_leaves_the_rest():
    config = load_config({"preset": "small", "batch": 2, "optim": {"ema_decay": 0.9}})
    assert (config.batch, config.optim.ema_decay) == (2, 0.9)
    assert (config.optim.hold, config.crop) == (0.6, 64)


def test_sections_given_as_objects_are_merged_too():
    config = Config(preset="small", optim=OptimConfig(ema_decay=0.9), data=DataConfig(rainy=Path("r")))
    assert (config.optim.ema_decay, config.optim.hold) == (0.9, 0.6)
    assert config.data.rainy == Path("r")


def test_presets_are_not_changed_by_use():
    before = repr(PRESETS)
    load_config({"preset": "small", "network": {"unet_width": 99}})
    merge(PRESETS["small"], {"network": {"unet_width": 99}})
    assert repr(PRESETS) == before


def test_yaml_holds_every_field(tmp_path):
    config = load_config({"preset": "small", "out": "x", "data": {"rainy": "a b", "clean": "c"}, "loss": {"reward": 0}})
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    assert load_config(str(tmp_path / "config.yaml")) == config


def test_a_config_is_copied_not_shared():
    config = Config()
    load_config(config).loss.pair = 3.0
    assert config.loss.pair == 1.0


@pytest.mark.parametrize(
    "source, message",
    [
        ({"batsch": 1}, "batsch: no such field"),
        ({"optim": {"ema": 1}}, "optim.ema: no such field"),
        ({"batch": "many"}, "batch: must be an integer, got 'many'"),
        ({"batch": 0}, "batch: must be greater than or equal to 1, got 0"),
        ({"crop": 16}, "crop: "),
        ({"preset": "huge"}, "preset: must be demo, small, small-gan, medium, paper, unirain or unirain-small, got "),
        ({"device": "tpu"}, "device: must be auto, cpu, cuda or cuda:N, got 'tpu'"),
        ({"optim": 3}, "optim: must be a section of fields, got 3"),
        ({"data": {"rainy": 3}}, "config: data.rainy: must be text, got 3"),
        ({"loss": {"reward_form": "max"}}, "loss.reward_form: must be psnr, sum, mean or l1, got 'max'"),
        ({"cuda_graph": "maybe"}, "cuda_graph: must be true or false, got 'maybe'"),
        ({"data": {"val_rainy": "v"}}, "val_rainy and val_clean go together"),
        ({"network": {"derainer_encoder": [1], "derainer_decoder": [1, 1]}}, "same number of levels"),
        ({"batch": 0, "crop": 1}, "; crop: "),
        ([1], "config"),
    ],
    ids=str,
)
def test_mistakes_are_told_in_one_line_that_names_the_field(source, message):
    assert message in told(source)


def test_assignment_is_checked_too():
    config = Config()
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        config.batch = 0
    with pytest.raises(ValueError, match="bacth"):
        config.bacth = 3


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "c.yaml"
    assert f"config {path}: No such file" in told(path)
    assert "config" in told(tmp_path)
    for content, message in (
        (b"a: [", "not valid YAML"),
        (b"- 1\n- 2", "got a list"),
        (b"word", "got a str"),
        (b"\xff\xfe\xff", "not valid YAML"),
        (b"!!python/object/apply:os.system ['true']", "not valid YAML"),
    ):
        path.write_bytes(content)
        assert message in told(path), content


def test_an_empty_file_is_all_defaults(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("# nothing\n")
    assert load_config(path) == Config()


def test_an_unhashable_preset_is_a_mistake_like_others():
    assert "preset: " in told({"preset": ["small"]})


def test_a_file_that_holds_a_bare_zero_is_refused(tmp_path):
    (tmp_path / "c.yaml").write_text("0\n")
    assert "field: value" in told(tmp_path / "c.yaml")


def test_a_mistake_between_two_fields_does_not_print_the_section():
    message = told({"data": {"val_rainy": "v"}})
    assert "Value error" not in message
    assert "cache_dir" not in message


def test_a_field_can_be_assigned_and_is_checked():
    config = Config(preset="small")
    config.batch = 7
    assert (config.batch, config.optim.ema_decay) == (7, 0.995)
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        config.batch = 0


@pytest.mark.parametrize("preset", ["demo", "small"])
def test_the_configuration_of_an_older_run_is_not_filled_up_by_todays_preset(tmp_path, preset):
    """A run of before pasted rain names every field that there was; what came later was not in force."""
    older = load_config({"preset": "small-gan", "out": "x"}).model_dump(mode="json") | {"preset": preset}
    for section, names in {
        "loss": ("pasted", "pasted_gain", "pasted_share", "pasted_on_rewards"),
        "optim": ("warmup",),
        "reward": ("first", "newest"),
    }.items():
        for name in names:
            del older[section][name]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(older))
    config = load_config(tmp_path / "config.yaml")
    assert (config.loss.pasted, config.loss.adversarial, config.optim.warmup) == (0, 1, 0)
    assert (config.reward.first, config.reward.newest) == ("none", False)
    (tmp_path / "own.yaml").write_text(f"preset: {preset}\nloss: {{reward: 0.5}}\n")  # a user's own is filled up
    assert load_config(tmp_path / "own.yaml").loss.pasted == 1


def test_pasting_without_a_generator_needs_rain_to_begin_with():
    with pytest.raises(UserError, match=r"give reward\.first oriented"):
        load_config({"preset": "small", "reward": {"first": "none"}})
    load_config({"preset": "small", "reward": {"first": "none"}, "network": {"derainer_start": "run"}})
    load_config({"preset": "paper", "loss": {"pasted": 1}})


def test_more_crops_than_an_op_takes_are_refused_before_anything_is_read():
    assert MOST_NUMBERS == MOST
    with pytest.raises(UserError, match="batch 100000 of crops of 64 pixels is more than an op takes"):
        load_config({"preset": "small", "batch": 100_000})


@pytest.mark.parametrize(
    "method, epochs, hold, rate",
    [
        ("cyclegan", 200, 0.5, 2e-4),
        ("cut", 400, 0.5, 2e-4),
        ("dcdgan", 600, 0.5, 1e-4),
        ("nlcl", 210, 200 / 210, 2e-4),
        ("deraincyclegan", 400, 0.5, 1e-4),
    ],
)
def test_other_methods_train_in_paper_as_long_and_as_fast_as_their_codes(method, epochs, hold, rate):
    config = load_config({"preset": "paper", "method": method})
    assert (config.batch, config.stage1_iterations) == (1, 200 * epochs)  # of Rain100L's 200 images
    optim = config.optim
    assert (optim.learning_rate, optim.final_learning_rate, optim.hold) == (rate, 0, hold)
    assert (optim.betas, optim.clip_norm) == ((0.5, 0.999), 0)


@pytest.mark.parametrize("method", ["cyclegan", "cut", "csud", "dcdgan", "nlcl", "deraincyclegan"])
def test_a_first_reward_of_other_methods_yields_to_a_better_one_alone(method):
    config = load_config({"preset": "small", "method": method})
    assert (config.reward.first, config.reward.newest) == ("oriented", False)
    assert load_config({"preset": "paper", "method": method}).optim.clip_norm == 0


@pytest.mark.parametrize("method, preset", [("csud", "small"), ("csud", "demo"), ("unirain", "unirain-small")])
def test_a_small_preset_of_another_method_has_derainers_as_small_as_rgsuds(method, preset):
    there, here = (load_config(given).network for given in ({"preset": "small"}, {"preset": preset, "method": method}))
    assert (here.restormer, here.drsformer, here.nerd_rain) == (there.restormer, there.drsformer, there.nerd_rain)
    assert here.restormer.dim == 8
