"""Equal weights are equal files, which safetensors reads back."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, save

from rgsud_fast.system.safetensors_bytes import safetensors_bytes


def test_bytes_follow_from_the_content_alone(tmp_path):
    tensors = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(1, dtype=torch.int64)}
    told = {f"name {i}": f'{i}: \u00e4 "quoted"' for i in range(20)}
    written = {safetensors_bytes(tensors, dict(sorted(told.items(), reverse=i % 2 == 0))) for i in range(4)}
    assert len(written) == 1
    path = tmp_path / "weights.safetensors"
    path.write_bytes(written.pop())
    with safe_open(path, "pt") as opened:
        assert opened.metadata() == told
    back = load(path.read_bytes())
    assert back.keys() == tensors.keys() and all(torch.equal(back[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("told", [None, {"kind": "derainer"}])
def test_where_there_is_one_order_it_is_safetensors_own_file(told):
    tensors = {"a": torch.ones(3), "b": torch.ones(2, dtype=torch.bfloat16)}
    assert safetensors_bytes(tensors, told) == save(tensors, told)


def test_a_network_without_weights_is_a_file_too(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(safetensors_bytes({}, {"kind": "derainer"}))
    with safe_open(path, "pt") as opened:
        assert opened.metadata() == {"kind": "derainer"} and not list(opened.keys())
