"""What a shard may be: plain tar files at local paths and http(s) addresses; nothing runs and nothing is unpacked."""

from __future__ import annotations

import http.server
import json
import re
import sys
import tarfile
import threading
from functools import partial
from pathlib import Path

import pytest
from tars import png, same, write_tar

from rgsud_fast.data import shard_index
from rgsud_fast.data.shard_files import Shard, expand
from rgsud_fast.errors import UserError


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


def test_members_of_kinds_that_are_not_read_are_counted_by_ending(opened, tmp_path, monkeypatch):
    kinds = ["1.png", "a.gif", "b.MOV", "c.gif", "d.nef", "5.json", ".trash/e.gif", "@eaDir/f.png", "g.txt"]
    pattern = write_tar(tmp_path / "a-0.tar", dict.fromkeys(kinds, png()))
    write_tar(tmp_path / "a-1.tar", {"2.png": png(1), "h.gif": b""})
    for _ in range(2):  # also by the index
        images = opened(str(tmp_path / "a-{0..1}.tar"))
        assert images.names == ["1.png", "2.png"]
        assert images.passed_over == "3 .gif, 1 .mov, 1 .nef"
    write_tar(tmp_path / "b.tar", {"a.gif": b""})
    with pytest.raises(UserError, match=r"no image in these shards; passed over: 1 \.gif"):
        opened(str(tmp_path / "b.tar"))
    assert len(images.names) == len(opened(pattern).names) + 1


def test_an_index_is_made_anew_where_other_kinds_are_read(opened, tmp_path, monkeypatch):
    pattern = write_tar(tmp_path / "a.tar", {"1.png": png(), "2.heic": png(1)})  # whatever a name ends in
    monkeypatch.setattr(shard_index, "READABLE", frozenset({".png"}))
    images = opened(pattern)
    assert images.names == ["1.png"]
    assert "1 .heic (HEIC is read with the extra heif" in images.passed_over
    for kinds, names in (({".png", ".heic"}, ["1.png", "2.heic"]), ({".png"}, ["1.png"])):
        monkeypatch.setattr(shard_index, "READABLE", frozenset(kinds))
        assert opened(pattern).names == names


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
    "damage",
    [
        lambda text: "[" * 100_000,
        lambda text: text.replace("{}", "[]"),
        lambda text: re.sub(r", \d+, ", ", -1, ", text),
        lambda text: re.sub(r'"[0-9a-f]{32}"', "3", text),
        lambda text: text.replace('"passed": {}', '"passed": {".gif": "many"}'),
    ],
    ids=["deep", "skipped", "numbers", "digests", "passed"],
)
def test_an_index_that_somebody_damaged_is_made_anew(opened, pattern, tmp_path, damage):
    first = opened(pattern)
    path = next((tmp_path / "indices").glob("*.shard"))
    path.write_text(damage(path.read_text()))
    same(opened(pattern), first)


def test_an_index_cannot_lie_about_sizes(opened, pattern, tmp_path):
    opened(pattern)
    for path in (tmp_path / "indices").glob("*.shard"):
        kept = json.loads(path.read_text())
        kept["entries"] = [[name, begin, length, 9000, *rest] for name, begin, length, _, *rest in kept["entries"]]
        path.write_text(json.dumps(kept))
    with pytest.raises(UserError, match="no longer what it was"):
        opened(pattern)[0]


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
    with pytest.raises(UserError, match=re.escape("pip install -e '.[shards]'")):
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
