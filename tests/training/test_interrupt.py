"""Which signals ask a run to stop and save."""

from __future__ import annotations

import os
import signal

import pytest
from tiny import train_and_interrupt

from rgsud_fast.training.interrupt import SIGNALS, Interruption


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_each_way_of_stopping_asks_once(number):
    heard = []
    before = signal.signal(number, lambda *_: heard.append("as before"))
    try:
        with Interruption() as interruption:
            assert not interruption.asked
            os.kill(os.getpid(), number)
            assert interruption.asked and not heard
            os.kill(os.getpid(), number)
            assert heard == ["as before"]
    finally:
        signal.signal(number, before)


def test_a_closed_terminal_stays_ignored_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interruption.asked
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_wish_to_stop_is_acknowledged_at_once():
    said = []
    before = signal.signal(signal.SIGINT, lambda *_: said.append("as before"))
    try:
        with Interruption(lambda: said.append("stopping")):
            os.kill(os.getpid(), signal.SIGINT)
            assert said == ["stopping"]
            os.kill(os.getpid(), signal.SIGINT)
            assert said == ["stopping", "as before"]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_says_what_a_second_signal_would_cost(config, monkeypatch, capsys):
    train_and_interrupt(config | {"save_every": 2}, 4, monkeypatch, quiet=False)
    told = capsys.readouterr().out
    assert "again to stop at once, with the checkpoint of step 4" in told
    assert told.index("again to stop") < told.index("stopped at step 5")
