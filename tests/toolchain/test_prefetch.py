"""Patches made ahead: whatever is asked for, in any order, is what the function gives."""

from __future__ import annotations

import threading

import pytest
import torch

from rgsud_fast.toolchain.prefetch import Prefetch


def numbered(numbers):
    (number,) = numbers
    return torch.full((1,), number), torch.full((1,), -number)


def test_a_batch_is_of_its_own_numbers():
    made = Prefetch(lambda numbers: (torch.tensor(numbers), torch.tensor(numbers)), 3)
    assert made(2)[0].tolist() == [6, 7, 8]


def test_results_are_the_functions_whatever_is_asked_for():
    made = Prefetch(numbered, 1)
    for number in (0, 1, 2, 7, 8, 3, 3):
        assert [int(one) for one in made(number)] == [number, -number]


def test_the_next_one_is_made_on_another_thread_before_it_is_asked_for():
    begun, threads = [threading.Event() for _ in range(4)], set()

    def make(numbers):
        threads.add(threading.current_thread())
        begun[numbers.start].set()
        return numbered(numbers)

    made = Prefetch(make, 1)
    made(1)
    assert begun[2].wait(10) and not begun[0].is_set() and not begun[3].is_set()
    assert len(threads) == 1 and threading.current_thread() not in threads


def test_a_fault_reaches_whoever_asks_and_no_one_else():
    def make(numbers):
        if numbers.start == 1:
            raise ValueError("no patch")
        return numbered(numbers)

    made = Prefetch(make, 1)
    made(0)
    with pytest.raises(ValueError, match="no patch"):
        made(1)
    assert int(made(2)[0]) == 2
