"""The model card: what a hub reads of it, what it tells, and that no README.md of anybody else is lost."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from tiny import darkness

from rgsud_fast.config import load_config, save_config
from rgsud_fast.networks import NAFNet
from rgsud_fast.networks.weights import save_network
from rgsud_fast.runs.model_card import model_card, write_card
from rgsud_fast.training import train

PRIVATE = "/home/somebody/private"
METRICS = {
    f"{prefix}{figure}": value
    for prefix, value in (("", 30.25), ("input_", 25.5), ("filter_", 27.75), ("stage1_", 29.125))
    for figure in ("psnr_rgb", "ssim_rgb", "psnr_y", "ssim_y")
} | {"steps": 3200, "rainy_images": 52, "clean_images": 68, "val_pairs": 12}


@pytest.fixture
def run(tmp_path):
    """A finished run folder, as far as a card looks at it."""
    folder = tmp_path / "night rain"
    data = {field: f"{PRIVATE}/{field} photos" for field in ("rainy", "clean", "val_rainy", "val_clean", "cache_dir")}
    reward = {"scorer": f"ensemble:[niqe:{PRIVATE}/model.npz,domain]"}
    start = {"derainer_start": f"{PRIVATE}/start.pth"}
    config = {"preset": "small", "out": f"{PRIVATE}/run", "data": data, "reward": reward, "network": start}
    save_config(load_config(config), folder / "config.yaml")
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    text = {"preset": "small", "step": "3200", "seed": "0"}
    save_network(folder / "derainer.safetensors", NAFNet(4, [1], 1, [1]), "derainer", text)
    return folder


def front_matter(text):
    start, front, rest = text.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(front), rest


def test_the_method_can_be_cited_from_the_card(run):
    text = write_card(run).read_text()
    entry = text.split("```bibtex\n")[1].split("```")[0]
    assert "## How to cite" in text
    assert entry.startswith("@misc{rgsud,") and entry.count("{") == entry.count("}")
    assert "eprint        = {2605.00719}" in entry and "CVPR 2026" in entry


def test_the_front_matter_is_what_a_hub_reads(run):
    front, _ = front_matter(write_card(run).read_text())
    assert (front["license"], front["library_name"], front["pipeline_tag"]) == ("other", "rgsud_fast", "image-to-image")
    assert {"deraining", "image-restoration"} <= set(front["tags"])
    assert front["metrics"] == ["psnr", "ssim"]
    (index,) = front["model-index"]
    (result,) = index["results"]
    assert index["name"] == "night rain"
    assert result["dataset"] == {"type": "val_rainy photos", "name": "val_rainy photos"}
    assert {(figure["type"], figure["name"], figure["value"]) for figure in result["metrics"]} == {
        (kind.split("-")[0].lower(), kind, 30.25) for kind in ("PSNR-RGB", "SSIM-RGB", "PSNR-Y", "SSIM-Y")
    }


def test_a_hubs_own_reader_takes_it(run):
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard.load(write_card(run))
    assert card.data.license == "other"
    assert [result.metric_value for result in card.data.eval_results] == [30.25] * 4


def test_it_tells_the_run_and_the_filter_beside_it(run):
    _, text = front_matter(write_card(run).read_text())
    for told in (
        "# night rain: rain removal",
        "Preset `small`, 3,200 iterations, seed 0.",
        "started from the weights in `start.pth`",
        "| rainy input | 25.50 dB |",
        "| min(O, median 1x9), a fixed filter that learns nothing | 27.75 dB |",
        "| **this network** | 30.25 dB | 30.2500 | 30.25 dB | 30.2500 |",
        "| rainy | `rainy photos` | 52 |",
        "| clean, of other scenes | `clean photos` | 68 |",
        "| validation, clean | `val_clean photos` | 12 |",
        'rgsud_fast.derain("derainer.safetensors"',
        "Apache-2.0",
        "whoever trained them",
    ):
        assert told in text
    assert "derainer.onnx" not in text
    told = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert told["stage1_iterations"] == 10_000
    assert told["reward"]["scorer"] == "ensemble:[niqe:model.npz,domain]"
    assert told["network"]["derainer_start"] == "start.pth"


def test_no_path_of_the_machine_is_told(run):
    text = write_card(run).read_text()
    assert "somebody" not in text
    assert str(run.parent) not in text
    assert "cache_dir" not in text


@pytest.mark.parametrize("damaged", ["{", "[1, 2]", '{"psnr_rgb": "much", "steps": "many"}', "[" * 100_000])
def test_metrics_that_somebody_damaged_tell_nothing(run, damaged):
    (run / "metrics.json").write_text(damaged)
    assert "Nothing was measured" in write_card(run).read_text()


def test_of_an_address_the_last_part_alone_is_told(run):
    path = run / "config.yaml"
    address = "https://user:word@host.example/hidden-folder/rain-{00..15}.tar?signature=secret"
    path.write_text(path.read_text().replace(f"{PRIVATE}/rainy photos", address))
    text = write_card(run).read_text()
    assert "| rainy | `rain-{00..15}.tar` | 52 |" in text
    assert not any(private in text for private in ("user", "word", "host.example", "hidden-folder", "secret"))


def test_it_says_how_to_use_what_lies_beside_it(run, tmp_path):
    (tmp_path / "hub").mkdir()
    for name in ("derainer.onnx", "derainer.pt", "derainer.pth", "generator.onnx"):
        (tmp_path / "hub" / name).touch()
    text = write_card(tmp_path / "hub", run).read_text()
    for told in ('InferenceSession("derainer.onnx")', 'torch.jit.load("derainer.pt")', "`derainer.pth`", "paints rain"):
        assert told in text
    assert "derainer.safetensors" not in text
    assert "night rain" in text


def test_a_readme_of_somebody_else_stays(run):
    (run / "README.md").write_text("my notes")
    assert write_card(run) is None
    assert (run / "README.md").read_text() == "my notes"
    (run / "README.md").write_bytes(b"\xff\xfe")
    assert write_card(run) is None


def test_our_own_card_is_renewed_until_somebody_changes_it(run):
    old = write_card(run).read_text()
    (run / "metrics.json").write_text(json.dumps(METRICS | {"psnr_rgb": 31.5}))
    new = write_card(run).read_text()
    assert "31.50 dB" in new and new != old
    for changed in (new.replace("# night rain", "# My model"), new + "more", new.replace("\n## Data", "\n\n## Data")):
        (run / "README.md").write_text(changed)
        assert write_card(run) is None
        assert (run / "README.md").read_text() == changed


def test_a_folder_with_weights_alone_has_a_card_too(tmp_path):
    save_network(tmp_path / "derainer.safetensors", NAFNet(4, [1], 1, [1]), "derainer")
    front, text = front_matter(model_card(tmp_path, {"derainer.safetensors"}))
    assert "metrics" not in front
    assert "Nothing was measured" in text
    assert "Not recorded." in text


def test_training_leaves_a_card_and_keeps_a_foreign_one(config, tmp_path, capsys):
    result = train(config | {"stage1_iterations": 1, "stage2_iterations": 0}, scorer=darkness, quiet=True)
    front, text = front_matter((result.run_dir / "README.md").read_text())
    assert front["model-index"][0]["results"][0]["metrics"][0]["value"] == round(result.metrics["psnr_rgb"], 4)
    assert "| rainy | `rainy` | 3 |" in text and "| clean, of other scenes | `clean` | 2 |" in text
    assert str(tmp_path) not in text

    other = tmp_path / "other"
    other.mkdir()
    (other / "README.md").write_text("my notes")
    train(config | {"stage1_iterations": 1, "stage2_iterations": 0, "out": str(other)}, scorer=darkness)
    assert (other / "README.md").read_text() == "my notes"
    assert "no model card" in capsys.readouterr().out


def test_the_card_of_a_network_of_ones_own_says_how_it_is_loaded(config):
    result = train(config, derainer=torch.nn.Conv2d(3, 3, 3, padding=1), scorer=darkness, quiet=True)
    card = (result.run_dir / "README.md").read_text()
    assert 'load_state("derainer.safetensors", network)' in card
    assert 'derain("derainer.safetensors"' not in card
