"""Work on parts of a batch at once: the same results as one after another, whatever the number of cores."""

from __future__ import annotations

import contextlib
import threading

import pytest
import torch
from torch import nn

from rgsud_fast.system import side_by_side as module
from rgsud_fast.system.side_by_side import in_halves, learn_from, sharing_cores, side_by_side

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def cores(monkeypatch):
    """Four CPUs, and four threads of PyTorch's."""
    before = torch.get_num_threads()
    monkeypatch.setattr(module, "usable_cpus", lambda: 4)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=[False, True], ids=["one thread", "two threads"])
def shared(request, cores):
    with sharing_cores(CPU) if request.param else contextlib.nullcontext():
        yield


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_results_are_in_the_order_of_the_items(shared, count):
    assert side_by_side(lambda item: item * item, range(count)) == [item * item for item in range(count)]


def test_two_items_are_at_work_at_once(cores):
    both = threading.Barrier(2, timeout=10)  # breaks where one waits for the other to end
    with sharing_cores(CPU):
        side_by_side(lambda item: both.wait(), range(2))


@pytest.mark.parametrize(("device", "threads", "cpus"), [(GPU, 4, 4), (CPU, 1, 4), (CPU, 4, 1)], ids=str)
def test_one_thread_does_all_on_a_gpu_and_where_one_is_all_there_is(device, threads, cpus, cores, monkeypatch):
    torch.set_num_threads(threads)
    monkeypatch.setattr(module, "usable_cpus", lambda: cpus)
    with sharing_cores(device):
        at_work = side_by_side(lambda item: threading.current_thread(), range(4))
        assert set(at_work) == {threading.current_thread()} and torch.get_num_threads() == min(threads, cpus)
    assert torch.get_num_threads() == threads


def test_work_within_work_is_done(shared):
    rows = side_by_side(lambda row: side_by_side(lambda item: 10 * row + item, range(3)), range(2))
    assert rows == [[0, 1, 2], [10, 11, 12]]


def test_after_a_fault_nothing_more_is_begun_and_nothing_goes_on(cores):
    begun, may_end = threading.Event(), threading.Event()
    done = []

    def work(item):
        if item == 0:
            assert begun.wait(10)
            threading.Timer(0.2, may_end.set).start()
            raise ZeroDivisionError
        begun.set()
        assert may_end.wait(10)
        done.append(item)

    with sharing_cores(CPU):
        with pytest.raises(ZeroDivisionError):
            side_by_side(work, range(8))
        assert done == [1]  # what was begun has ended, and items 3, 5 and 7 were not begun


def test_a_fault_on_either_thread_reaches_the_caller(shared):
    for wrong in range(2):
        with pytest.raises(ZeroDivisionError):
            side_by_side(lambda item, wrong=wrong: 1 / (item - wrong), range(2))


@pytest.mark.parametrize("enabled", [True, False])
def test_gradients_are_known_to_both_threads_as_to_the_caller(shared, enabled):
    with torch.set_grad_enabled(enabled):
        assert side_by_side(lambda item: torch.is_grad_enabled(), range(2)) == [enabled] * 2


def test_halves_of_a_batch_and_of_a_single_image():
    values = torch.arange(5)
    assert torch.equal(torch.cat(in_halves(lambda one, other: one - other, values, -values)), 2 * values)
    assert len(in_halves(lambda one: one, values[:1])) == 1


def test_gradients_are_those_of_the_whole(shared):
    torch.manual_seed(0)
    network, unused = nn.Linear(3, 2), nn.Parameter(torch.zeros(1))
    images = torch.randn(5, 3)
    parameters = [*network.parameters(), unused]
    unused.grad = torch.ones(1)  # of a step before
    loss = learn_from(lambda some: network(some).square().sum(), parameters, images)
    whole = network(images).square().sum()
    torch.testing.assert_close(loss, whole.detach())
    for parameter, right in zip(parameters, torch.autograd.grad(whole, [*network.parameters()]), strict=False):
        torch.testing.assert_close(parameter.grad, right)
    assert unused.grad is None and not loss.requires_grad


def test_a_sum_that_depends_on_nothing_leaves_no_gradient():
    parameter = nn.Parameter(torch.ones(1))
    assert learn_from(lambda some: some.sum(), [parameter], torch.ones(4)) == 4
    assert parameter.grad is None


def test_threads_are_halved_and_given_back(cores):
    with pytest.raises(ZeroDivisionError), sharing_cores(CPU):
        assert side_by_side(lambda item: torch.get_num_threads(), range(2)) == [2, 2]
        raise ZeroDivisionError
    assert torch.get_num_threads() == 4
    assert side_by_side(lambda item: threading.current_thread(), range(2)) == 2 * [threading.current_thread()]


def test_networks_of_others_are_called_by_one_thread_that_has_all_cores(cores):
    with sharing_cores(CPU, foreign=True):
        assert side_by_side(lambda item: threading.current_thread(), range(2)) == 2 * [threading.current_thread()]
        assert torch.get_num_threads() == 4
