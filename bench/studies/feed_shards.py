"""The speed of crops from tar shards, against the memory-mapped cache of the same images, and how long a step waits.

python bench/studies/feed_shards.py FOLDER [--work SECONDS]    needs webdataset
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from webdataset import ShardWriter

from rgsud_fast.config import Config
from rgsud_fast.data import Domains, FolderSet, ImageSet, list_images
from rgsud_fast.data.shard_set import THREADS, ShardSet
from rgsud_fast.training.feed import Feed

STEPS = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of images")
    parser.add_argument("--work", type=float, default=0.3, help="seconds that a step takes beside its crops")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        pattern = pack(args.folder, Path(scratch))
        mapped = FolderSet.from_folder(args.folder, scratch)
        began = time.perf_counter()
        shards = ShardSet.open(pattern, scratch, 0)
        indexed = time.perf_counter() - began
        kept = ShardSet.open(pattern, scratch, 64)
        list(kept)
        pixels = sum(height * width for height, width in mapped.sizes) / len(mapped) / 1e6
        print(f"{len(mapped)} images of {pixels:.2f} megapixels; {THREADS} threads decode; indexed in {indexed:.1f} s")
        for name, images in (("mapped cache", mapped), ("shards, all kept", kept), ("shards, none kept", shards)):
            (alone, used), (wait, _) = measure(images, 0), measure(images, args.work)
            crops = 2 * Config().batch
            print(
                f"{name:>18}: {crops / alone:7.0f} images/s, {crops / used:7.0f} per second of one core; "
                f"a step of {args.work:g} s waits {1000 * wait:5.1f} ms"
            )


def pack(folder: Path, target: Path) -> str:
    """Write the images of a folder as shards of 32."""
    paths = list_images(folder)
    with ShardWriter(str(target / "%03d.tar"), maxcount=32, verbose=0) as writer:
        for number, path in enumerate(paths):
            writer.write({"__key__": f"{number:06d}", path.suffix[1:].lower(): path.read_bytes()})
    return str(target / f"{{000..{(len(paths) - 1) // 32:03d}}}.tar")


def measure(images: ImageSet, work: float) -> tuple[float, float]:
    """Seconds that the crops of an iteration of preset paper take, rainy and clean, after so much other work.

    Returns:
        Their median, and the mean of what all cores together spend on it.
    """
    feed, taken = Feed(Config(), Domains(images, images), torch.device("cpu")), []
    used = time.process_time()
    for step in range(STEPS):
        time.sleep(work)
        began = time.perf_counter()
        feed.images(step)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[2:]), (time.process_time() - used) / STEPS


if __name__ == "__main__":
    main()
