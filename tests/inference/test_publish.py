"""A run sent to a hub on this machine: what it gets, who may see it, and what is told where it says no."""

from __future__ import annotations

import pytest
import torch
from hub_server import Hub
from plain_nafnet import drawn

import rgsud_fast
from rgsud_fast import cli
from rgsud_fast.config import merge
from rgsud_fast.errors import UserError
from rgsud_fast.iqa import NiqeModel, NiqeScorer, save_scorer
from rgsud_fast.networks import NAFNet
from rgsud_fast.networks.weights import save_network
from rgsud_fast.runs.model_card import model_card

pytest.importorskip("huggingface_hub", reason="publishing needs pip install -e '.[hub]'")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    yield hub
    hub.close()


@pytest.fixture
def run(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    torch.manual_seed(0)
    save_network(run / "derainer.safetensors", drawn(NAFNet(4, [1], 1, [1])), "derainer")
    for name in ("config.yaml", "metrics.json", "checkpoint.pt", "mine.safetensors"):
        (run / name).write_text("{}")
    (run / "gallery.html").write_text("<p>rain</p>")
    return run


def test_weights_card_and_gallery_are_sent_and_nothing_else(hub, run):
    assert rgsud_fast.publish(run, "owner/new") == f"{hub.url}/owner/new"
    assert set(hub.committed) == {"derainer.safetensors", "README.md", "gallery.html"}
    assert hub.committed["derainer.safetensors"] == (run / "derainer.safetensors").read_bytes()
    assert b"# run: rain removal" in hub.committed["README.md"]
    assert hub.created[0].get("private") is True or hub.created[0].get("visibility") == "private"


def test_it_is_public_where_the_user_says_so(hub, run, capsys):
    assert cli.main(["publish", str(run), "owner/new", "--public"]) == 0
    assert f"published {run} at {hub.url}/owner/new" in capsys.readouterr().out
    assert hub.created[0].get("private") is False or hub.created[0].get("visibility") == "public"


def test_a_card_of_the_users_own_is_sent_as_it_is(hub, run):
    (run / "README.md").write_text("mine")
    rgsud_fast.publish(run, "hf:owner/new")
    assert hub.committed["README.md"] == b"mine"


def told(run, name="owner/new"):
    with pytest.raises(UserError) as caught:
        rgsud_fast.publish(run, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_published_is_told_in_one_line(hub, run, tmp_path, monkeypatch):
    assert "no name of a repository" in told(run, "owner/new/file")
    assert "is no name of a repository: give OWNER/REPO" in told(run, "new")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "HF_TOKEN" in told(run)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert "hf:owner/new: no token: log in with" in told(run)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "hf:owner/new: no network" in told(run)
    (run / "derainer.safetensors").unlink()
    assert "train --resume --out" in told(run)
    (run / "checkpoint.pt").unlink()
    assert "give the folder of one" in told(run)
    assert not hub.committed


def test_the_card_names_the_weights_on_a_hub_that_it_started_from(run):
    (run / "config.yaml").write_text("network: {derainer_start: 'hf:owner/repo/x.pth'}")
    assert "started from the weights in `hf:owner/repo/x.pth`, whose terms hold" in model_card(run, set())


def test_no_folder_of_this_machine_is_sent_and_no_file_from_outside(hub, config, tmp_path):
    cov = torch.eye(36, dtype=torch.float64)
    save_scorer(NiqeScorer(NiqeModel(torch.zeros(36, dtype=torch.float64), cov)), tmp_path / "model.safetensors")
    config = merge(config, {"reward": {"scorer": f"niqe:{tmp_path / 'model.safetensors'}"}, "stage2_iterations": 0})
    run = rgsud_fast.train(config, quiet=True).run_dir
    rgsud_fast.publish(run, "owner/new")
    assert "scorer.safetensors" in hub.committed
    assert not [name for name, sent in hub.committed.items() if str(tmp_path).encode() in sent]
    (run / "gallery.html").unlink()
    (run / "gallery.html").symlink_to(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="is a link that leads out of the run folder"):
        rgsud_fast.publish(run, "owner/new")
