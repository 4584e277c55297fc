"""Nothing that a configuration, a name or somebody else's run folder holds leads out of the output folder."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny import darkness

from rgsud_fast import derain, train
from rgsud_fast.cli.arguments import read_train
from rgsud_fast.config import load_config
from rgsud_fast.data import FolderSet
from rgsud_fast.errors import UserError
from rgsud_fast.inference.inputs import Source
from rgsud_fast.inference.outputs import targets_of
from rgsud_fast.inference.rain import rain
from rgsud_fast.networks import NAFNet, RainGenerator, UNet
from rgsud_fast.networks.weights import save_network
from rgsud_fast.runs.folder import RunFolder, open_run
from rgsud_fast.runs.html import Comparison, Panel, Row, comparisons, curves, rows, write_gallery

SCRIPTS = (  # "/" cannot be in the name of a file
    "<script>alert(1)<script>.png",
    '"><img src=x onerror=alert(1)>.png',
    "' onload='alert(1).png",
    "<!--.png",
    "{title}{0}&lt;b&gt;.png",
    "x..png",
    "-rf.png",
    "a\nb\x1b[2J.png",
    "$(touch x);`touch x`.png",
)


def everything_under(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def photographs(folder: Path, names=SCRIPTS, size=(40, 36)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in names:
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name, "PNG")
    return folder


class Tags(HTMLParser):
    """The elements of a page and the attributes of each."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def assert_harmless(html: str) -> None:
    """One script, ours; no handler; nothing from elsewhere."""
    tags = Tags(html).found
    assert [tag for tag, _ in tags].count("script") == 1
    assert html.count("<script") == 1
    for _, attributes in tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("src", "data:").startswith("data:")
    assert "<!--" not in html


def test_a_run_on_images_with_hostile_names_writes_into_its_folder_alone(config, tmp_path):
    for name in ("rainy", "clean", "val_rainy", "val_clean"):
        photographs(tmp_path / name)
    before = everything_under(tmp_path)
    result = train(config, scorer=darkness, quiet=True)
    written = everything_under(tmp_path) - before
    assert all(path == "run" or path.startswith("run/") for path in written)
    html = (result.run_dir / "gallery.html").read_text()
    assert_harmless(html)
    assert "&lt;script&gt;alert(1)&lt;script&gt;.png" in html


def test_no_text_of_a_gallery_is_html(tmp_path):
    image = torch.rand(3, 8, 8)
    for i, bad in enumerate(SCRIPTS):
        log = [{"step": 1, "event": "train", bad: 1.0}]
        write_gallery(
            tmp_path / f"{i}.html",
            bad,
            comparisons(bad, [Comparison(bad, image, image, {bad: (1.0, 2.0)})], bad, (bad, bad)),
            rows(bad, [Row(bad, [Panel(bad, image, bad), Panel(bad, None, bad)], {bad: 1.0})], bad),
            curves(bad, log, (), {bad: (bad, 1.0)}, bad),
            subtitle=bad,
        )
        assert_harmless((tmp_path / f"{i}.html").read_text())


def test_derained_images_of_hostile_names_stay_in_the_output_folder(tmp_path):
    inside = photographs(tmp_path / "in" / "sub" / "x..d").parent.parent
    photographs(inside)
    before = everything_under(tmp_path)
    written = derain(NAFNet(2, [1], 1, [1]), inside, tmp_path / "out")
    assert len(written) == len(set(written)) == 2 * len(SCRIPTS)
    new = everything_under(tmp_path) - before
    assert all(path == "out" or path.startswith("out/") for path in new)


@pytest.mark.parametrize("name", ["../x.png", "/etc/x.png", "a/../../x.png", "a/../../../tmp/x.jpg"])
def test_a_source_of_a_name_that_leads_out_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="leads out of"):
        targets_of([Source(name, lambda: torch.rand(1, 3, 8, 8))], [], tmp_path / "out")


def test_a_link_in_the_output_folder_is_not_followed(tmp_path):
    photographs(tmp_path / "in" / "sub", ["one.png"])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"sub/one\.png leads out of"):
        derain(NAFNet(2, [1], 1, [1]), tmp_path / "in", tmp_path / "out")
    assert not any((tmp_path / "elsewhere").iterdir())


def test_a_link_in_place_of_an_output_file_is_replaced_and_its_target_kept(tmp_path):
    photographs(tmp_path / "in", ["one.png"])
    (tmp_path / "out").mkdir()
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "out" / "one.png").symlink_to(tmp_path / "precious")
    derain(NAFNet(2, [1], 1, [1]), tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "precious").read_text() == "kept"
    assert not (tmp_path / "out" / "one.png").is_symlink()


def test_pseudo_pairs_of_hostile_names_stay_in_their_two_folders(tmp_path):
    for kind, network in {"unet": UNet(2, 2), "generator": RainGenerator(2, 1)}.items():
        save_network(tmp_path / "run" / f"{kind}.safetensors", network, kind)
    photographs(tmp_path / "clean" / "x..d")
    photographs(tmp_path / "rainy")
    before = everything_under(tmp_path)
    rain(tmp_path / "run", tmp_path / "clean", tmp_path / "rainy", tmp_path / "out")
    new = everything_under(tmp_path) - before
    assert all(re.fullmatch(r"out|out/(rainy|clean)(/[^/]+)?", path, re.DOTALL) for path in new)
    assert len(list((tmp_path / "out" / "rainy").iterdir())) == len(SCRIPTS)


def strangers_run(config, tmp_path, **changes) -> Path:
    """A finished run whose config.yaml has been changed, as somebody might hand it on."""
    folder = train(config, scorer=darkness, quiet=True).run_dir
    fields = yaml.safe_load((folder / "config.yaml").read_text())
    data = fields["data"] | changes.pop("data", {})
    (folder / "config.yaml").write_text(yaml.safe_dump(fields | {"data": data} | changes))
    return folder


def test_out_in_a_strangers_configuration_redirects_nothing(config, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    folder = strangers_run(config, tmp_path, out=str(elsewhere), stage2_iterations=5)
    read, resume, _ = read_train(["--resume", "--out", str(folder)])
    assert (read.out, resume) == (folder, True)
    before = everything_under(tmp_path)
    train(read, scorer=darkness, resume=True, quiet=True)
    assert not elsewhere.exists()
    assert all(path.startswith("run/") for path in everything_under(tmp_path) - before)


def test_a_cache_elsewhere_in_a_strangers_configuration_must_be_named_by_the_user(tmp_path):
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    folder.mkdir()
    fields = {"preset": "small", "data": {"rainy": "r", "clean": "c", "cache_dir": str(elsewhere)}}
    (folder / "config.yaml").write_text(yaml.safe_dump(fields))
    resume = ["--resume", "--out", str(folder)]
    with pytest.raises(UserError, match=r"puts the image cache into .*outside the run: if you want it there"):
        read_train(resume)
    for named in ([f"--data.cache-dir={elsewhere}"], ["--data.cache-dir", str(elsewhere)]):
        assert read_train(resume + named)[0].data.cache_dir == elsewhere
    fields["data"]["cache_dir"] = str(folder / "cache")
    (folder / "config.yaml").write_text(yaml.safe_dump(fields))
    assert read_train(resume)[0].data.cache_dir == folder / "cache"


@pytest.mark.parametrize("name", ["metrics.jsonl", "events", "cache", "cache/pool.bytes"])
def test_links_in_a_strangers_run_folder_are_not_written_through(tmp_path, name):
    run = RunFolder(tmp_path / "run")
    (run.path / name).parent.mkdir(parents=True)
    run.checkpoint.touch()
    precious = tmp_path / "precious"
    precious.write_text("kept") if "." in name else precious.mkdir()
    (run.path / name).symlink_to(precious)
    with pytest.raises(UserError, match="is a link that leads out of the run folder"):
        open_run(load_config({"preset": "small", "out": str(run.path)}), resume=True)
    assert precious.is_dir() or precious.read_text() == "kept"


def test_links_in_place_of_whole_files_are_replaced(config, tmp_path):
    folder = train(config, scorer=darkness, quiet=True).run_dir
    (tmp_path / "precious").mkdir()
    kept = {}
    for name in ("config.yaml", "metrics.json", "gallery.html", "derainer.safetensors", "checkpoint.pt"):
        precious = (folder / name).rename(tmp_path / "precious" / name)
        kept[precious] = precious.read_bytes()
        (folder / name).symlink_to(precious)
    train(config | {"stage2_iterations": 5}, scorer=darkness, resume=True, quiet=True)
    for precious, content in kept.items():
        assert precious.read_bytes() == content
        assert not (folder / precious.name).is_symlink()


def test_a_run_folder_that_is_a_link_of_the_users_is_written_to(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    assert open_run(load_config({"preset": "small", "out": str(tmp_path / "run")}), resume=False)


def test_paths_with_a_nul_are_refused():
    for field in ({"out": "a\0b"}, {"data": {"rainy": "a\0b"}}, {"data": {"cache_dir": "\0"}}):
        with pytest.raises(UserError, match="a path cannot hold the character NUL"):
            load_config({"preset": "small"} | field)


def test_a_cache_is_named_by_hashes_alone(tmp_path):
    FolderSet.from_folder(photographs(tmp_path / "a ..b"), tmp_path / "cache")
    for path in (tmp_path / "cache").iterdir():
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{16}\.(rgb|json)", path.name)
