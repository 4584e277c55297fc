"""UniRain: what judges find, what retrieval brings, what distilled data is worth, and what it all costs.

    python bench/unirain.py judges --data DIR      # planted faults by specialist, trusted loss, a foreign set
    python bench/unirain.py retrieval --data DIR   # share of the query's type among what is found, level by level
    python bench/unirain.py distilled --data DIR   # train on good, merged and distilled pairs: one budget, two seeds
    python bench/unirain.py cost --data DIR        # seconds of an index and of a pair, searches, memory

DIR (default $RGSUD_DATA) holds clean, real_rain and rain100l. One half of the clean photographs is rendered in four
types to fit what judges; the other half, of other scenes, is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent / "studies"))
import distillation

from rgsud_fast.system.files import write_text

# Each takes the arguments and returns figures; the first line of its docstring is its help.
PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "judges": distillation.judges,
    "retrieval": distillation.retrieval,
    "distilled": distillation.distilled,
    "cost": distillation.cost,
}


def main() -> None:
    """Measure one part, and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=list(PARTS))
    parser.add_argument("--data", type=Path, default=os.environ.get("RGSUD_DATA"), help="folder of real images")
    parser.add_argument("--out", type=Path, default=Path("runs/unirain"), help="where rendered pairs and indices go")
    parser.add_argument("--iterations", type=int, help="of the type network's fit, or of a training")
    parser.add_argument("--spoiled", type=int, default=8, help="pairs of each type that get each fault")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.data is None:
        parser.error("--data DIR or RGSUD_DATA names the folder of real images")
    torch.set_num_threads(args.threads)
    figures = PARTS[args.what](args)
    if args.json:
        write_text(args.json, json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
