"""Threads follow affinity and quota, and wait as the machine's other work asks for, unless the user has chosen."""

from __future__ import annotations

import os
import sys

import pytest

from rgsud_fast.system import threads
from rgsud_fast.system.threads import choose, usable_cpus


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 64 CPUs: files by their paths, and the idle share of each CPU while somebody looks."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.delitem(sys.modules, "torch")

    def make(files=(), idle=1.0):
        for name, text in dict(files).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

        def stat(busy, free):
            lines = [f"cpu{i} {busy} 0 0 {free} 0 0 0 0 0 0" for i in range(64)]
            (tmp_path / "proc").mkdir(exist_ok=True)
            (tmp_path / "proc/stat").write_text("\n".join(["cpu 1 2 3 4 5", *lines, "intr 0"]))

        stat(1000, 1000)
        monkeypatch.setattr(
            threads.time, "sleep", lambda _: stat(1000 + round(10 * (1 - idle)), 1000 + round(10 * idle))
        )
        return tmp_path

    return make


V2 = {
    "proc/self/cgroup": "0::/a/b\n",
    "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
    "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
}
V1 = {
    "proc/self/cgroup": "5:memory:/x\n4:cpu,cpuacct:/docker/1\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
}


@pytest.mark.parametrize("files", [V2, V1], ids=["v2", "v1"])
def test_a_container_with_two_of_64_cpus_has_two_threads(machine, files):
    root, environment = machine(files), {}
    assert usable_cpus(root) == 2
    assert choose(environment, root) == "CPU threads spin while they wait: 2 CPUs are free"
    assert environment == {"OMP_NUM_THREADS": "2"}


def test_without_a_quota_the_affinity_counts(machine):
    assert usable_cpus(machine()) == 64
    assert usable_cpus(machine({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000"})) == 1


def test_threads_sleep_on_busy_cpus_and_spin_on_free_ones(machine):
    environment = {}
    assert choose(environment, machine(idle=0.5)) == (
        "CPU threads sleep while they wait: 32.0 CPUs are free, of 64 that may be used"
    )
    assert environment == {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
    assert "spin" in choose(free := {}, machine(idle=1.0)) and not free


@pytest.mark.parametrize("name", threads.WAITING)
def test_what_the_user_chose_stays(machine, name):
    environment = {name: "7"}
    assert choose(environment, machine(idle=0.0)) == "" and environment == {name: "7"}


def test_one_thread_waits_for_none_and_a_loaded_torch_is_left_alone(machine, monkeypatch):
    assert choose({"OMP_NUM_THREADS": "1"}, machine(idle=0.0)) == ""
    monkeypatch.setitem(sys.modules, "torch", object())
    environment = {}
    assert choose(environment, machine(idle=0.0)) == "" and environment == {}
