"""Tar shards are the same set as a folder of their images, whatever they are read through, and can run nothing."""

from __future__ import annotations

import http.server
import io
import re
import sys
import tarfile
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from test_trainer import same_bits
from tiny import darkness
from webdataset import ShardWriter

from rgsud_fast.checkpoint import load_checkpoint
from rgsud_fast.config import Config, merge
from rgsud_fast.data import Domains, ImageSet, load_domains, to_tensor, write_image
from rgsud_fast.data import shard_index as index_module
from rgsud_fast.data.shard_files import Shard, expand
from rgsud_fast.data.shards import ShardSet
from rgsud_fast.errors import UserError
from rgsud_fast.feed import Feed
from rgsud_fast.pool import RewardPool
from rgsud_fast.trainer import train

SIZES = [(40, 50), (64, 48), (33, 70), (36, 36), (80, 34)]


def write_shards(folder: Path, target: Path, per_shard: int = 2) -> str:
    """Pack the images of a folder by WebDataset's own writer; returns the pattern of the shards."""
    paths = sorted(folder.iterdir(), key=lambda path: int(path.stem))
    target.mkdir(exist_ok=True)
    with ShardWriter(str(target / "part-%02d.tar"), maxcount=per_shard, verbose=0) as writer:
        for path in paths:
            writer.write({"__key__": path.stem, path.suffix[1:]: path.read_bytes(), "json": {"note": "no image"}})
    return str(target / f"part-{{00..{(len(paths) - 1) // per_shard:02d}}}.tar")


def write_tar(path: Path, members: dict[str, bytes], **options) -> str:
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return str(path)


def png(seed: int = 0, size: tuple[int, int] = (40, 36)) -> bytes:
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(held, "PNG")
    return held.getvalue()


@pytest.fixture
def photos(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for i, size in enumerate(SIZES):
        write_image(tmp_path / "photos" / f"{9 + i}.png", rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    return tmp_path / "photos"


@pytest.fixture
def pattern(photos, tmp_path) -> str:
    return write_shards(photos, tmp_path / "shards")


@pytest.fixture
def opened(tmp_path):
    """Open shards with a cache of their indices."""
    return lambda pattern, gib=1.0: ShardSet.open(pattern, tmp_path / "indices", gib)


def same(one, other) -> None:
    assert (one.names, one.sizes, one.digests) == (other.names, other.sizes, other.digests)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_shards_are_the_set_that_a_folder_of_their_files_is(photos, pattern, opened, tmp_path):
    images = opened(pattern)
    same(images, ImageSet.from_folder(photos, tmp_path / "cache"))
    assert images.names == ["9.png", "10.png", "11.png", "12.png", "13.png"]
    assert np.array_equal(images[-1], images[4])
    with pytest.raises(IndexError):
        images[5]
    with pytest.raises(ValueError, match="read-only"):
        images[0][0, 0] = 0


def test_the_second_opening_decodes_nothing_and_a_changed_shard_is_read_again(photos, pattern, opened, monkeypatch):
    first = opened(pattern)
    read = []
    monkeypatch.setattr(index_module, "decoded", lambda files: read.append(files) or iter(()))
    assert opened(pattern).digests == first.digests
    assert not read
    monkeypatch.undo()
    changed = next(Path(pattern).parent.glob("*-01.tar"))
    write_tar(changed, {"11.png": png(1), "12.png": png(2)})
    second = opened(pattern)
    assert [a == b for a, b in zip(first.digests, second.digests, strict=True)] == [True, True, False, False, True]
    assert len(list((Path(pattern).parent.parent / "indices").iterdir())) == 3


@pytest.mark.parametrize("reals", [1, 3])
@pytest.mark.parametrize("gib", [0, 1.0], ids=["nothing kept", "all kept"])
def test_a_feed_gives_the_same_crops_from_shards_as_from_a_folder(photos, pattern, opened, tmp_path, gib, reals):
    folder, shards = ImageSet.from_folder(photos, tmp_path / "cache"), opened(pattern, gib)
    config = Config(preset="small", crop=48, optim={"discriminator_reals": reals})  # some images are smaller
    feeds = [Feed(config, Domains(images, images), torch.device("cpu")) for images in (folder, shards)]
    pool = RewardPool(folder.sizes)
    for index in (0, 3):
        pool.update([index], 1 - to_tensor(folder[index])[None], torch.tensor([1.0]))
    for step in (0, 1, 2, 7):
        for known in (None, pool):
            mine, theirs = (feed.images(step, known) for feed in feeds)
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        assert all(torch.equal(*both) for both in zip(*(feed.pair(step) for feed in feeds), strict=True))


def test_memory_for_decoded_images_is_bounded(pattern, opened):
    images = opened(pattern, 20_000 / 2**30)
    for image in [*images, *images]:
        assert image.size
    assert 0 < sum(image.nbytes for image in images._kept.values()) <= 20_000


def test_what_is_announced_is_decoded_before_it_is_asked_for(pattern, opened, monkeypatch):
    images = opened(pattern, 0)
    feed = Feed(Config(preset="small", crop=32), Domains(images, images), torch.device("cpu"))
    feed.images(0)
    for future in list(images._expected.values()):
        future.result()
    monkeypatch.setattr(ShardSet, "_decode", None)
    feed.images(1)
    feed.images(2)


def test_an_image_that_changes_under_a_run_is_noticed(opened, tmp_path):
    content = png(0)
    pattern = write_tar(tmp_path / "a.tar", {"1.png": content})
    images = opened(pattern, 0)
    assert np.array_equal(images[0], images[0])
    held = bytearray(Path(pattern).read_bytes())
    at = held.index(content)
    held[at : at + len(content)] = png(1)
    Path(pattern).write_bytes(held)
    with pytest.raises(UserError, match=r"a\.tar: 1\.png is no longer what it was"):
        images[0]
    Path(pattern).unlink()
    with pytest.raises(UserError, match=r"1\.png: .*a\.tar: cannot be read \(No such file"):
        images[0]


def test_members_that_are_no_usable_images_are_left_out(opened, tmp_path):
    pattern = write_tar(
        tmp_path / "a.tar",
        {"./sub/1.png": png(1), "2.png": png()[:400], "3.json": b"{}", ".hidden/4.png": png(), "5.PNG": png(5)},
    )
    with tarfile.open(pattern, "a") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"kind{kind.decode()}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    images = opened(pattern)
    assert images.names == ["5.PNG", "sub/1.png"]
    assert list(images.skipped) == ["2.png"]


def test_names_that_leave_the_shard_are_only_labels(opened, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    names = [str(tmp_path / "absolute.png"), "../../up.png", "a/../../b.png"]
    images = opened(write_tar(tmp_path / "a.tar", {name: png(i) for i, name in enumerate(names)}))
    assert sorted(images.names) == sorted(names)
    assert len([*images]) == 3
    assert {path.name for path in set(tmp_path.rglob("*")) - before if path.suffix != ".shard"} == {"a.tar", "indices"}


def test_names_met_in_several_shards_carry_the_shards(opened, tmp_path):
    for i in range(2):
        write_tar(tmp_path / f"{i}.tar", {"1.png": png(i)})
    assert opened(str(tmp_path / "{0..1}.tar")).names == ["0.tar/1.png", "1.tar/1.png"]


@pytest.mark.parametrize(
    "pattern, message",
    [
        ("pipe:touch run; cat a.tar", "local paths and http"),
        ("pipe:touch run #.tar", "local paths and http"),
        ("s3://bucket/a.tar", "local paths and http"),
        ("file:///a.tar", "local paths and http"),
        ("a.tar::pipe:touch run;.tar", "local paths and http"),
        ("a.tar.gz", "a shard is a plain .tar"),
        ("http://localhost/a.tgz", "a shard is a plain .tar"),
        ("a-{0..2.tar", "cannot be read"),
        ("{a,a}.tar", "names a shard twice"),
        ("${RGSUD_UNSET}.tar", "cannot be read"),
        ("nowhere.tar", r"nowhere\.tar: cannot be read \(No such file"),
        ("dir.tar", r"dir\.tar: cannot be read \(Is a directory"),
        ("text.tar", "no plain tar, or a damaged one"),
        ("gzip.tar", "no plain tar, or a damaged one"),
        ("torn.tar", "no plain tar, or a damaged one"),
        ("empty.tar", "no image in these shards"),
        ("bad.tar", r"none of its 1 images can be used; the first is 1\.png: cannot be read"),
        ("two.tar", r"the sample 1 has the images 1\.a\.png and 1\.b\.png"),
    ],
)
def test_what_is_no_shard_is_refused_in_one_line_and_nothing_runs(opened, tmp_path, monkeypatch, pattern, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir.tar").mkdir()
    (tmp_path / "text.tar").write_text("not a tar" * 200)
    with tarfile.open("gzip.tar", "w:gz"):
        pass
    write_tar(tmp_path / "whole.tar", {"1.png": png(), "2.png": png(1)})
    (tmp_path / "torn.tar").write_bytes((tmp_path / "whole.tar").read_bytes()[:4000])
    write_tar(tmp_path / "empty.tar", {"1.json": b"{}"})
    write_tar(tmp_path / "bad.tar", {"1.png": b"no image"})
    write_tar(tmp_path / "two.tar", {"1.a.png": png(), "1.b.png": png()})
    with pytest.raises(UserError, match=message) as caught:
        opened(pattern)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset.shardlists", None)
    with pytest.raises(UserError, match=re.escape("pip install 'rgsud-fast[shards]'")):
        expand("a.tar")


class _Server(http.server.SimpleHTTPRequestHandler):
    """Serves files, and parts of them where asked to; every third request fails."""

    ranges, asked = True, 0

    def do_GET(self):
        type(self).asked += 1
        if self.asked % 3 == 0:
            self.send_error(503)
            return
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not (wanted and self.ranges and path.is_file()):
            super().do_GET()
            return
        content = path.read_bytes()
        begin, end = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {begin}-{end}/{len(content)}")
        self.send_header("Content-Length", str(end - begin + 1))
        self.end_headers()
        self.wfile.write(content[begin : end + 1])

    def log_message(self, *_):
        pass


@pytest.fixture
def served(pattern, monkeypatch):
    """The address of the folder of shards, and the handler's class."""
    monkeypatch.setattr("rgsud_fast.data.shard_files.PAUSE", 0.01)
    handler = type("Handler", (_Server,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(Path(pattern).parent)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    thread.join()
    server.server_close()


def test_shards_come_over_http_in_parts_also_where_requests_fail_now_and_then(served, pattern, opened):
    address, handler = served
    images = opened(f"{address}/{Path(pattern).name}", 0)
    same(images, opened(pattern))
    before = handler.asked
    assert opened(f"{address}/{Path(pattern).name}").digests == images.digests
    assert handler.asked - before <= 5  # one request a shard, and those that failed


def test_a_server_without_parts_or_without_the_file_is_named(served, opened):
    address, handler = served
    with pytest.raises(UserError, match=r"none\.tar: cannot be read \(HTTP Error 404"):
        opened(f"{address}/none.tar")
    handler.ranges = False
    with pytest.raises(UserError, match="gives whole files only"):
        opened(f"{address}/part-00.tar")
    with pytest.raises(UserError, match="cannot be read"):
        Shard("http://127.0.0.1:9/a.tar").read(0, 1)  # nobody listens there


def test_shards_and_folders_stand_beside_one_another(photos, pattern, tmp_path):
    for i in range(2):
        write_image(tmp_path / "clean" / f"{i}.png", to_tensor(np.full((40, 40, 3), i, np.uint8)))
    config = Config(data={"rainy": pattern, "clean": tmp_path / "clean", "val_rainy": pattern, "val_clean": photos})
    told = []
    domains = load_domains(config.data, tmp_path / "cache", told.append)
    assert isinstance(domains.rainy, ShardSet)
    assert isinstance(domains.clean, ImageSet)
    assert [pair.name for pair in domains.val] == domains.rainy.names
    assert any("in both data.rainy and data.val_clean" in line for line in told)


def test_a_run_on_shards_ends_in_the_bits_of_one_on_folders_also_when_it_is_resumed(config, tmp_path):
    of_folders = train(config, scorer=darkness, quiet=True)
    data = {name: write_shards(Path(folder), tmp_path / f"{name}-shards", 1) for name, folder in config["data"].items()}
    change = {"data": data | {"cache_gib": 0}, "out": str(tmp_path / "shards-run")}
    of_shards = merge(config, change)
    train(of_shards | {"stage1_iterations": 6, "stage2_iterations": 1}, scorer=darkness, quiet=True)
    resumed = train(of_shards, scorer=darkness, quiet=True, resume=True)
    mine, theirs = (load_checkpoint(result.run_dir / "checkpoint.pt") for result in (of_folders, resumed))
    assert mine["step"] == 10
    for part in mine:
        assert same_bits(mine[part], theirs[part]), part
    assert of_folders.metrics == resumed.metrics
