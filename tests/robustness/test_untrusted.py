"""Files that a stranger made to do harm: code in pickles, claims of gigantic arrays, states that fit no network."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from rgsud_fast.cli import main
from rgsud_fast.config import load_config
from rgsud_fast.data import FolderSet, read_image
from rgsud_fast.errors import UserError
from rgsud_fast.iqa import convert_daclip, load_brisque_model, load_daclip, load_scorer
from rgsud_fast.iqa.niqe import load_niqe_model
from rgsud_fast.networks import NAFNet
from rgsud_fast.networks.weights import load_network, load_state, save_network
from rgsud_fast.optim.adam import restore_moments
from rgsud_fast.runs.checkpoint import FIELDS, load_checkpoint, save_checkpoint
from rgsud_fast.runs.folder import RunFolder
from rgsud_fast.system.torch_files import load_tensors

STATE = {name: kind() for name, kind in FIELDS.items()}  # an empty checkpoint, whole in form


class Bomb:
    """Makes the file it names when it is unpickled without a guard."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


def refused(read, *arguments) -> str:
    """The one line that a bad file gives."""
    with pytest.raises(UserError) as caught:
        read(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def as_archive(path: Path, content: object) -> None:
    torch.save(content, path)


def as_old_format(path: Path, content: object) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def as_bare_pickle(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("write", [as_archive, as_old_format, as_bare_pickle])
@pytest.mark.parametrize("read", [load_checkpoint, load_daclip, convert_daclip, load_network, load_state, load_scorer])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, write, read):
    target, path = tmp_path / "exploded", tmp_path / "file.pt"
    more = {convert_daclip: [tmp_path / "out.safetensors"], load_state: [NAFNet(2, [1], 1, [1])]}.get(read, [])
    write(path, STATE | {"version": 1, "step": Bomb(target), "visual_control.conv1.weight": Bomb(target)})
    assert "file.pt" in refused(read, path, *more)
    assert not target.exists()

    with contextlib.suppress(TypeError, RuntimeError):
        torch.load(path, weights_only=False)
    assert target.exists()  # so without a guard it would have run


def test_a_run_is_not_resumed_from_code(config, tmp_path, capsys):
    target = tmp_path / "exploded"
    folder = RunFolder(config["out"])
    folder.path.mkdir()
    folder.config.write_text(yaml.safe_dump(config))
    torch.save(STATE | {"version": 1, "optimizer": {"state": Bomb(target)}}, folder.checkpoint)
    assert main(["train", "--resume", "--out", str(folder.path)]) == 2
    told = capsys.readouterr().err
    assert "checkpoint.pt is damaged or no checkpoint: it holds objects or code" in told
    assert "weights_only" not in told  # no word on how to run it all the same
    assert not target.exists()


def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    memory = torch.zeros(100)
    for name, tensor in {
        "expanded": memory[:1].expand(10**6, 10**6),
        "beyond the end": memory.as_strided((10, 10), (0, 1), 90),
        "meta": torch.empty(10**6, 10**6, device="meta"),
        "sparse": torch.sparse_coo_tensor(torch.zeros(2, 1).long(), torch.ones(1), (10**6, 10**6)),
    }.items():
        torch.save({"a": [tensor]}, tmp_path / "file.pt")
        with pytest.raises(ValueError, match="tensor"):
            load_tensors(tmp_path / "file.pt")
        assert name


def test_a_compressed_archive_is_refused(tmp_path):
    save_checkpoint(tmp_path / "whole.pt", STATE)
    with zipfile.ZipFile(tmp_path / "whole.pt") as whole, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as bomb:
        for member in whole.infolist():
            bomb.writestr(member.filename, whole.read(member), zipfile.ZIP_DEFLATED)
    load_checkpoint(tmp_path / "whole.pt")
    assert "compressed" in refused(load_checkpoint, tmp_path / "bomb.pt")


@pytest.mark.parametrize("name", FIELDS)
def test_a_checkpoint_without_a_part_is_refused(tmp_path, name):
    save_checkpoint(tmp_path / "checkpoint.pt", STATE | {name: "other"})
    assert f"it holds no {name}" in refused(load_checkpoint, tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("name, shape", [("exp_avg", [2]), ("exp_avg_sq", [64, 64, 2]), ("step", [3])])
def test_moments_of_another_shape_never_reach_the_optimiser(name, shape):
    """Adam's fused kernel writes beyond the end of moments that are too small."""
    parameter = torch.nn.Parameter(torch.zeros(64, 64))
    optimizer = torch.optim.Adam([parameter], fused=True)
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    saved = optimizer.state_dict()
    saved["state"][0][name] = torch.zeros(shape)
    with pytest.raises(ValueError, match="moments and step of a parameter"):
        restore_moments(optimizer, saved)


def test_settings_of_the_optimiser_are_not_the_files():
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))], lr=0.5, fused=True)
    saved = optimizer.state_dict()
    saved["param_groups"][0] |= {"lr": "code", "betas": None, "fused": False, "name": "../x"}
    restore_moments(optimizer, saved)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert optimizer.param_groups[0]["fused"]


@pytest.mark.parametrize(
    "sizes",
    [
        *({"width": 10**9}, {"width": 0}, {"width": -4}, {"width": 1.5}, {"width": "4"}, {"encoder": [10**9]}),
        *({"middle": 10**12}, {"encoder": [1] * 5000, "decoder": [1] * 5000}, {"width": [2]}, {"other": 1}),
    ],
    ids=lambda sizes: str(sizes)[:30],
)
def test_sizes_beyond_the_tensors_of_the_file_build_nothing(tmp_path, sizes):
    network = NAFNet(2, [1], 1, [1])
    network.sizes = network.sizes | sizes
    save_network(tmp_path / "derainer.safetensors", network, "derainer")
    assert "does not fit the derainer" in refused(load_network, tmp_path)


def test_sizes_that_are_nested_without_end_are_refused(tmp_path):
    text = {"format": "rgsud_fast 1", "kind": "derainer", "sizes": "[" * 100_000}
    save_file({"a": torch.zeros(1)}, tmp_path / "derainer.safetensors", metadata=text)
    assert "its sizes cannot be read" in refused(load_network, tmp_path)


def test_a_header_of_weights_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 2**42]}}).encode()
    for head in (struct.pack("<Q", len(header)) + header, struct.pack("<Q", 2**60) + header):
        (tmp_path / "derainer.safetensors").write_bytes(head)
        refused(load_network, tmp_path)
        refused(load_scorer, tmp_path / "derainer.safetensors")


def with_header(shape: tuple[int, ...], descr: str = "<f8") -> bytes:
    """An .npy file of 8 bytes whose header claims that shape."""
    held = io.BytesIO()
    np.lib.format.write_array_header_1_0(held, {"descr": descr, "fortran_order": False, "shape": shape})
    return held.getvalue() + bytes(8)


@pytest.mark.parametrize(
    "member",
    [
        *(
            with_header((10**12,)),
            with_header((2**40, 2**40)),
            with_header((1, 36), "|O"),
            with_header((1,), "|V999999999"),
        ),
        *(with_header((1, 36)), b"", pickle.dumps(3)),
    ],
    ids=["large", "larger", "objects", "wide", "short", "empty", "pickle"],
)
def test_parameters_of_niqe_take_no_more_than_theirs(tmp_path, member):
    with zipfile.ZipFile(tmp_path / "niqe.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mu_pris_param.npy", member)
        archive.writestr("cov_pris_param.npy", with_header((36, 36)))
    assert "niqe.npz: not an .npz file" in refused(load_niqe_model, tmp_path / "niqe.npz")


def test_parameters_of_niqe_that_are_not_finite_or_no_archive_are_refused(tmp_path):
    np.savez(tmp_path / "nan.npz", mu_pris_param=np.full((1, 36), np.nan), cov_pris_param=np.eye(36))
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    for name in ("nan.npz", "array.npz", "absent.npz"):
        refused(load_niqe_model, tmp_path / name)


@pytest.mark.parametrize("name", ["niqe", "brisque", "ensemble:[niqe,niqe]"])
def test_a_scorer_of_other_shapes_is_refused(tmp_path, name):
    parts = ("mu", "cov", "vectors", "weights", "offset", "gamma", "ranges", "0.reference", "1.reference")
    parts += tuple(f"{i}.state.{part}" for i in (0, 1) for part in ("mu", "cov"))
    save_file({part: torch.zeros(3, 1) for part in parts}, tmp_path / "scorer.safetensors", metadata={"scorer": name})
    assert "holds no fitted scorer" in refused(load_scorer, tmp_path)


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefghi", "bcdefghij", strict=True)
)
MERGED = "a: &a {x: 1}\n" + "".join(
    f"{after}: &{after} {{<<: [{', '.join([f'*{before}'] * 9)}]}}\n"
    for before, after in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize("text", [LAUGHS, MERGED], ids=["aliases", "merged"])
def test_yaml_that_grows_without_bound_is_refused(tmp_path, text):
    for name in ("config.yaml", "x_model.yml", "x_range.yml"):
        (tmp_path / name).write_text(text)
    assert "an alias (*) is not read" in refused(load_config, tmp_path / "config.yaml")
    assert "an anchor (&)" in refused(load_brisque_model, tmp_path / "x_model.yml")


@pytest.mark.parametrize(
    "text", ["[" * 10**5, "a: " + "9" * 10**4, "!!timestamp x", "!!bool x", "!!python/name:os.system", "a: [" * 10**4]
)
def test_yaml_that_trips_its_reader_is_refused(tmp_path, text):
    for name in ("config.yaml", "x_model.yml", "x_range.yml"):
        (tmp_path / name).write_text(text)
    assert len(refused(load_config, tmp_path / "config.yaml")) < 400
    refused(load_brisque_model, tmp_path / "x_model.yml")


def test_files_too_large_and_devices_are_not_read(tmp_path):
    with open(tmp_path / "config.yaml", "wb") as file:
        file.truncate(2**31)
    assert "more than 1,048,576 bytes" in refused(load_config, tmp_path / "config.yaml")
    assert "not a file" in refused(load_config, Path("/dev/zero"))
    assert "not a file" in refused(load_brisque_model, "/dev/zero")


def test_a_message_repeats_little_of_what_was_given():
    assert len(refused(load_config, {"batch": ["x" * 10**6]})) < 400
    assert len(refused(load_config, {"y" * 10**6: 1})) < 400
    refused(load_config, {"reward": {"scorer": "a\nb"}})
    refused(load_config, {3: 4})


def test_only_the_formats_named_are_decoded(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\nquit\n")
    Image.new("RGB", (40, 40)).save(tmp_path / "photo.gif")
    for name in ("photo.png", "photo.gif"):
        assert "cannot be read as an image" in refused(read_image, tmp_path / name)


@pytest.mark.parametrize(
    "change", [{"sizes": [[-5, -8]]}, {"sizes": [[4.0, 10]]}, {"names": []}, {"digests": [3]}, {"sizes": 3}]
)
def test_a_cache_with_an_index_that_lies_is_built_anew(tmp_path, change):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 40), (9, 9, 9)).save(tmp_path / "photos" / "0.png")
    FolderSet.from_folder(tmp_path / "photos", tmp_path / "cache")
    (index,) = (tmp_path / "cache").glob("*.json")
    index.write_text(json.dumps(json.loads(index.read_text()) | change))
    images = FolderSet.from_folder(tmp_path / "photos", tmp_path / "cache")
    assert images.sizes == [(40, 40)]
    assert images.names == ["0.png"]


def test_a_log_that_is_none_is_passed_over(tmp_path):
    folder = RunFolder(tmp_path)
    lines = [
        "3",
        "[]",
        "{}",
        '{"step": "x", "event": "train"}',
        '{"step": 1.5}',
        "[" * 10**5,
        "{",
        '{"step": 2, "event": "train"}',
    ]
    folder.log.write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n")
    assert folder.read_log() == [{"step": 2, "event": "train"}]
    folder.cut_log(1)
    assert folder.read_log() == []
