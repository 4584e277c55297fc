"""How many CPU threads a run has, and how they wait for one another: chosen before torch loads its OpenMP."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, MutableMapping
from pathlib import Path

ROOT = Path("/")
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # by any of these the user has chosen
LOOK = 0.1  # seconds; the system counts in hundredths
SPARE = 0.5  # CPUs in use by others that still count as free: a look is that coarse


def usable_cpus(root: Path = ROOT) -> int:
    """CPUs that this process may keep busy: by its affinity, and by the quotas of its control groups (v1 and v2)."""
    return max(1, min([len(_affinity()), *(int(quota) for quota in _quotas(root))]))


def choose(environment: MutableMapping[str, str] | None = None, root: Path = ROOT) -> str:
    """Set in the environment how OpenMP's threads wait, unless the user has: spinning on free CPUs, else asleep.

    A thread that spins for one that is not running takes the CPU from it: 12.5 s a step where 1.9 s are possible. On
    free CPUs spinning is the faster. Where a quota is below the affinity, the number of threads is set as well. The
    results do not depend on it. Nothing is done where torch is loaded, which reads all this once.

    Returns:
        A line that says what was chosen; "" where nothing was.
    """
    environment = os.environ if environment is None else environment
    cpus = usable_cpus(root)
    if "torch" in sys.modules:
        return ""
    if cpus < len(_affinity()):
        environment.setdefault("OMP_NUM_THREADS", str(cpus))
    if environment.get("OMP_NUM_THREADS", str(cpus)) == "1" or any(name in environment for name in WAITING):
        return ""
    idle = _idle_cpus(root)
    if idle is None:
        return ""
    if idle >= cpus - SPARE:
        return f"CPU threads spin while they wait: {cpus} CPUs are free"
    environment.update(OMP_WAIT_POLICY="passive", KMP_BLOCKTIME="0")
    return f"CPU threads sleep while they wait: {max(idle, 0.0):.1f} CPUs are free, of {cpus} that may be used"


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _quotas(root: Path) -> Iterator[float]:
    """CPUs that each control group around this process grants; a container may see its own as the top."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        tops = [root / "sys/fs/cgroup" / name for name in ((controllers, "cpu") if controllers else ("", "unified"))]
        parts = [part for part in place.split("/") if part not in ("", "..")]
        for top in tops:
            for depth in range(len(parts) + 1):
                with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
                    quota, period = _quota(top.joinpath(*parts[:depth]), bool(controllers))
                    if quota > 0:
                        yield quota / period


def _quota(group: Path, first_version: bool) -> tuple[int, int]:
    """Microseconds of CPU time that a group has in each period of microseconds.

    Raises:
        OSError, ValueError: it has no quota.
    """
    if first_version:
        return int((group / "cpu.cfs_quota_us").read_text()), int((group / "cpu.cfs_period_us").read_text())
    quota, period = (group / "cpu.max").read_text().split()
    return int(quota), int(period)


def _idle_cpus(root: Path) -> float | None:
    """How many of the CPUs that this process may run on do nothing now; None where the system does not say."""
    before = _times(root)
    time.sleep(LOOK)
    after = _times(root)
    shares = [
        (after[cpu][0] - before[cpu][0]) / (after[cpu][1] - before[cpu][1])
        for cpu in _affinity() & before.keys() & after.keys()
        if after[cpu][1] > before[cpu][1]
    ]
    return sum(shares) if shares else None


def _times(root: Path) -> dict[int, tuple[int, int]]:
    """For each CPU the hundredths of a second that it was idle, and all of them, since the start."""
    times = {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/stat").read_text().splitlines():
            name, *fields = line.split()
            if name.startswith("cpu") and name != "cpu":
                counts = [int(field) for field in fields[:8]]
                times[int(name[3:])] = (counts[3] + counts[4], sum(counts))
    return times
