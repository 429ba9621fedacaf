"""Priorities are got by the one they are for, and given back."""

from __future__ import annotations

import os

import pytest

from tracectl.recorder.delays import Delays
from tracectl.recorder.priority import Hurry, realtime
from tracectl.recorder.probes import automatic_buffer

MIB = 1 << 20


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can raise a priority")
def test_children_do_not_inherit_it() -> None:
    before = os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)
    with realtime() as got:
        assert got in ("real-time", "nice -20")
        raised = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK, os.getpriority(os.PRIO_PROCESS, 0)
        assert raised == ((os.SCHED_FIFO, before[1]) if got == "real-time" else (os.SCHED_OTHER, -20))
        child = os.fork()
        if child == 0:
            plain = os.sched_getscheduler(0) == os.SCHED_OTHER and os.getpriority(os.PRIO_PROCESS, 0) == 0
            os._exit(0 if plain else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert (os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can raise a priority")
def test_a_process_is_hurried_only_while_it_is_behind() -> None:
    gate, release = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(release)
        os.read(gate, 1)
        os._exit(0)
    hurry = Hurry(child)
    seen = []
    for behind in (False, True, True, False):
        hurry(behind)
        seen.append(os.getpriority(os.PRIO_PROCESS, child))
    os.close(release)
    os.waitpid(child, 0)
    assert seen == [os.getpriority(os.PRIO_PROCESS, 0), -15, -15, 0]
    hurry(True)  # it is gone: nothing to do


@pytest.mark.parametrize(
    ("rings", "memory", "size"),
    [(10, 24 << 30, 8 * MIB), (2, 1 << 30, 2 * MIB), (10, 1 << 30, 512 << 10), (512, 256 << 30, 2 * MIB)],
)
def test_buffer_by_memory(rings: int, memory: int, size: int) -> None:
    assert automatic_buffer(rings, memory) // (512 << 10) * (512 << 10) == size
    assert automatic_buffer(rings) >= 512 << 10


def test_quantiles_of_delays() -> None:
    delays = Delays()
    assert delays.summary() == (0, 0, 0)
    for value in [*[1000] * 98, 50_000, 90_000]:
        delays.add(value)
    median, p99, longest = delays.summary()
    assert 1000 <= median <= 1091
    assert 50_000 <= p99 <= 54_600
    assert longest == 90_000
