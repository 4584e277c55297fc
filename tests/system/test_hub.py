"""Weights by their name on a model hub, from a hub on this machine; and what is told where it says no."""

from __future__ import annotations

import builtins
import time

import pytest
import torch
from hub_server import Hub
from plain_nafnet import drawn

from rgsud_fast import derain
from rgsud_fast.errors import UserError
from rgsud_fast.inference.export import export
from rgsud_fast.iqa import open_scorer
from rgsud_fast.networks import NAFNet
from rgsud_fast.networks.derainers.start import read_derainer
from rgsud_fast.networks.weights import find_weights, save_network

pytest.importorskip("huggingface_hub", reason="names on a hub need pip install -e '.[hub]'")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    network = drawn(NAFNet(4, [1], 1, [1]))
    save_network(tmp_path / "derainer.safetensors", network, "derainer")
    hub.files["derainer.safetensors"] = (tmp_path / "derainer.safetensors").read_bytes()
    hub.files["README.md"] = b"# tiny"
    yield hub
    hub.close()


def test_a_repository_derains_as_its_file_does(hub, tmp_path):
    image = torch.rand(1, 3, 16, 20)
    wanted = derain(tmp_path / "derainer.safetensors", image)
    hub.files["other.pth"] = b""
    for name in ("hf:owner/tiny", "hf:owner/tiny/derainer.safetensors"):
        assert torch.equal(derain(name, image), wanted)
    assert read_derainer("hf:owner/tiny").sizes["width"] == 4
    made = export("hf:owner/tiny", "safetensors", tmp_path / "here.safetensors").path
    assert torch.equal(derain(made, image), wanted)
    with pytest.raises(UserError, match="needs an output"):
        export("hf:owner/tiny", "safetensors")


def test_the_only_weights_of_a_repository_are_taken_and_several_are_listed(hub):
    hub.files["nested/nafnet.safetensors"] = hub.files.pop("derainer.safetensors")
    assert find_weights("hf:owner/tiny").name == "nafnet.safetensors"
    hub.files["b.pth"] = b""
    with pytest.raises(UserError, match=r"several .*: give one of hf:owner/tiny/b\.pth, hf:owner/tiny/nested/nafnet"):
        find_weights("hf:owner/tiny")
    hub.files.clear()
    with pytest.raises(UserError, match=r"holds no \.safetensors"):
        find_weights("hf:owner/tiny")


@pytest.mark.parametrize(
    "name, message",
    [
        ("hf:owner/nothing", "hf:owner/nothing: no such repository, or a private one"),
        ("hf:owner/nothing/a.pth", "hf:owner/nothing: no such repository, or a private one"),
        ("hf:owner/tiny/a.pth", "hf:owner/tiny: no such file"),
        ("hf:owner/gated", "hf:owner/gated: its owner must let you in: .* HF_TOKEN"),
        ("hf:owner/gated/a.pth", "hf:owner/gated: its owner must let you in: .* HF_TOKEN"),
        ("hf:owner", "is no name on the hub: give hf:OWNER/REPO"),
        ("hf:owner/tiny/../x.pth", "is no name on the hub: give hf:OWNER/REPO"),
        ("hf:-owner-/tiny--x", "is no name on the hub"),
    ],
)
def test_what_the_hub_has_not_is_told_in_one_line(hub, name, message):
    with pytest.raises(UserError, match=message) as caught:
        find_weights(name)
    assert "\n" not in str(caught.value)


def test_without_network_the_cache_serves_and_nothing_is_waited_for(hub, monkeypatch):
    find_weights("hf:owner/tiny")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    begin = time.monotonic()
    for name in ("hf:owner/tiny", "hf:owner/tiny/derainer.safetensors"):
        assert find_weights(name).is_file()
    for name in ("hf:owner/else", "hf:owner/else/a.pth"):
        with pytest.raises(UserError, match="hf:owner/else: no network"):
            find_weights(name)
    assert time.monotonic() - begin < 5


def test_without_the_library_the_extra_is_named(monkeypatch):
    usual = builtins.__import__

    def without(name, *args, **options):
        if name == "huggingface_hub":
            raise ImportError
        return usual(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install -e '\.\[hub\]'"):
        find_weights("hf:owner/tiny")


def test_a_score_of_a_run_on_the_hub_is_found(hub, tmp_path):
    hub.files["scorer.safetensors"] = b"damaged"
    with pytest.raises(UserError, match=r"scorer\.safetensors holds no fitted scorer"):
        open_scorer("hf:owner/tiny")
