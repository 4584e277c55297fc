"""The report of the benchmarks: what fails or comes too late takes nothing away; a GPU is timed by its own clock."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).resolve().parent.parent / "bench"


@pytest.fixture
def report(monkeypatch, tmp_path):
    pytest.importorskip("pytest_benchmark")
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    import report

    monkeypatch.setattr(report, "HERE", tmp_path)
    monkeypatch.setattr(report, "measure_limits", lambda: {"copy": 1e9, "float32": 1e12})
    (tmp_path / "results").mkdir()
    return report


def figures(folder):
    [file] = (folder / "results").glob("*.json")
    assert file.with_suffix(".md").exists()
    return json.loads(file.read_text())


LINE = {"case": "op", "provider": "plain", "seconds": 1e-3, "bytes": 1000, "dtype": "float32"}
GOOD = f"import os; print({json.dumps(LINE)!r}, file=open(os.environ['RGSUD_BENCH_LINES'], 'a'))"


def test_what_breaks_loses_nothing_and_stops_nothing(report, monkeypatch, tmp_path):
    commands = [GOOD, GOOD + "; os.abort()", GOOD]
    monkeypatch.setattr(
        report,
        "parts",
        lambda more: [(f"part {i}", [sys.executable, "-c", text], {}) for i, text in enumerate(commands)],
    )

    def broken():
        raise ZeroDivisionError("a profiler saw nothing")

    monkeypatch.setattr(report, "shares", broken)
    monkeypatch.setattr(sys, "argv", ["report.py"])
    with pytest.raises(SystemExit) as ended:
        report.main()
    assert ended.value.code == 1
    found = figures(tmp_path)
    assert len(found["benchmarks"]) == 3
    assert found["failed"] == ["part 1: ended with -6", "shares: a profiler saw nothing"]


def test_what_comes_too_late_is_named(report, monkeypatch, tmp_path):
    slow = GOOD + "; import time; time.sleep(60)"
    parts = [("slow", [sys.executable, "-c", slow], {}), ("late", [sys.executable, "-c", GOOD], {})]
    monkeypatch.setattr(report, "parts", lambda more: parts)
    monkeypatch.setattr(sys, "argv", ["report.py", "--minutes", "0.1"])
    with pytest.raises(SystemExit):
        report.main()
    assert figures(tmp_path)["failed"] == ["slow: time was up", "late: no time was left"]
    assert len(figures(tmp_path)["benchmarks"]) == 1


def test_the_most_wanted_comes_first_on_a_gpu(report, monkeypatch):
    monkeypatch.setattr(report, "DEVICE", "cuda")
    names = [name for name, _, _ in report.parts([])]
    assert names[:3] == ["table of convolutions", "step of preset paper", "convolutions"]
    assert [name for name, _, _ in report.parts(["-k", "ssim"])] == ["benchmarks"]


@pytest.mark.parametrize("records", [True, False])
def test_a_gpu_is_timed_over_many_calls(monkeypatch, records):
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    import timing

    clock, recording = [0.0], [False]

    class Event:
        def __init__(self, enable_timing):
            pass

        def record(self):
            self.at = clock[0]

        def elapsed_time(self, other):
            return other.at - self.at

        def synchronize(self):
            pass

    class Stream:
        def wait_stream(self, other):
            pass

    class Graph:
        calls = 0

        def replay(self):
            clock[0] += Graph.calls

    @contextlib.contextmanager
    def record(graph):
        recording[0] = True
        yield
        recording[0] = False

    def run():
        if recording[0] and not records:
            recording[0] = False
            raise RuntimeError("operation not permitted when stream is capturing")
        if recording[0]:
            Graph.calls += 1
        else:
            clock[0] += 1.0  # a millisecond

    for name, value in {"Event": Event, "Stream": Stream, "CUDAGraph": Graph, "graph": record}.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.cuda, "stream", lambda given: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(timing, "DEVICE", "cuda")
    assert timing.seconds(run, 3) == pytest.approx([1e-3] * 3)
    assert Graph.calls == (20 if records else 0)
