"""Curves for TensorBoard, written at once and without a thread, so that a full disk is an error where it happens."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path

from ..system.files import naming


class Events:
    """The event file of one start of a run.

    Args:
        folder: of the event files; made if missing.
        step: TensorBoard forgets what earlier files say of this step and later ones.

    Raises:
        OSError: the file cannot be written, here or later; it names the file.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event = Event
        self.path = folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        with naming(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "wb")  # noqa: SIM115 (closed by `close`)
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self._write(Event(wall_time=time.time(), step=step, session_log=SessionLog(status=SessionLog.START)))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Add one point to the curve of that name, GROUP/CURVE."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=name, simple_value=float(value))])
        self._write(self._event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        """Close the file. What could not be written was an error before."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _write(self, event) -> None:
        with naming(self.path):
            self._records.write(event.SerializeToString())
            self._file.flush()
