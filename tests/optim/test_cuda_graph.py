"""The recorded training step does what the eager one does."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import TINY_NETWORKS
from torch import nn

from rgsud_fast.config import Config
from rgsud_fast.data import Domains, FolderSet
from rgsud_fast.iqa import make_scorer
from rgsud_fast.methods.build import build_networks
from rgsud_fast.networks.discriminator import InstanceNormLReLU
from rgsud_fast.optim.cuda_graph import WARM_UP, Graphed, GraphMemory, fixed_shapes
from rgsud_fast.training.step import TrainStep
from rgsud_fast.training.trainer import Trainer

CPU = torch.device("cpu")


def small_trainer(graphed: bool, device: str = "cuda", rate: float = 5e-4) -> Trainer:
    generator = np.random.default_rng(0)
    arrays = [generator.integers(0, 256, (48, 48, 3), dtype=np.uint8) for _ in range(3)]
    images = FolderSet.from_arrays(["a", "b", "c"], arrays)
    scorer = make_scorer(lambda scored: scored.mean(dim=(1, 2, 3)), images, images)
    config = Config(
        preset="small-gan", batch=2, crop=32, stage1_iterations=10, stage2_iterations=10, precision="float32",
        cuda_graph=graphed, network=TINY_NETWORKS, optim={"discriminator_warmup": 2, "learning_rate": rate},
    )  # fmt: skip
    return Trainer(config, Domains(images, images), scorer, torch.device(device))


def assert_twenty_steps_alike(one: Trainer, other: Trainer) -> None:
    """What is demanded of two runs on a GPU that should do the same."""
    for step in range(20):
        if step == 8:  # so that stage 2 has rewards
            one.sweep(), other.sweep()
        a, b = one.iterate(), other.iterate()
        torch.testing.assert_close(b.loss, a.loss, rtol=1e-4, atol=1e-4)
    idle = idle_biases(one.nets.discriminator)
    for a_net, b_net in zip(one.nets, other.nets, strict=True):
        for (name, a), b in zip(a_net.named_parameters(), b_net.parameters(), strict=True):
            if not (a_net is one.nets.discriminator and name in idle):
                torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4)


def idle_biases(discriminator: nn.Module) -> set[str]:
    """Biases that a normalisation takes away again: their gradients are noise, which Adam makes as large as any."""
    layers = list(discriminator.layers)
    return {f"layers.{i}.bias" for i, after in enumerate(layers[1:]) if isinstance(after, InstanceNormLReLU)}


@pytest.mark.cuda
def test_twenty_recorded_steps_equal_twenty_eager_ones():
    assert_twenty_steps_alike(small_trainer(False), small_trainer(True))


def test_what_is_demanded_of_a_gpu_holds_for_runs_that_differ_by_rounding():
    rates = 5e-4, float(np.nextafter(np.float32(5e-4), np.float32(1)))
    one, other = (small_trainer(False, "cpu", rate) for rate in rates)
    assert_twenty_steps_alike(one, other)
    same = [torch.equal(a, b) for a, b in zip(one.nets.unet.parameters(), other.nets.unet.parameters(), strict=True)]
    assert not all(same)  # or nothing was tried
    assert len(idle_biases(one.nets.discriminator)) == 3


@pytest.mark.cuda
def test_a_recorded_step_never_waits_for_the_device():
    trainer = small_trainer(True)
    for _ in range(6):
        trainer.iterate()
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.iterate()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_recording_is_for_gpus_alone():
    config = Config(preset="small-gan", network=TINY_NETWORKS, cuda_graph=True)
    images = FolderSet.from_arrays(["a"], [np.zeros((64, 64, 3), dtype=np.uint8)])
    scorer = make_scorer(lambda scored: scored.mean(dim=(1, 2, 3)), images, images)
    trainer = Trainer(config, Domains(images, images), scorer, torch.device("cpu"))
    assert not isinstance(trainer.train_step.optimizer.param_groups[0]["lr"], torch.Tensor)


@pytest.fixture
def imagined(monkeypatch):
    """Streams and graphs that are not there: recording runs the function once, as a real one does its Python."""
    log = []

    class Stream:
        def __init__(self, device=None):
            pass

        def wait_stream(self, other):
            log.append("wait")

    class Graph:
        def replay(self):
            log.append("replay")

    @contextlib.contextmanager
    def recorded(graph):
        log.append("record")
        yield

    changes = {"Stream": Stream, "CUDAGraph": Graph, "graph": recorded, "current_stream": Stream}
    for name in ("device", "stream"):
        changes[name] = lambda given: contextlib.nullcontext()
    changes["empty_cache"] = lambda: None
    for name, value in changes.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return log


def test_a_function_that_cannot_be_recorded_goes_on_eagerly_and_says_so(imagined, monkeypatch):
    calls, lines = [], []

    def function(inputs):
        if "record" in imagined and len(calls) == WARM_UP:
            calls.append("failed")
            raise RuntimeError("operation not permitted when stream is capturing\nSearch for it")
        calls.append("done")
        return {"sum": inputs["x"].sum()}

    graphed = Graphed(CPU, function, GraphMemory(), lines.append)
    found = [float(graphed({"x": torch.full((2,), float(i))})["sum"]) for i in range(6)]
    assert found == [0, 2, 4, 6, 8, 10]
    assert calls.count("failed") == 1 and calls.count("done") == 6
    assert lines == [
        "the step runs without a CUDA graph, and may be slower: operation not permitted when stream is capturing "
        "Search for it"
    ]


def test_the_graph_of_one_stage_ends_where_the_next_is_recorded(imagined):
    memory = GraphMemory()
    first, second = (Graphed(CPU, lambda inputs: {"y": inputs["x"] + 1}, memory, pytest.fail) for _ in range(2))
    given = {"x": torch.zeros(2)}
    for _ in range(WARM_UP + 2):
        first(given)
    assert first.graph is not None and imagined.count("replay") == 2
    for _ in range(WARM_UP + 1):
        second(given)
    assert second.graph is not None and first.graph is None and not first.inputs and not first.outputs
    first(given)
    assert first.graph is not None and second.graph is None


def test_cudnn_tries_its_algorithms_in_steps_alone_and_not_where_bits_must_be_the_same():
    cudnn = torch.backends.cudnn
    assert not cudnn.benchmark and not cudnn.deterministic
    with fixed_shapes():
        assert cudnn.benchmark and not cudnn.deterministic
        with fixed_shapes(deterministic=True):
            assert cudnn.deterministic and not cudnn.benchmark
        assert cudnn.benchmark
    assert not cudnn.benchmark and not cudnn.deterministic


@pytest.mark.parametrize("count, own", [(1, False), (2, False), (1, True)])
def test_a_step_that_may_not_be_recorded_says_why(imagined, monkeypatch, count, own):
    from rgsud_fast.training import step as step_module

    monkeypatch.setattr(step_module, "make_capturable", lambda *given: None)
    monkeypatch.setattr(step_module, "pick_precision", lambda *given: torch.float32)
    monkeypatch.setattr(step_module, "StepFilter", lambda *given: None)
    ranks = SimpleNamespace(count=count, broadcast_weights=lambda nets: None)
    config = Config(preset="small-gan", network=TINY_NETWORKS)
    nets = build_networks(config, CPU, nn.Conv2d(3, 3, 1) if own else None)
    step = TrainStep(config, nets, torch.device("cuda"), ranks)
    assert bool(step.notices) == (count > 1 or own)
    assert all(line.startswith("the step runs without a CUDA graph") for line in step.notices)
    assert isinstance(step._generator_sides[1], Graphed) != bool(step.notices)


def test_what_a_step_returns_holds_no_graph():
    trainer = small_trainer(True, "cpu")
    iteration = trainer.iterate()
    assert all(value.grad_fn is None for value in (iteration.loss, *iteration.terms.values()))


def test_gradients_of_terms_are_left_out_where_memory_ends(monkeypatch):
    trainer = small_trainer(True, "cpu")
    step, inputs = trainer.train_step, trainer.feed.images(0)
    assert step.term_gradients(1, inputs)

    def full(*given):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("rgsud_fast.training.step.gradient_norms", full)
    assert step.term_gradients(1, inputs) == {} and step.term_gradients(1, inputs) == {}
    assert len(step.notices) == 1 and "log_gradients" in step.notices[0]
