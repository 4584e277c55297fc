"""The command line: what a configuration is made of, and mistakes told in one line with exit code 2."""

from __future__ import annotations

import json
import sys
import types

import pytest
import torch
from one_line import told

from rgsud_fast import cli
from rgsud_fast.config import load_config, save_config
from rgsud_fast.data import write_image
from rgsud_fast.errors import UserError


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Calls of train, which is replaced by one that remembers them; in an empty working folder."""
    calls = []

    def train(config, *, resume):
        calls.append((config, resume))

    monkeypatch.setitem(sys.modules, "rgsud_fast.training", types.SimpleNamespace(train=train))
    monkeypatch.setattr("rgsud_fast.cli.arguments.check_asked", lambda config: None)  # these runs have no images
    monkeypatch.chdir(tmp_path)
    return calls


def config_of(trained, *args):
    assert cli.main(["train", *args]) == 0
    return trained[-1][0]


def test_without_arguments_the_demo_is_trained(trained, capsys):
    config = config_of(trained)
    assert config == load_config({"preset": "demo"})
    assert config.data.demo
    assert capsys.readouterr().out.startswith("preset demo: ")


def test_a_named_preset_is_taken_whole_and_in_silence(trained, capsys):
    assert config_of(trained, "--preset", "paper") == load_config({"preset": "paper"})
    assert config_of(trained, "--preset=small") == load_config({"preset": "small"})
    assert capsys.readouterr().out == ""


def test_folders_choose_the_preset_by_device_and_one_line_says_so(trained, capsys):
    folders = ["--data.rainy", "a", "--data.clean=b"]
    assert config_of(trained, *folders, "--device", "cpu").preset == "small"
    assert capsys.readouterr().out.count("preset small: ") == 1
    assert config_of(trained, *folders, "--device", "cuda:1").preset == "paper"
    expected = "paper" if torch.cuda.is_available() else "small"
    assert config_of(trained, *folders).preset == expected


def test_command_line_over_yaml_over_preset(trained, tmp_path):
    yaml = tmp_path / "c.yaml"
    yaml.write_text("preset: small-gan\nbatch: 3\ncrop: 96\noptim: {ema_decay: 0.5}\ndata: {rainy: r, clean: c}\n")
    config = config_of(trained, "--config", str(yaml), "--crop", "48", "--data.val-rainy", "v", "--data.val-clean", "w")
    assert (config.batch, config.crop, config.optim.ema_decay) == (3, 48, 0.5)
    assert (config.optim.hold, config.network.derainer_width) == (0.6, 12)  # of the preset
    assert (str(config.data.rainy), str(config.data.val_rainy), str(config.data.val_clean)) == ("r", "v", "w")
    assert config_of(trained, "--config", str(yaml), "--preset", "paper").network.derainer_width == 32
    assert config_of(trained, "--config", str(yaml), "--preset", "paper").batch == 3


def test_every_kind_of_field_can_be_given(trained):
    config = config_of(
        trained,
        *("--network.derainer-encoder", "1", "2", "--network.derainer-decoder", "3", "1"),
        *("--reward.no-switch", "--loss.reward-form", "sum", "--optim.learning_rate", "1e-3", "--out", "x y"),
    )
    assert (config.network.derainer_encoder, config.network.derainer_decoder) == ((1, 2), (3, 1))
    assert (config.reward.switch, config.loss.reward_form, config.optim.learning_rate) == (False, "sum", 1e-3)
    assert str(config.out) == "x y"


def test_resume_takes_the_configuration_of_the_run(trained, tmp_path):
    for name, seed in (("demo-0", 1), ("demo-1", 2)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        save_config(load_config({"preset": "demo", "seed": seed, "batch": 2}), folder / "config.yaml")
        (folder / "checkpoint.pt").touch()
    config = config_of(trained, "--resume", "--out", "runs/demo-0", "--stage2-iterations", "9")
    assert (config.seed, config.batch, config.stage2_iterations, str(config.out)) == (1, 2, 9, "runs/demo-0")
    assert trained[-1][1] is True
    assert str(config_of(trained, "--resume").out) == "runs/demo-1"


@pytest.mark.parametrize(
    "args, message",
    [
        (["--batchh", "4"], "unknown argument --batchh (did you mean --batch?)"),
        (["stray"], "unknown argument stray"),
        (["--reward.no-swich"], "did you mean --reward.no-switch?"),
        (["--batch", "x"], "--batch must be an integer, got 'x'"),
        (["--batch"], "--batch needs a value"),
        (["--batch", "0"], "batch: must be greater than or equal to 1, got 0"),
        (["--loss.reward-form", "foo"], "--loss.reward-form must be psnr, sum, mean or l1, got 'foo'"),
        (
            ["--preset", "big"],
            "preset: must be demo, small, small-gan, medium, paper, unirain or unirain-small, got 'big'",
        ),
        (["--preset", "small", "--data.val-rainy", "v"], "val_rainy and val_clean go together"),
        (["--optim.ema-decay", "1.5"], "optim.ema_decay: must be less than 1, got 1.5"),
        (["--device", "gpu"], "device: must be auto, cpu, cuda or cuda:N, got 'gpu'"),
        (["--lr", "1e-4"], "unknown argument --lr (did you mean --optim.learning-rate?)"),
        (["--optim.lerning-rate", "1"], "did you mean --optim.learning-rate?"),
        (["--learning-rate=1"], "unknown argument --learning-rate=1 (did you mean --optim.learning-rate?)"),
        (["--data.crop", "1"], "did you mean --crop?"),
        (["--data.pair", "p"], "unknown argument --data.pair (did you mean --data.pairs?)"),
        (["--network.derainer-encoder", "[1,1]"], "cannot be made of '[1,1]'; values stand apart: 1 2"),
        (["--network.derainer-encoder", "1", "x"], "cannot be made of '1', 'x'; rgsud-fast train --help"),
        (["--iterations", "5"], "did you mean --stage1-iterations?"),
        (["--epochs=5"], "did you mean --stage1-iterations?"),
        (["--steps", "5"], "did you mean --stage1-iterations?"),
        (["--batch_size", "5"], "did you mean --batch?"),
        (["--gpu", "0"], "did you mean --device cuda?"),
        (["--lambda2", "0"], "did you mean --loss.reward?"),
        (["--lambda_rec", "0"], "did you mean --loss.pair, lambda 1, or --loss.reward, lambda 2?"),
        (["--data.rainy", "r", "--data.clean", "c", "--xyzzy"], "unknown argument --xyzzy; rgsud-fast train --help"),
        (["--config", "none.yaml"], "none.yaml: No such file"),
        (["--resume"], "nothing to resume under runs/"),
        (["--resume", "--out", "none"], "nothing to resume in none"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_in_arguments_are_one_line(trained, capsys, args, message):
    assert message in told(capsys, ["train", *args])
    assert not trained


def test_mistakes_in_yaml_are_one_line(trained, capsys, tmp_path):
    yaml = tmp_path / "c.yaml"
    for text, message in (
        ("batsch: 3", "batsch: no such field"),
        ("optim: {ema: 1}", "optim.ema: no such field"),
        ("batch: many", "batch: must be an integer"),
        ("- 1", "must hold 'field: value' lines, got a list"),
        ("a: [", "not valid YAML"),
    ):
        yaml.write_text(text)
        assert message in told(capsys, ["train", "--config", str(yaml)]), text


@pytest.mark.parametrize("command", [command for command in cli.COMMANDS if command != "train"])
def test_unknown_arguments_are_named_whatever_the_command_and_before_what_is_missing(capsys, command):
    for args in (["--xyzzy"], ["--xyzzy", "3"], ["--xyzzy=3"], ["a", "--xyzzy"], ["--device", "cpu", "--xyzzy", "b"]):
        if command in WITH_DEVICE or "--device" not in args:
            what = "--xyzzy=3" if "--xyzzy=3" in args else "--xyzzy"
            assert f"unknown argument {what}; rgsud-fast {command} --help" in told(capsys, [command, *args])
    assert "unknown argument -x;" in told(capsys, [command, "-x"])


WITH_DEVICE = ("derain", "evaluate", "rain", "score", "demo")


def test_a_value_that_begins_with_a_dash_is_no_flag(capsys):
    error = told(capsys, ["derain", "a", "b", "--suffix", "-derained"])
    assert "--suffix needs a value; one that begins with - is given as --suffix=-derained" in error
    assert "unknown argument -x;" in told(capsys, ["derain", "a", "b", "--mirror", "-x"])
    assert "unknown argument -x;" in told(capsys, ["derain", "a", "b", "--suffix=c", "-x"])


def test_a_flag_for_what_is_told_by_its_place_and_for_an_open_page(capsys):
    assert "(WEIGHTS has no flag: it is told by its place)" in told(capsys, ["evaluate", "--weights", "w"])
    assert "did you mean --weights?" in told(capsys, ["derain", "--checkpoint", "w"])
    for args in (["--share"], ["--host", "0.0.0.0"], ["run", "--host=0.0.0.0"]):
        error = told(capsys, ["demo", *args])
        assert "the page listens on 127.0.0.1 alone" in error and "ssh -L" in error
    assert "unknown argument b;" in told(capsys, ["demo", "a", "b"])


@pytest.mark.parametrize(
    "args, names",
    [
        ("evaluate", "WEIGHTS, --rainy DIR, --clean DIR"),
        ("evaluate w --clean c", "--rainy DIR"),
        ("export", "WEIGHTS, --to onnx|torchscript|safetensors|nafnet|restormer|drsformer|nerd_rain|moe"),
        ("rain", "RUN, CLEAN, RAINY, OUT"),
        ("rain a b", "RAINY, OUT"),
        ("render a", "OUT"),
        ("index a", "OUT"),
        ("score", "IMAGES, --metric METRIC"),
        ("score x", "--metric METRIC"),
        ("publish a", "OWNER/REPO"),
        ("fit-niqe", "PHOTOS, OUT"),
        ("convert-daclip a", "OUT"),
    ],
)
def test_every_missing_argument_is_named(capsys, args, names):
    command = args.split()[0]
    assert f": missing {names}; rgsud-fast {command} --help" in told(capsys, args.split())


def test_other_commands_tell_mistakes_in_one_line(capsys, tmp_path):
    write_image(tmp_path / "in" / "a.png", torch.rand(3, 32, 32))
    weights, images = str(tmp_path / "w.safetensors"), str(tmp_path / "in")
    assert "unknown command 'dreain'" in told(capsys, ["dreain"])
    assert "OUTPUT" in told(capsys, ["derain", "a"])
    assert "no weights at" in told(capsys, ["derain", weights, images, "c"])
    assert "--overlap 9" in told(capsys, ["derain", weights, images, "c", "--tile", "8", "--overlap", "9"])
    assert "did you mean --tile?" in told(capsys, ["derain", weights, images, "c", "--tiel", "8"])
    (tmp_path / "w.safetensors").write_bytes(b"\x80\x02}q\x00.")
    assert "not a readable safetensors" in told(capsys, ["evaluate", weights, "--rainy", images, "--clean", images])
    assert "nowhere: no such" in told(capsys, ["derain", weights, str(tmp_path / "nowhere"), "c"])
    assert "generator.safetensors" in told(capsys, ["rain", str(tmp_path), images, images, str(tmp_path / "out")])


def test_derain_evaluate_and_rain_work_from_a_run_folder(capsys, tmp_path):
    from rgsud_fast.networks import NAFNet, RainGenerator, UNet
    from rgsud_fast.networks.weights import save_network

    save_network(tmp_path / "run/derainer.safetensors", NAFNet(4, [1], 1, [1]), "derainer")
    save_network(tmp_path / "run/unet.safetensors", UNet(4, 2), "unet")
    save_network(tmp_path / "run/generator.safetensors", RainGenerator(4, 1), "generator")
    for name in ("a.png", "b.jpg"):
        write_image(tmp_path / "in" / name, torch.rand(3, 33, 40))
    run, images, device = str(tmp_path / "run"), str(tmp_path / "in"), ("--device", "cpu")

    assert cli.main(["derain", run, images, str(tmp_path / "out"), *device, "--tile", "24", "--overlap", "8"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
    assert "wrote 2 images" in capsys.readouterr().out

    figures = str(tmp_path / "figures.json")
    assert cli.main(["evaluate", run, "--rainy", images, "--clean", images, "--json", figures, *device]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("PSNR-RGB", "SSIM-Y", "rainy input", "median", "derained"))
    with open(figures) as file:
        written = json.load(file)
    assert written["input_psnr_rgb"] == 100
    assert len(written["images"]) == 2

    assert cli.main(["rain", run, images, images, str(tmp_path / "pairs"), *device]) == 0
    assert len(list((tmp_path / "pairs" / "rainy").iterdir())) == 2


def test_interruptions_and_full_disks_end_without_traceback(monkeypatch, capsys):
    def raising(error):
        def train(config, *, resume):
            raise error

        monkeypatch.setitem(sys.modules, "rgsud_fast.training", types.SimpleNamespace(train=train))

    raising(KeyboardInterrupt())
    assert "interrupted" in told(capsys, ["train", "--preset", "demo"], code=130)
    raising(OSError(28, "No space left on device"))
    assert "No space left on device" in told(capsys, ["train", "--preset", "demo"])
    raising(UserError("two\nlines"))
    assert "two lines" in told(capsys, ["train", "--preset", "demo"])
    raising(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["train", "--preset", "demo"])


def test_a_method_brings_its_presets(trained):
    config = config_of(trained, "--preset", "small", "--method", "cyclegan")
    assert (config.method, config.cyclegan.width, config.stage1_iterations) == ("cyclegan", 16, 600)
    assert config_of(trained, "--preset", "small", "--method=cut", "--cut.width", "8").cut.width == 8


def test_how_threads_wait_is_chosen_before_a_run_and_told(trained, monkeypatch, capsys):
    monkeypatch.setattr("rgsud_fast.system.threads.choose", lambda: "CPU threads sleep")
    config_of(trained, "--preset", "small")
    assert capsys.readouterr().out == "CPU threads sleep\n"
    config_of(trained, "--preset", "small", "--threads", "1")
    assert capsys.readouterr().out == ""
