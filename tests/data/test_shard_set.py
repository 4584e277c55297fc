"""Tar shards are the same set as a folder of their images, for whatever asks for these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tars import png, same, write_shards, write_tar
from tiny import darkness, same_bits

from rgsud_fast.config import Config, merge
from rgsud_fast.data import Domains, FolderSet, load_domains, to_batch, to_tensor, write_image
from rgsud_fast.data import shard_index as index_module
from rgsud_fast.data.shard_set import ShardSet
from rgsud_fast.errors import UserError
from rgsud_fast.rewards.pool import RewardPool
from rgsud_fast.runs.checkpoint import load_checkpoint
from rgsud_fast.training import train
from rgsud_fast.training.feed import Feed


def test_shards_are_the_set_that_a_folder_of_their_files_is(photos, pattern, opened, tmp_path):
    images = opened(pattern)
    same(images, FolderSet.from_folder(photos, tmp_path / "cache"))
    assert images.names == ["9.png", "10.png", "11.png", "12.png", "13.png"]
    assert np.array_equal(images[-1], images[4])
    with pytest.raises(IndexError):
        images[5]
    with pytest.raises(ValueError, match="read-only"):
        images[0][0, 0] = 0


def test_the_second_opening_decodes_nothing_and_a_changed_shard_is_read_again(photos, pattern, opened, monkeypatch):
    first = opened(pattern)
    read = []
    monkeypatch.setattr(index_module, "decode_all", lambda files: read.append(files) or iter(()))
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
    folder, shards = FolderSet.from_folder(photos, tmp_path / "cache"), opened(pattern, gib)
    config = Config(preset="small-gan", crop=48, optim={"discriminator_reals": reals})  # some images are smaller
    feeds = [Feed(config, Domains(images, images), torch.device("cpu")) for images in (folder, shards)]
    pool = RewardPool(folder.sizes)
    for index in (0, 3):
        pool.update([index], 1 - to_batch(folder[index]), torch.tensor([1.0]))
    for step in (0, 1, 2, 7):
        for known in (None, pool):
            mine, theirs = (feed.images(step, known) for feed in feeds)
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        assert all(torch.equal(*both) for both in zip(*(feed.pair(step).values() for feed in feeds), strict=True))


def test_memory_for_decoded_images_is_bounded(pattern, opened):
    images = opened(pattern, 20_000 / 2**30)
    for image in [*images, *images]:
        assert image.size
    assert 0 < sum(image.nbytes for image in images._kept.values()) <= 20_000


def test_what_is_announced_is_decoded_before_it_is_asked_for(pattern, opened, monkeypatch):
    images = opened(pattern, 0)
    feed = Feed(Config(preset="small-gan", crop=32), Domains(images, images), torch.device("cpu"))
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


def test_shards_and_folders_stand_beside_one_another(photos, pattern, tmp_path):
    for i in range(2):
        write_image(tmp_path / "clean" / f"{i}.png", to_tensor(np.full((40, 40, 3), i, np.uint8)))
    config = Config(data={"rainy": pattern, "clean": tmp_path / "clean", "val_rainy": pattern, "val_clean": photos})
    told = []
    domains = load_domains(config.data, tmp_path / "cache", told.append)
    assert isinstance(domains.rainy, ShardSet)
    assert isinstance(domains.clean, FolderSet)
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
