"""Files of tensors on mounts that give no maps of files."""

from __future__ import annotations

import errno

import pytest
import torch

from rgsud_fast.system.torch_files import load_tensors


@pytest.mark.parametrize("error", [OSError(errno.ENODEV, "No such device"), RuntimeError("unable to mmap 8 bytes")])
def test_tensors_are_read_where_no_map_is_given(tmp_path, monkeypatch, error):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    load = torch.load

    def without_maps(*args, **options):
        if options.get("mmap"):
            raise error
        return load(*args, **options)

    monkeypatch.setattr(torch, "load", without_maps)
    assert load_tensors(tmp_path / "a.pt")["a"].tolist() == [1, 1]
