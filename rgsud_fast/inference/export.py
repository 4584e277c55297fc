"""Networks for other programs: ONNX, TorchScript, plain weights and the authors' layouts, each checked when written."""

from __future__ import annotations

import contextlib
import copy
import functools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.export import Dim

from ..config.derainers import DerainerName
from ..config.parts import Kind, part_of
from ..errors import UserError, install, reason
from ..networks.derainers.layouts import LAYOUTS
from ..networks.derainers.start import read_derainer
from ..networks.known import DERAINERS
from ..networks.toolbox import Agent, Chain
from ..networks.weights import (
    CHECKPOINT,
    METHOD,
    RESERVED,
    find_weights,
    load_network,
    load_state,
    read_metadata,
    save_network,
)
from ..ops import use_backend
from ..runs.model_card import write_card
from ..system.files import replacing
from ..system.hub import is_hub_name
from ..system.names import takes_home
from .export_agent import difference, write_onnx
from .tiled_network import Weights

Run: TypeAlias = Callable[[Tensor], Tensor]  # what a written file computes
Format: TypeAlias = Literal["onnx", "torchscript", "safetensors", DerainerName]
SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt", "safetensors": ".safetensors"} | dict.fromkeys(DERAINERS, ".pth")
# The largest difference, as a share of the largest number that the network makes, or of 1; the paper's derainer: 6e-7.
BOUND = 1e-5
TRACED = (2, 40, 56)  # images, height, width that an exporter sees
CHECKED = ((1, 33, 47), (3, 64, 64), (1, 97, 130))  # and those that it does not
OPSET = 18


class Exported(NamedTuple):
    """What was written."""

    path: Path
    difference: float  # the largest over `CHECKED`, between the file's output and the network's
    card: Path | None  # the model card written beside it


@takes_home
def export(weights: Weights, to: Format, output: str | Path | None = None, *, network: Kind = "derainer") -> Exported:
    """Write a network for other programs, and compare what the file computes with the network on its native kernels.

    Height, width and number of images are free in the file, also odd sizes: padding and cropping are part of it.

    Args:
        weights: a run folder, a file of it, or a network of your own.
        to: `onnx` (standard operators of opset 18 alone), `torchscript`, `safetensors` (the weights under this
            package's names) or a derainer's name, such as `nafnet` (weights for its authors' code: a .pth with the
            tensors where that code keeps them, or, where `output` ends in .safetensors, the tensors alone).
        output: a file, or a folder, which gets KIND.onnx, .pt, .safetensors or .pth and a model card; None is beside
            the weights, called as they are.
        network: which network of the run.

    Raises:
        UserError: weights or output that cannot be used, an extra that is missing, a network that cannot be exported,
            or a file that computes something else by more than `BOUND`, and is not kept.
    """
    if to not in SUFFIXES:
        raise UserError(f"no export to {to!r}: choose one of {', '.join(SUFFIXES)}")
    source = None if isinstance(weights, nn.Module) else find_weights(weights, network)
    module = copy.deepcopy(weights).cpu().eval() if isinstance(weights, nn.Module) else load_network(weights, network)
    if isinstance(module, Chain) and to == "onnx" and source is not None and source == Path(str(weights)):
        return _export_agent(module.agent, source, output)
    if isinstance(module, Chain):
        raise UserError(
            f"{source or 'a chain'}: a chain of tools decides as it goes, which no file of {to} can: export its tools, "
            "each a file in the toolbox's folder tools, and, to onnx, its agent.safetensors"
        )
    passing = source is None or is_hub_name(str(weights)) or source.name == CHECKPOINT
    home = None if passing else source  # beside a cache or a checkpoint nothing is written that nobody asked for there
    target = _target(output, home, to, network)
    text = read_metadata(source) if source is not None else {}
    with replacing(target) as temporary:
        run = _WRITERS[to](module, network, temporary, text)
        difference = _difference(module, run, part_of(network, text.get(METHOD, "rgsud")).channels, target.name)
    return Exported(target, difference, _card(source, target, output))


def _export_agent(agent: Agent, source: Path, output: str | Path | None) -> Exported:
    """Write one step of an agent, which keeps its memory with the caller."""
    _demand_onnx()
    target = source.with_suffix(".onnx") if output is None else Path(output)
    target = target / "agent.onnx" if target.is_dir() or not target.suffix else target
    if target.suffix != ".onnx":
        raise UserError(f"{target} must end in .onnx for --to onnx, or be a folder")
    with replacing(target) as temporary:
        with _tracing("onnx"):
            run = write_onnx(agent, temporary, OPSET)
        differs = difference(agent, run)
        if not differs <= BOUND:
            raise UserError(f"{target.name} is not kept: it differs from the agent by {differs:.2g}")
    return Exported(target, differs, None)


def _target(output: str | Path | None, source: Path | None, to: Format, kind: Kind) -> Path:
    """The file to write."""
    name = f"{kind}{SUFFIXES[to]}"
    if output is None:
        if source is None:
            raise UserError("a network that is in no finished run or file needs an output: give a file or a folder")
        target = source.with_suffix(SUFFIXES[to])  # a file of a toolbox is called after its tool
    else:
        output = Path(output)
        target = output / name if output.is_dir() or not output.suffix else output
    endings = (".pth", ".safetensors") if to in DERAINERS else (SUFFIXES[to],)
    if target.suffix not in endings:
        raise UserError(f"{target} must end in {' or '.join(endings)} for --to {to}, or be a folder")
    if source is not None and target.resolve() == source.resolve():
        raise UserError(f"{target} is what is to be exported, and any safetensors reader takes it: give an output")
    return target


def _card(source: Path | None, target: Path, output: str | Path | None) -> Path | None:
    """Write the model card, where the file went into a folder of ours and not to a place by name."""
    by_name = output is not None and Path(output) == target
    if source is None or by_name or (output is None and not (source.parent / "config.yaml").exists()):
        return None
    return write_card(target.parent, source.parent)


def _demand_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401  # torch's exporter asks for it
    except ImportError as error:
        raise UserError(f"ONNX needs more packages ({error}): {install('export')}") from None


def _write_onnx(module: nn.Module, kind: Kind, path: Path, text: dict[str, str]) -> Run:
    _demand_onnx()
    import onnx
    import onnxruntime

    part = part_of(kind, text.get(METHOD, "rgsud"))
    given, channels, made = part.takes, part.channels, part.gives
    example = (torch.zeros(TRACED[0], channels, *TRACED[1:]),)
    options: dict[str, Any] = {"input_names": [given], "output_names": [made], "opset_version": OPSET, "verbose": False}
    with _tracing("onnx"):
        free = {0: Dim("batch"), 2: Dim("height", min=33), 3: Dim("width", min=33)}  # smaller ones work as well
        program: Any = torch.onnx.export(module, example, dynamo=True, dynamic_shapes=(free,), **options)
        program.save(str(path), external_data=False)
    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    if foreign := {entry.domain for entry in model.opset_import} - {""}:
        raise UserError(f"the {kind} needs operators that are not ONNX's own: {', '.join(sorted(foreign))}")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {given: images.numpy()})[0])


def _write_torchscript(module: nn.Module, kind: Kind, path: Path, text: dict[str, str]) -> Run:
    channels = part_of(kind, text.get(METHOD, "rgsud")).channels
    example = torch.zeros(TRACED[0], channels, *TRACED[1:])
    with _tracing("torchscript"):
        torch.jit.trace(module, example, check_trace=False).save(str(path))
        return torch.jit.load(str(path))


def _write_safetensors(module: nn.Module, kind: Kind, path: Path, text: dict[str, str]) -> Run:
    save_network(path, module, kind, {key: value for key, value in text.items() if key not in RESERVED})
    return load_state(path, copy.deepcopy(module))


def _write_for_authors(derainer: str, module: nn.Module, kind: Kind, path: Path, text: dict[str, str]) -> Run:
    if type(module) is not DERAINERS[derainer]:
        raise UserError(f"--to {derainer} is for this package's {derainer}, not for {type(module).__name__}")
    layout = next(layout for layout in LAYOUTS if layout.network is type(module))
    tensors = layout.to_theirs(module.state_dict())
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({layout.holder: tensors}, path)
    again: Any = read_derainer(path)
    if hasattr(module, "reflect"):
        again.reflect = module.reflect  # of which their files say nothing
    return cast(Run, again)


_WRITERS: dict[str, Callable[..., Run]] = {
    "onnx": _write_onnx,
    "torchscript": _write_torchscript,
    "safetensors": _write_safetensors,
    **{name: functools.partial(_write_for_authors, name) for name in DERAINERS},
}


@contextlib.contextmanager
def _tracing(to: Format) -> Iterator[None]:
    """The reference, which an exporter can follow, without what exporters say of themselves.

    Raises:
        UserError: the exporter cannot follow the network.
    """
    try:
        with use_backend("reference"), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecation, and of the checks of shapes, which no file holds
            yield
    except RuntimeError as error:
        raise UserError(f"torch {torch.__version__} cannot export this network to {to}: {reason(error)}") from None


def _difference(module: nn.Module, run: Run, channels: int, name: str) -> float:
    """The largest difference between what a file and the network make of images of the sizes in `CHECKED`.

    Raises:
        UserError: it exceeds `BOUND`, or the file does not run on such a size.
    """
    generator = torch.Generator().manual_seed(0)
    worst = torch.zeros(())
    for count, height, width in CHECKED:
        images = torch.rand(count, channels, height, width, generator=generator)
        size = f"{count} images of {width} x {height} pixels"
        with torch.no_grad():
            wanted = module(images)
            try:
                made = run(images)
            except Exception as error:  # each runtime has its own
                raise UserError(f"{name} is not kept: it does not run on {size}: {reason(error)}") from None
        if made.shape != wanted.shape:
            raise UserError(f"{name} is not kept: it makes {list(made.shape)} of {size}, not {list(wanted.shape)}")
        worst = torch.maximum(worst, (made - wanted).abs().max() / wanted.abs().max().clamp_min(1))  # NaN stays
    if not worst <= BOUND:
        raise UserError(f"{name} is not kept: it differs from the network by {worst:.2g}, more than {BOUND}")
    return float(worst)
