"""What is made ahead: whatever is asked for, in any order, is what the function gives."""

from __future__ import annotations

import threading

import pytest
import torch

from rgsud_fast.system.prefetch import Prefetch, by_batches


def numbered(number):
    return torch.full((1,), number)


def test_a_batch_is_of_its_own_numbers():
    made = Prefetch(by_batches(list, 3))
    assert made(2) == [6, 7, 8]


def test_results_are_the_functions_whatever_is_asked_for():
    made = Prefetch(numbered)
    assert [int(made(number)) for number in (0, 1, 2, 7, 8, 3, 3)] == [0, 1, 2, 7, 8, 3, 3]


def test_the_next_one_is_made_on_another_thread_before_it_is_asked_for():
    begun, threads = [threading.Event() for _ in range(4)], set()

    def make(number):
        threads.add(threading.current_thread())
        begun[number].set()

    made = Prefetch(make)
    made(1)
    assert begun[2].wait(10) and not begun[0].is_set() and not begun[3].is_set()
    assert len(threads) == 1 and threading.current_thread() not in threads


def test_a_fault_reaches_whoever_asks_and_no_one_else():
    def make(number):
        if number == 1:
            raise ValueError("no patch")
        return number

    made = Prefetch(make)
    made(0)
    with pytest.raises(ValueError, match="no patch"):
        made(1)
    assert made(2) == 2


def test_a_closed_one_has_ended_what_it_was_making():
    ended = []
    made = Prefetch(lambda number: ended.append(number))
    made(0)
    made.close()
    assert ended == [0, 1]


def test_what_is_made_ahead_has_one_thread_of_pytorchs():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        assert Prefetch(lambda number: torch.get_num_threads())(0) == 1
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
