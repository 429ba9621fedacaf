"""Scheduling of the recorder's two processes: the reader above others on demand, the writer when it falls behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# Between normal and real-time: what waits on this machine's CPUs is no reason to lose events, but others may still run.
_HURRIED_NICE = -15


@contextmanager
def realtime() -> Iterator[str]:
    """Let this thread run before others: real-time (SCHED_FIFO), else with the highest nice value.

    Yields what was got, in words. Children get neither (SCHED_RESET_ON_FORK); afterwards everything is as before.
    """
    policy, parameter, nice = os.sched_getscheduler(0), os.sched_getparam(0), os.getpriority(os.PRIO_PROCESS, 0)
    got = _raise()
    try:
        yield got
    finally:
        with suppress(PermissionError):
            os.sched_setscheduler(0, policy & ~os.SCHED_RESET_ON_FORK, parameter)
            os.setpriority(os.PRIO_PROCESS, 0, nice)


def _raise() -> str:
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        return "real-time"
    with suppress(PermissionError):  # a container without real-time bandwidth
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        return "nice -20"
    return "normal"


class Hurry:
    """Raises a process above others while it is behind.

    Args:
        pid: the process.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._hurried = False

    def __call__(self, behind: bool) -> None:
        """Say whether it is behind."""
        if behind == self._hurried:
            return
        self._hurried = behind
        with suppress(PermissionError, ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, self._pid, _HURRIED_NICE if behind else 0)
