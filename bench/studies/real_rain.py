"""Real rainy photographs before and after a run, or a toolbox, derains them, with no-reference scores.

NIQE (lower is better) uses the natural-image model of --niqe, an .npz file; the domain score
(higher is better) is the run's own, without the plausibility terms.

    python bench/studies/real_rain.py RUN --photos DIR --out OUT  # derained/*.png, gallery.html, scores.json in OUT
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import rgsud_fast
from rgsud_fast.data import list_images, read_image, to_tensor
from rgsud_fast.iqa import Scorer, load_scorer
from rgsud_fast.iqa.niqe import NiqeScorer
from rgsud_fast.runs.html import Comparison, comparisons, write_gallery
from rgsud_fast.system.files import write_text


def main() -> None:
    args = _arguments()
    photos = list_images(args.photos)
    derained = rgsud_fast.derain(args.run, photos, args.out / "derained", device=args.device)
    own = args.run / "scorer.safetensors"  # a toolbox has none
    scorers: dict[str, Scorer] = {"domain": load_scorer(own)} if own.is_file() else {}
    scorers["NIQE"] = load_scorer(args.niqe)
    shown, table = [], {}
    for photo, result in zip(photos, derained, strict=True):
        before, after = (to_tensor(read_image(path)) for path in (photo, result))
        scores = {name: tuple(_score(scorer, image) for image in (before, after)) for name, scorer in scorers.items()}
        scores["mean change"] = float((after - before).abs().mean())
        table[photo.name] = scores
        shown.append(Comparison(photo.name, before, after, scores))
    write_text(args.out / "scores.json", json.dumps(table, indent=2) + "\n")
    write_gallery(
        args.out / "gallery.html",
        f"{len(photos)} real rainy photographs, derained by {args.run.name}",
        comparisons("Before and after", shown, "NIQE: lower is better. Domain score: higher is better."),
    )
    for name in scorers:
        before, after = (sum(scores[name][i] for scores in table.values()) / len(table) for i in (0, 1))
        sign = -1 if name == "NIQE" else 1
        changes = [sign * (scores[name][1] - scores[name][0]) for scores in table.values()]
        better, worse = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
        print(f"{name}: {before:.3f} before, {after:.3f} after, better on {better} of {len(table)}, worse on {worse}")
    print(f"left alone: {sum(scores['mean change'] == 0 for scores in table.values())}")
    print(f"look at {args.out / 'gallery.html'}")


def _score(scorer: Scorer, image) -> float:
    value = float(scorer.score(image[None])[0])
    return -value if isinstance(scorer, NiqeScorer) else value


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = os.environ.get("RGSUD_DATA")
    parser.add_argument("run", type=Path, help="run folder, or a toolbox")
    parser.add_argument("--photos", type=Path, default=data and Path(data) / "real_rain", required=not data)
    parser.add_argument(
        "--niqe", type=Path, default=data and Path(data) / "iqa/niqe_pris_params.npz", required=not data
    )
    parser.add_argument("--out", type=Path, default=Path("runs/real-rain"))
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


if __name__ == "__main__":
    main()
