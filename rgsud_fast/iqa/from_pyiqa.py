"""Any no-reference metric of pyiqa as a score, with a guard for each of its pitfalls.

pyiqa is an optional extra under the PolyForm-Noncommercial licence: `errors.install` says how it is installed.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import socket
import sys
import types
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError, either, install, reason
from .scorer import check_images, finite

HUB, REACH = "https://huggingface.co", 3.0  # where most weights come from; the seconds it is given to answer


class PyiqaScorer:
    """A metric of pyiqa, turned so that higher is better.

    Images go in one by one, in float32: so a score depends on no other image, and one that the metric cannot judge is
    rejected alone.

    Args:
        metric: pyiqa's name of it, such as "piqe".
        device: where it runs.
        options: for pyiqa.create_metric, such as pretrained_model_path.

    Raises:
        UserError: pyiqa or the metric's weights are missing, there is no such metric, or it needs a reference.
    """

    def __init__(self, metric: str, device: torch.device | str = "cpu", **options: Any):
        self.name = f"pyiqa:{metric}"
        pyiqa = _import_pyiqa()
        if metric not in pyiqa.list_models():
            close = difflib.get_close_matches(metric, pyiqa.list_models(metric_mode="NR"), n=2, cutoff=0.7)
            hint = f" (did you mean {either(close)}?)" if close else ""
            raise UserError(f"scorer {self.name}: pyiqa has no such metric{hint}; rgsud-fast score --list names them")
        if metric not in pyiqa.list_models(metric_mode="NR"):
            raise UserError(f"scorer {self.name} compares with a clean image; choose one that needs none")
        self.metric = create_metric(f"scorer {self.name}", metric, device, **options)
        self.sign = -1.0 if self.metric.lower_better else 1.0
        remember_texts(self.metric.net)

    def score(self, images: Tensor, rainy: Tensor | None = None) -> Tensor:
        """Score each image by itself; see `Scorer.score`. `rainy` is not used."""
        check_images(images, rainy)
        with torch.no_grad():
            scores = torch.stack([self._one(image[None].float().clamp(0, 1)) for image in images])
        return torch.where(finite(images), scores, torch.nan)

    def state(self) -> dict[str, Tensor]:
        """Nothing: pyiqa keeps the weights."""
        return {}

    def _one(self, image: Tensor) -> Tensor:
        try:
            value = self.metric(image)
            value = value[0] if isinstance(value, tuple) else value
            return self.sign * value.float().reshape(()).to(image.device)
        except (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError) as error:
            warnings.warn(f"{self.name} cannot judge an image of {list(image.shape)}: {reason(error)}", stacklevel=3)
            return torch.full((), torch.nan, device=image.device)


def create_metric(label: str, metric: str, device: torch.device | str, **options: Any) -> Any:
    """A metric of pyiqa, in no more time than it takes: where no hub answers it does not wait for one.

    Args:
        label: what a message calls it.
        metric: pyiqa's name of it.
        device: where it runs.
        options: for pyiqa.create_metric.

    Raises:
        UserError: pyiqa or the metric's weights are missing.
    """
    pyiqa = _import_pyiqa()
    fixed = {"as_loss": False, "check_input_range": False}  # one score per image; and the check waits for the GPU
    try:
        with _quick_to_fail():
            return pyiqa.create_metric(metric, device=torch.device(device), **fixed, **options)
    except Exception as error:
        raise UserError(
            f"{label} could not be made ({type(error).__name__}: {reason(error)}). Its weights come "
            "from a hub at its first use: run it once with a network, or copy pyiqa's cache folder from where it "
            "runs"
        ) from None


def metric_names() -> list[str]:
    """The no-reference metrics of the pyiqa that is installed, as `PyiqaScorer` takes them.

    Raises:
        UserError: pyiqa is missing.
    """
    return sorted(_import_pyiqa().list_models(metric_mode="NR"))


def remember_texts(network: nn.Module) -> None:
    """Let a CLIP model inside encode each batch of words once: pyiqa's metrics ask for the same words on every call.

    Args:
        network: of a metric; CLIP models are found as attributes, also inside lists.
    """
    for holder in network.modules():
        for value in list(vars(holder).values()):
            for model in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(model, nn.Module) and callable(getattr(model, "encode_text", None)):
                    _remember(model)
    for model in network.modules():
        if callable(getattr(model, "encode_text", None)) and "encode_text" not in vars(model):
            _remember(model)


def _remember(model: Any) -> None:
    model.encode_text = _remembering(model.encode_text)


def _remembering(encode: Callable[..., Tensor]) -> Callable[..., Tensor]:
    seen: dict[bytes, Tensor] = {}
    last: list[Tensor] = []  # the words of the last call and their features: the same tensor needs no look at its bytes

    def encode_text(text: Tensor, *args: Any, **options: Any) -> Tensor:
        if args or options or torch.is_grad_enabled():
            return encode(text, *args, **options)
        if not last or last[0] is not text:
            key = text.cpu().numpy().tobytes()
            if key not in seen:
                seen[key] = encode(text)
            last[:] = text, seen[key]
        return last[1]

    return encode_text


def _import_pyiqa() -> types.ModuleType:
    _offer_pkg_resources()
    try:
        import pyiqa
    except ImportError as error:
        raise UserError(
            f"pyiqa does not import ({error}): {install('iqa')} (its licence is PolyForm-Noncommercial)"
        ) from None
    return pyiqa


def _offer_pkg_resources() -> None:
    """openai-clip imports pkg_resources for its copy of packaging alone, and setuptools 82 no longer has it."""
    if "pkg_resources" not in sys.modules and importlib.util.find_spec("pkg_resources") is None:
        with contextlib.suppress(ImportError):
            import packaging.version

            shim: Any = types.ModuleType("pkg_resources")
            shim.packaging = packaging
            sys.modules["pkg_resources"] = shim


@contextlib.contextmanager
def _quick_to_fail() -> Iterator[None]:
    """Where the hub does not answer, tell its client so: it would try for most of a minute."""
    constants: Any
    try:
        from huggingface_hub import constants
    except ImportError:
        constants = types.SimpleNamespace(HF_HUB_OFFLINE=False)
    before, timeout = constants.HF_HUB_OFFLINE, socket.getdefaulttimeout()
    hub = urllib.parse.urlsplit(getattr(constants, "ENDPOINT", HUB))
    if not urllib.request.getproxies():  # a proxy answers for the hub, or not, in its own time
        try:
            port = hub.port or (80 if hub.scheme == "http" else 443)
            socket.create_connection((hub.hostname, port), REACH).close()
        except OSError:
            constants.HF_HUB_OFFLINE = True
    socket.setdefaulttimeout(timeout or 10.0)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        socket.setdefaulttimeout(timeout)
