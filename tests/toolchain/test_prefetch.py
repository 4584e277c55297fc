"""Patches made ahead: whatever is asked for, in any order, is what the function gives."""

from __future__ import annotations

import threading

import pytest
import torch

from rgsud_fast.toolchain.prefetch import Prefetch


def numbered(number):
    return torch.full((1,), number), torch.full((1,), -number)


def test_results_are_the_functions_whatever_is_asked_for():
    made = Prefetch(numbered)
    for number in (0, 1, 2, 7, 8, 3, 3):
        assert [int(one) for one in made(number)] == [number, -number]


def test_the_next_one_is_made_on_another_thread_before_it_is_asked_for():
    begun, threads = [threading.Event() for _ in range(4)], set()

    def make(number):
        threads.add(threading.current_thread())
        begun[number].set()
        return numbered(number)

    made = Prefetch(make)
    made(1)
    assert begun[2].wait(10) and not begun[0].is_set() and not begun[3].is_set()
    assert len(threads) == 1 and threading.current_thread() not in threads


def test_a_fault_reaches_whoever_asks_and_no_one_else():
    def make(number):
        if number == 1:
            raise ValueError("no patch")
        return numbered(number)

    made = Prefetch(make)
    made(0)
    with pytest.raises(ValueError, match="no patch"):
        made(1)
    assert int(made(2)[0]) == 2
