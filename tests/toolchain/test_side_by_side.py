"""Work on parts of a batch at once: the same results as one after another, whatever the number of cores."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from rgsud_fast.toolchain import side_by_side as module
from rgsud_fast.toolchain.side_by_side import in_halves, learn_from, sharing_cores, side_by_side

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2], ids=["one CPU", "two CPUs"])
def cpus(request, monkeypatch):
    monkeypatch.setattr(module, "usable_cpus", lambda: request.param)
    return request.param


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_results_are_in_the_order_of_the_items(cpus, count):
    assert side_by_side(lambda item: item * item, range(count), CPU) == [item * item for item in range(count)]


def test_two_items_are_at_work_at_once_where_there_are_cpus(monkeypatch):
    monkeypatch.setattr(module, "usable_cpus", lambda: 2)
    both = threading.Barrier(2, timeout=10)  # breaks where one waits for the other to end
    side_by_side(lambda item: both.wait(), range(2), CPU)


def test_a_fault_on_either_thread_reaches_the_caller(cpus):
    for wrong in range(2):
        with pytest.raises(ZeroDivisionError):
            side_by_side(lambda item, wrong=wrong: 1 / (item - wrong), range(2), CPU)


@pytest.mark.parametrize("enabled", [True, False])
def test_gradients_are_known_to_both_threads_as_to_the_caller(cpus, enabled):
    with torch.set_grad_enabled(enabled):
        assert side_by_side(lambda item: torch.is_grad_enabled(), range(2), CPU) == [enabled] * 2


def test_halves_of_a_batch_and_of_a_single_image():
    values = torch.arange(5)
    assert torch.equal(torch.cat(in_halves(lambda one, other: one - other, values, -values)), 2 * values)
    assert len(in_halves(lambda one: one, values[:1])) == 1


def test_gradients_are_those_of_the_whole(cpus):
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


def test_threads_are_shared_and_given_back():
    before = torch.get_num_threads()
    with sharing_cores(CPU):
        assert torch.get_num_threads() == max(before // 2, 1)
    assert torch.get_num_threads() == before
