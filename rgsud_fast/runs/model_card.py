"""The model card: a README.md beside the weights that a model hub understands and that says what they are."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from ..config.figures import FIGURES, FILTER, ROWS
from ..config.load import read_yaml
from ..config.parts import PARTS
from ..config.unread import reads
from ..errors import UserError
from ..networks.weights import read_metadata
from ..system.files import write_text
from ..system.names import printable
from ..version import version
from .folder import RunFolder

_MARK = re.compile(r"<!-- rgsud_fast wrote this and replaces it as long as it is unchanged: ([0-9a-f]{64}) -->\n\Z")
_TAGS = ["image-restoration", "deraining", "rain-removal", "unsupervised", "rgsud"]
SOURCES = {  # of methods that rewards teach beside RGSUD
    "cyclegan": "CycleGAN, Zhu et al., ICCV 2017",
    "cut": "CUT, Park et al., ECCV 2020",
    "csud": "CSUD, CVPR 2025",
    "dcdgan": "DCD-GAN, Chen et al., CVPR 2022",
    "nlcl": "NLCL, Ye et al., CVPR 2022",
    "deraincyclegan": "DerainCycleGAN, Wei et al., TIP 2021",
}
# How to use each file that may lie beside the card.
_USES = {
    "derainer.safetensors": """\
```python
import rgsud_fast  # from a clone of its code: pip install -e .

image = rgsud_fast.derain("derainer.safetensors", "photo.jpg")  # [3, H, W] in [0, 1]
```""",
    "derainer.onnx": """\
```python
import onnxruntime

session = onnxruntime.InferenceSession("derainer.onnx")
(derained,) = session.run(None, {"rainy": rainy})  # float32 RGB [N, 3, H, W] in [0, 1], any size; clip the result
```""",
    "derainer.pt": """\
```python
import torch

derained = torch.jit.load("derainer.pt")(rainy).clamp(0, 1)  # float32 RGB [N, 3, H, W] in [0, 1], any size
```""",
    "derainer.pth": "`derainer.pth` holds the same weights under the names of its authors' code.",
}
_OWN = """\
```python
import rgsud_fast  # from a clone of its code: pip install -e .

network = rgsud_fast.weights.load_state("derainer.safetensors", network)  # one that its own code has built
image = rgsud_fast.derain(network, "photo.jpg")  # [3, H, W] in [0, 1]
```"""

_CITATION = """\
The method is RGSUD (CVPR 2026, arXiv 2605.00719), whose authors are named there; rgsud_fast implements it anew.

```bibtex
@misc{rgsud,
  title         = {{RGSUD}},
  year          = {2026},
  eprint        = {2605.00719},
  archivePrefix = {arXiv},
  note          = {CVPR 2026; authors and full title: arXiv 2605.00719}
}
```"""


def write_card(folder: Path, run: Path | None = None) -> Path | None:
    """Write README.md into a folder with weights.

    Args:
        folder: where the weights are; the card says how to use the files found in it.
        run: the run folder that they come from, whose configuration and metrics are told.

    Returns:
        The card; None where a README.md stands that is not ours, or that somebody has changed, which is left alone.
    """
    path = folder / "README.md"
    if path.exists() and not _is_ours(path):
        return None
    text = printable(model_card(run or folder, {file.name for file in folder.iterdir()}))
    mark = f"<!-- rgsud_fast wrote this and replaces it as long as it is unchanged: {_digest(text)} -->"
    write_text(path, f"{text}\n{mark}\n")
    return path


def model_card(run: Path, files: set[str]) -> str:
    """The card's text, without a path of this machine.

    Args:
        run: folder of the run, with its weights, and config.yaml and metrics.json where it is whole.
        files: names of the files that the card stands beside.
    """
    folder = RunFolder(run)
    name = run.resolve().name
    config = without_paths(read_yaml(folder.config)) if folder.config.exists() else {}
    metrics = _metrics(folder)
    told = [
        "---",
        yaml.safe_dump(_front_matter(name, config, metrics), sort_keys=False).rstrip(),
        "---",
        f"# {name}: rain removal",
        f"Removes rain from photographs. {_how(config)}{_training_text(folder, config, metrics)}",
        "## Use",
        *(_use_of(run, file) for file in _USES if file in files),
        *filter(None, [_others(files, _method(config))]),
        "## Results",
        _results(metrics),
        "## Data",
        _data(config, metrics),
        "## How to cite",
        _CITATION,
        "## Licence",
        "The code of rgsud_fast is under Apache-2.0. These weights are of whoever trained them, and the terms of the "
        "photographs that they were trained on may bind their use too: whoever publishes them names both here.",
    ]
    if config:
        told += ["## Configuration", f"```yaml\n{yaml.safe_dump(config, sort_keys=False)}```"]
    return "\n".join(told[:3]) + "\n\n" + "\n\n".join(told[3:]) + "\n"


def _front_matter(name: str, config: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    """What a model hub reads."""
    front: dict[str, Any] = {
        "license": "other",
        "license_name": "of-the-trainer-and-the-training-data",
        "library_name": "rgsud_fast",
        "pipeline_tag": "image-to-image",
        "tags": [*_TAGS, _derained_by(config)],
    }
    if "psnr_rgb" in metrics:
        folder = config.get("data", {}).get("val_rainy") or "validation pairs"
        figures = [
            {"type": figure.split("_")[0], "name": label, "value": round(metrics[figure], 4)}
            for figure, label in FIGURES.items()
        ]
        task = {"type": "image-to-image", "name": "Image deraining"}
        result = {"task": task, "dataset": {"type": folder, "name": folder}, "metrics": figures}
        front |= {"metrics": ["psnr", "ssim"], "model-index": [{"name": name, "results": [result]}]}
    return front


def _how(config: dict[str, Any]) -> str:
    """What trained it, as a sentence."""
    if _method(config) == "unirain":
        return f"Trained on labelled pairs by rgsud_fast {version()} (after UniRain, CVPR 2026, arXiv 2603.03967)."
    pairs = "without pairs" if not config.get("data", {}).get("pairs") else "on unpaired photographs and labelled pairs"
    if source := SOURCES.get(_method(config)):
        return (
            f"Trained {pairs} by rgsud_fast {version()} (after {source}, with the rewards of RGSUD, CVPR 2026, arXiv "
            "2605.00719)."
        )
    return (
        f"Trained {pairs} by rgsud_fast {version()} (RGSUD, reward-guided self-reinforcement unsupervised image "
        "deraining, arXiv 2605.00719)."
    )


def _training_text(folder: RunFolder, config: dict[str, Any], metrics: dict[str, Any]) -> str:
    """How the derainer in a folder came about, as sentences."""
    text = read_metadata(folder.path) if folder.weights("derainer").exists() else {}
    step, preset = str(metrics.get("steps", text.get("step", ""))), text.get("preset")
    whole = preset and step.isdecimal()
    told = f" Preset `{preset}`, {int(step):,} iterations, seed {text.get('seed')}." if whole else ""
    start = config.get("network", {}).get("derainer_start")
    return told + (f" The derainer started from the weights in `{start}`, whose terms hold as well." if start else "")


def _others(files: set[str], method: str) -> str:
    """The files of the networks that training needs beside the derainer, a line each."""
    kinds = {file: PARTS.get(method, {}).get(file.split(".")[0]) for file in sorted(files)}
    return "\n".join(f"- `{file}`: {part.does}" for file, part in kinds.items() if part and part.does)


def _derained_by(config: dict[str, Any]) -> str:
    """The derainer, where the method takes one, else the method, as a tag."""
    method = _method(config)
    takes = reads(method, "network.derainer")
    return (str(config.get("network", {}).get("derainer", "nafnet")) if takes else method).replace("_", "-")


def _method(config: dict[str, Any]) -> str:
    return str(config.get("method", "rgsud"))


def _results(metrics: dict[str, Any]) -> str:
    if "psnr_rgb" not in metrics:
        return "Nothing was measured: no validation pairs were given."
    lines = [f"| | {' | '.join(FIGURES.values())} |", "|---" * (1 + len(FIGURES)) + "|"]
    rows = ROWS | {FILTER: f"{ROWS[FILTER]} that learns nothing", "": "**this network**"}
    for prefix, label in rows.items():
        if f"{prefix}psnr_rgb" in metrics:
            cells = [
                f"{metrics[prefix + key]:.2f} dB" if key.startswith("psnr") else f"{metrics[prefix + key]:.4f}"
                for key in FIGURES
            ]
            lines.append(f"| {label} | {' | '.join(cells)} |")
    head = "Means over the validation pairs, whole images, rounded to 8 bits"
    if "kept_step" in metrics:
        head += f"; the weights, of step {metrics['kept_step']:,}, were chosen by these pairs, which flatters them"
    return "\n".join([f"{head}:\n", *lines])


def _data(config: dict[str, Any], metrics: dict[str, Any]) -> str:
    data = config.get("data", {})
    if data.get("demo"):
        return "The photographs embedded in rgsud_fast, with rendered rain."
    counts = {"rainy": "rainy_images", "clean": "clean_images", "val_rainy": "val_pairs", "val_clean": "val_pairs"}
    labels = {"rainy": "rainy", "clean": "clean, of other scenes", "val_rainy": "validation, rainy"}
    labels["val_clean"] = "validation, clean"
    lines = [f"| labelled pairs | `{folder}` | not counted |" for folder in data.get("pairs") or ()]
    lines += [
        f"| {labels[field]} | `{data[field]}` | {metrics.get(counts[field], 'not counted')} |"
        for field in labels
        if data.get(field)
    ]
    return "\n".join(["| | folder | images |", "|---|---|---|", *lines]) if lines else "Not recorded."


def _metrics(folder: RunFolder) -> dict[str, float]:
    """The numbers of metrics.json; none where there is no such file, or one that somebody damaged."""
    try:
        found = json.loads(folder.metrics.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: value for name, value in pairs if isinstance(value, (int, float))}


def _use_of(run: Path, file: str) -> str:
    """How to use a file beside the card; a network of the user's own is built by its own code."""
    return _OWN if file == "derainer.safetensors" and _is_own(run / file) else _USES[file]


def _is_own(weights: Path) -> bool:
    try:
        return json.loads(read_metadata(weights)["sizes"]) is None
    except (UserError, KeyError, ValueError):
        return False


def without_paths(value: Any) -> Any:
    """A configuration whose files and folders have lost the folders that they lie in, and without this machine's.

    Of an address its last part is kept alone: host, user and what signs it are nobody else's business. A name on a
    model hub stays whole: its terms hold.
    """
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items() if key not in ("out", "cache_dir")}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    if isinstance(value, str) and value.startswith("hf:"):
        return value
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        value = urlsplit(value).path
    return re.sub(r"[^:,\[\]]*[/\\]", "", value.rstrip("/\\")) if isinstance(value, str) else value


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _is_ours(path: Path) -> bool:
    """Whether a README.md is a card as it was written, in every character."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    mark = _MARK.search(text)
    return mark is not None and mark.group(1) == _digest(text[: mark.start()].removesuffix("\n"))
