"""Ctrl-C, SIGTERM and a lost terminal as a wish to stop, so that an iteration ends and a checkpoint is saved first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

HANGUP = getattr(signal, "SIGHUP", None)  # of a closed terminal or a lost connection; `nohup` ignores it
SIGNALS = tuple(number for number in (signal.SIGINT, signal.SIGTERM, HANGUP) if number is not None)


class Interruption:
    """While open, the first signal sets `asked` and is acknowledged; a second one acts as it did before.

    Outside the main thread, where Python delivers no signals, it never asks.
    """

    def __init__(self, acknowledge: Callable[[], None] = lambda: None) -> None:
        self.asked, self._acknowledge = False, acknowledge
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            ignored = HANGUP is not None and signal.getsignal(HANGUP) is signal.SIG_IGN
            asking = [number for number in SIGNALS if not (ignored and number == HANGUP)]
            self._before = {number: signal.signal(number, self._ask) for number in asking}
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self.__exit__()
        self._acknowledge()
