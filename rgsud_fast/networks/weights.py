"""Weights on disk: every network of a run as safetensors, which hold numbers and text and can run no code.

A derainer is read from others' files and from an unfinished run's checkpoint as well.
"""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..config.parts import Kind
from ..errors import UserError
from ..system.files import replacing
from ..system.given import check_weights
from ..system.hub import fetch, is_hub_name
from ..system.names import takes_home, utf8_name
from ..system.safetensors_bytes import safetensors_bytes
from ..system.torch_files import load_tensors
from ..version import version
from .derainers.layouts import build_derainer, is_torch_file, layout_of, read_published
from .known import KINDS, classes_of

FORMAT = "rgsud_fast 1"
RESERVED = ("format", "kind", "sizes", "class", "version")  # metadata that is written with every network
CROP = "crop"  # in a run's metadata: side of the training crops, which local statistics go by
RAIN_FROM = "rain_from"  # in a run's metadata: the network whose clean estimate the generator has learned to go by
LOG = "metrics.jsonl"  # of a run
CHECKPOINT = "checkpoint.pt"  # of a run; the derainer of an unfinished one is read from it
METHOD = "method"  # in a run's metadata: what trained it; older files, which lack it, are RGSUD's
NO_RAIN = "nothing"  # where the method paints no rain
PASTED = "pasted"  # or this, where a run has no generator: rain is what the derainer takes away


@takes_home
def save_network(path: str | Path, module: nn.Module, kind: Kind, metadata: dict[str, str] | None = None) -> None:
    """Write a network's weights, with what is needed to build it again.

    Args:
        path: the file, KIND.safetensors in a run folder; replaced all at once.
        module: the network. The `sizes` (constructor keywords) of this package's networks are stored; without them,
            as with a network of the user's own, the file loads only through `load_state`.
        kind: what the network is.
        metadata: further text to store, such as the step or the preset.
    """
    with replacing(path) as temporary:
        # Not by `save_file`, whose error does not say as the system's does that the disk is full.
        temporary.write_bytes(pack_network(module, kind, metadata))


def pack_network(module: nn.Module, kind: Kind, metadata: dict[str, str] | None = None) -> bytes:
    """The bytes of the file that `save_network` writes.

    Raises:
        ValueError: the metadata has reserved names.
    """
    own = type(module) not in classes_of(kind).values()  # whose `sizes` may mean something else
    sizes = json.dumps(None if own else module.sizes)
    text = dict(zip(RESERVED, (FORMAT, kind, sizes, type(module).__name__, version()), strict=True))
    if clash := set(RESERVED) & (metadata or {}).keys():
        raise ValueError(f"metadata must not hold the reserved keys {sorted(clash)}")
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()}
    return safetensors_bytes(tensors, text | (metadata or {}))


@takes_home
def load_network(path: str | Path, kind: Kind | None = None) -> nn.Module:
    """Build a network from its weights file, ready to be used: on the CPU, in eval mode, without gradients.

    Args:
        path: a .safetensors file of `save_network`, or a run folder, which stands for the file of that kind in it; of
            an unfinished run its checkpoint, with a warning that says so. A derainer also as others publish it
            (see `read_published`); and a toolbox's folder, which stands for its chain of tools.
        kind: what the network must be; None takes what the file says (in a run folder: the derainer).

    Raises:
        UserError: missing, damaged or foreign file, or another kind; the message names the file and the mend.
    """
    path = find_weights(path, kind or "derainer")
    if kind in (None, "derainer") and not _is_ours(path):
        return _foreign(path).eval().requires_grad_(False)
    text, tensors = read_tensors(path)
    found = text["kind"]
    if kind in (None, "derainer") and found in ("agent", "tool"):
        from .toolbox import load_box, load_tool  # which read from here

        return load_box(path.parent) if found == "agent" else load_tool(path)
    if kind is not None and found != kind:
        raise UserError(f"{path} holds a {found}, not a {kind}: give the run folder or its {kind}.safetensors")
    sizes = _sizes(path, text)
    if found not in KINDS or sizes is None:
        raise UserError(
            f"{path} holds a network of your own ({text.get('class', found)}): build it in Python and pass it with"
            " rgsud_fast.weights.load_state"
        )
    try:
        _check_sizes(sizes, tensors)
        with torch.device("meta"):  # takes no memory but what the file holds
            module = classes_of(found).get(text.get("class", ""), KINDS[found])(**sizes)
        copies = {name: tensor.to(torch.float32, copy=True) for name, tensor in tensors.items()}
        module.load_state_dict(copies, assign=True)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UserError(f"{path} does not fit the {found} of this version ({_short(error)}): train again") from None
    return module.eval().requires_grad_(False)


@takes_home
def load_state(path: str | Path, module: nn.Module) -> nn.Module:
    """Fill a network built by the caller, such as a derainer of their own, from a weights file or run folder.

    Raises:
        UserError: the file is missing, damaged or of another network.
    """
    path = find_weights(path, "derainer")
    if path.name == CHECKPOINT:
        raise UserError(f"{path.parent} is not finished: train --resume --out {path.parent} writes its weights")
    _, tensors = read_tensors(path)
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{path} does not fit the given {type(module).__name__}: {_short(error)}") from None
    return module


@takes_home
def read_metadata(path: str | Path) -> dict[str, str]:
    """The text stored with the weights: format, kind, sizes, class, version and what the trainer added.

    Others' files hold none of it; of an unfinished run's checkpoint it is the step.
    """
    path = find_weights(path, "derainer")
    if _is_ours(path):
        return read_tensors(path, tensors=False)[0]
    state = _state(path)
    return {} if state is None else {"step": str(state["step"])}


def find_weights(path: str | Path, kind: Kind = "derainer") -> Path:
    """The weights file a path stands for: itself, or KIND.safetensors of a run folder.

    The derainer of a run that is not finished is in its checkpoint.pt; that of a toolbox is its agent, with the tools
    beside it. A name hf:OWNER/REPO[/FILE] stands for the copy of that file of the model hub in the cache (extra `hub`).

    Raises:
        UserError: there is none; the message says what to give or do.
    """
    if is_hub_name(path):
        return fetch(path, f"{kind}.safetensors")
    path = Path(path)
    if path.is_dir():
        inside = path / f"{kind}.safetensors"
        if kind == "derainer" and not inside.is_file() and (path / "tools").is_dir():
            return _agent_of(path)
        if not inside.is_file() and kind != "derainer" and _is_pasted(path / "derainer.safetensors"):
            raise UserError(f"{path} has no {kind}: its rain was pasted, and only the derainer was trained")
        if not inside.is_file() and kind == "derainer" and (path / CHECKPOINT).is_file():
            return path / CHECKPOINT
        if not inside.is_file() and (path / "tools").is_dir():
            raise UserError(f"{path} is a toolbox, which has no {kind}: give the folder of a run")
        if not inside.is_file() and (path / CHECKPOINT).is_file():
            raise UserError(f"{path} is not finished and has no {kind}.safetensors yet: train --resume --out {path}")
        if not inside.is_file():
            begun = "; its run goes on, or ended before anything was saved" if (path / "config.yaml").is_file() else ""
            raise UserError(f"{path} has no {kind}.safetensors: give a finished run folder or a weights file{begun}")
        if kind == "derainer" and _went_on(path, inside):
            warnings.warn(
                f"{path} was trained on after its weights were written: these are the older ones;"
                f" train --resume --out {path} writes the new ones",
                stacklevel=3,
            )
        return inside
    check_weights(path, kind)
    return path


def _went_on(run: Path, weights: Path) -> bool:
    """Whether a run logged later steps than that of its weights, and can be resumed."""
    log = run / LOG
    if not (run / CHECKPOINT).is_file() or not log.is_file() or not _is_ours(weights):
        return False
    written = read_tensors(weights, tensors=False)[0].get("step", "")
    last = re.findall(rb'"step": (\d+)', log.read_bytes()[-(2**14) :])
    return bool(last) and written.isdecimal() and int(last[-1]) > int(written)


def _agent_of(box: Path) -> Path:
    """The agent of a toolbox, which stands for its chain of tools."""
    if not (box / "agent.safetensors").is_file():
        raise UserError(f"{box} is a toolbox without an agent yet: rgsud-fast toolbox train --resume --out {box}")
    return box / "agent.safetensors"


def _is_ours(path: Path) -> bool:
    """Whether `read_tensors` is the one to read a file, or to say what is wrong with it."""
    if is_torch_file(path):
        return False
    try:
        with utf8_name(path) as name, safe_open(name, framework="pt") as file:
            return "format" in (text := file.metadata() or {}) and text["format"] != "pt"
    except Exception:  # a damaged header makes its reader raise nearly anything
        return True


def _foreign(path: Path) -> nn.Module:
    """The derainer of a file that `save_network` has not written: an unfinished run's checkpoint, or somebody's."""
    state = _state(path)
    if state is None:
        return read_published(path)
    averaged = state.get("average")
    held = state["networks"].get("derainer")
    if isinstance(averaged, dict) and _is_counted(averaged.get("n_averaged")):  # not where the average is off
        held = {str(name).removeprefix("module."): value for name, value in averaged.items() if name != "n_averaged"}
    tensors = isinstance(held, dict) and all(isinstance(value, Tensor) for value in held.values())
    if not isinstance(held, dict) or not tensors or layout_of(held) is None:
        raise UserError(f"{path} holds a derainer of your own: train --resume --out {path.parent} writes it as weights")
    warnings.warn(
        f"{path.parent} is not finished: these are its weights at step {state['step']};"
        f" train --resume --out {path.parent} continues it",
        stacklevel=3,
    )
    return build_derainer(path, held)


def _is_counted(count: Any) -> bool:
    return isinstance(count, (int, Tensor)) and bool(torch.as_tensor(count).sum() > 0)


def _state(path: Path) -> dict[str, Any] | None:
    """The training state in a file; None where it is something else, or cannot be read."""
    if not is_torch_file(path):
        return None
    try:
        state = load_tensors(path)
    except (OSError, ValueError):
        return None
    kinds = {"version": int, "step": int, "sweeps": int, "networks": dict}
    ours = isinstance(state, dict) and all(type(state.get(name)) is kind for name, kind in kinds.items())
    return state if ours else None


def _is_pasted(path: Path) -> bool:
    return path.is_file() and read_tensors(path, tensors=False)[0].get(RAIN_FROM) == PASTED


def read_tensors(path: Path, tensors: bool = True) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The text of a file of this package, its `kind` among it, and its tensors by name.

    Raises:
        UserError: it cannot be read, or is of somebody else or another format.
    """
    try:
        with utf8_name(path) as opened, safe_open(opened, framework="pt") as file:
            text = file.metadata() or {}
            read = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118
    except Exception as error:  # a damaged header makes its reader raise nearly anything
        raise UserError(
            f"{path} is not a readable safetensors file ({_short(error)}): give derainer.safetensors of a run"
        ) from None
    if not text.get("format", "").startswith("rgsud_fast") or "kind" not in text:
        raise UserError(f"{path} was not written by rgsud_fast: give derainer.safetensors of a run")
    if text["format"] != FORMAT:
        raise UserError(f"{path} has format {text['format']!r}, this version reads {FORMAT!r}: update rgsud_fast")
    return text, read


def _sizes(path: Path, text: dict[str, str]) -> dict | None:
    try:
        sizes = json.loads(text.get("sizes", "null"))
    except (ValueError, RecursionError):
        sizes = False
    if sizes is not None and not isinstance(sizes, dict):
        raise UserError(f"{path} is damaged: its sizes cannot be read; copy or train it again")
    return sizes


def _check_sizes(sizes: dict, tensors: dict[str, Tensor]) -> None:
    """Refuse sizes that ask for more modules than the file has tensors for, or for more channels than any of them.

    Raises:
        ValueError: they do.
    """
    numbers = [n for value in sizes.values() for n in (value if isinstance(value, list) else [value])]
    longest = max((side for tensor in tensors.values() for side in tensor.shape), default=0)
    plain = all(isinstance(n, (int, float)) and n >= 0 for n in numbers)
    if not plain or sum(numbers) > longest + len(tensors) or sizes.get("width") == 0:
        raise ValueError(f"the sizes {str(sizes)[:60]} for {len(tensors)} tensors")


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 120 else text[:117] + "..."
