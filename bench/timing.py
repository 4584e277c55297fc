"""How long a function takes: on a GPU by its own clock, over many calls in a CUDA graph; on the CPU by the host's."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from limits import DEVICE

TARGET, MOST, WARM_UP = 0.02, 200, 3  # seconds and calls of a measurement; eager calls before a recording


def seconds(run: Callable[[], object], rounds: int, graph: bool = True) -> list[float]:
    """Seconds of one call, once for each round.

    On a GPU the calls of a round are one CUDA graph between two events, as many as fill 20 ms: neither the launches nor
    the host's clock are measured. What cannot be recorded, or is not to be (`graph`), is launched call by call.
    """
    if DEVICE == "cpu":
        return [_on_the_host(run) for _ in range(rounds)]
    repeat, calls = recorded(run) if graph else (run, 1)
    return [_between_events(repeat) / calls for _ in range(rounds)]


def recorded(run: Callable[[], object]) -> tuple[Callable[[], object], int]:
    """A function that does many calls on the GPU, as a graph where that can be, and how many they are."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    calls = max(1, min(MOST, int(TARGET / max(_between_events(run), 1e-7))))
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            for _ in range(calls):
                run()
    except RuntimeError:  # it waits for the host somewhere
        torch.cuda.synchronize()

        def repeat() -> None:
            for _ in range(calls):
                run()

        return repeat, calls
    return graph.replay, calls


def _between_events(run: Callable[[], object]) -> float:
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began.record()
    run()
    ended.record()
    ended.synchronize()
    return began.elapsed_time(ended) / 1e3


def _on_the_host(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
