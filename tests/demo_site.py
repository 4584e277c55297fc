"""A tiny run and a server of its page in a process of its own, for the tests of `rgsud-fast demo`."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from rgsud_fast.iqa import DomainScorer, save_scorer
from rgsud_fast.iqa.domain import RainNet
from rgsud_fast.networks import NAFNet
from rgsud_fast.networks.weights import save_network
from rgsud_fast.runs.html import Comparison, Panel, Row, comparisons, facts, rows, write_gallery

SECRET = b"what the checkpoint holds"


class Site(NamedTuple):
    """A page that is being served."""

    port: int
    run: Path
    temporary: Path  # where the process may put temporary files
    process: subprocess.Popen[str]
    log: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def make_run(folder: Path) -> Path:
    """What a finished run leaves: a derainer that darkens by a quarter, a scorer, a gallery, and a checkpoint."""
    folder.mkdir(parents=True)
    network = NAFNet(4, [1], 1, [1])
    with torch.no_grad():
        for parameter in network.last.parameters():
            parameter.zero_()
        network.last.bias.fill_(-0.25)
    save_network(folder / "derainer.safetensors", network, "derainer", {"preset": "demo", "step": "650"})
    save_scorer(DomainScorer(RainNet()), folder / "scorer.safetensors")
    (folder / "checkpoint.pt").write_bytes(SECRET)
    (folder / "metrics.json").write_text("{}")
    write_gallery(folder / "gallery.html", "A run", *sections())
    return folder


def sections() -> list[str]:
    """A gallery with a card of every kind: a comparison, two training images, two outcomes of a sweep."""

    def panels(*captions: str) -> list[Panel]:
        return [Panel(caption, torch.rand(3, 40, 60)) for caption in captions]

    kinds = ("rainy", "pseudo rainy", "reward")
    return [
        facts("Facts", {"device": "cpu"}),
        comparisons("Validation", [Comparison("street", torch.rand(3, 40, 60), torch.rand(3, 40, 60))]),
        rows("Training", [Row("lane-1", panels(*kinds), outcome="entered", score=1.5), Row("lane-2", panels(*kinds))]),
        rows(
            "Rewards",
            [
                Row("park-1", panels("rainy", "reward"), outcome="refused: blank", score=-2.0),
                Row("park-2", panels("rainy", "reward"), outcome="refused: not like rain", score=0.5),
            ],
        ),
    ]


@contextlib.contextmanager
def serving(run: Path, around: Path) -> Iterator[Site]:
    """Serve a run's page from a process that works and keeps temporary files below `around`; it is ended at the end."""
    temporary, log = around / "temporary", around / "log"
    temporary.mkdir(parents=True)
    command = [sys.executable, "-m", "rgsud_fast", "demo", str(run), "--port", "0", "--device", "cpu"]
    source = str(Path(__file__).parents[1])
    surroundings = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, cwd=around, env=surroundings, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            told = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)", told)
            assert found, told + log.read_text()
            yield Site(int(found.group(1)), run, temporary, process, log)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def ask(site: Site, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """One request, its path sent as it stands."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    sent = {"Host": f"127.0.0.1:{site.port}"} | {key.replace("_", "-"): value for key, value in headers.items()}
    if body is not None:
        sent.setdefault("Content-Length", str(len(body)))
    for key, value in sent.items():
        connection.putheader(key, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def form(name: str, content: bytes) -> tuple[bytes, str]:
    """A multipart body with one file, and its type."""
    head = f'--edge\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n--edge--\r\n", "multipart/form-data; boundary=edge"
