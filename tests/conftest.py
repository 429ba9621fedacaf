"""What several tests share: the command line called in this process, a small capture, the kernel tests' condition."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from tracectl.cli import main
from tracectl.recorder import bpf
from tracectl.store.errors import RecordError
from tracectl.store.footer import LedgerLine
from tracectl.store.writer import write_rows

# Set it where live recording must work (CI on a root machine): a kernel test that cannot run then fails.
REQUIRE_KERNEL = "TRACECTL_REQUIRE_KERNEL"
START = 1_000_000_000_000

# The same random cases every time, so that a red run means a change of the code; a search for new ones is asked for.
settings.register_profile(
    "tracectl", deadline=None, database=None, print_blob=True, suppress_health_check=list(HealthCheck),
    derandomize=not {"TRACECTL_RANDOM", "TRACECTL_SOUNDNESS"} & os.environ.keys(),
)  # fmt: skip
settings.load_profile("tracectl")


class Ran(NamedTuple):
    """What a command line did."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Calls ``tracectl`` with these arguments, in this process."""

    def call(*arguments: object) -> Ran:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return call


def switch(ts: int, cpu: int, prev: tuple[int, str, str], following: tuple[int, str]) -> dict[str, Any]:
    """A sched_switch row: who leaves (tid, comm, state) and who follows (tid, comm)."""
    (tid, comm, state), (next_tid, next_comm) = prev, following
    row = {"kind": "sched_switch", "ts": ts, "cpu": cpu, "pid": tid, "tid": tid, "comm": comm, "prev_state": state}
    return row | {"prev_prio": 120, "next_prio": 120, "next_tid": next_tid, "next_comm": next_comm}


def waking(
    ts: int, cpu: int, waker: tuple[int, str], target: tuple[int, int, str], context: tuple[str, int | None]
) -> dict[str, Any]:
    """A sched_waking row: current (tid, comm), the woken (tid, pid, comm), the context (and vector) it came from."""
    row = {"kind": "sched_waking", "ts": ts, "cpu": cpu, "pid": waker[0], "tid": waker[0], "comm": waker[1]}
    row |= {"target_tid": target[0], "target_pid": target[1], "target_comm": target[2]}
    return row | {"target_prio": 120, "target_cpu": cpu, "context": context[0], "context_vec": context[1]}


WORKER = (4449, 4182, "wrk:worker_0")
IDLE = (0, "swapper/0")
# Who was current differs, the cause does not: a softirq. The last name is what a hostile program could call itself.
ROWS = (
    waking(START + 1_000, 0, IDLE, WORKER, ("softirq", 3)),
    switch(START + 3_000, 0, (*IDLE, "R"), (4449, "wrk:worker_0")),
    switch(START + 2_000_000, 0, (4449, "wrk:worker_0", "S"), IDLE),
    waking(START + 3_000_000, 0, (10, "ksoftirqd/0"), WORKER, ("softirq", 3)),
    switch(START + 3_001_500, 0, (*IDLE, "R"), (4449, "wrk:worker_0")),
    switch(START + 4_000_000, 0, (4449, "wrk:worker_0", "S"), IDLE),
    waking(START + 5_000_000, 0, (900, "kubelet"), WORKER, ("softirq", 3)),
    waking(START + 6_000_000, 1, (77, "\x1b[31mevil\n\u202e"), (78, 78, "victim"), ("task", None)),
)
KINDS = ("sched_switch", "sched_waking")


@pytest.fixture(scope="session")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete little capture of two CPUs: nothing lost."""
    path = tmp_path_factory.mktemp("capture") / "web.parquet"
    ledger = [LedgerLine("sched", 0, 7, 7, 0), LedgerLine("sched", 1, 1, 1, 0)]
    clocks = [{"ts": START, "boottime": START, "realtime": 1_651_648_335_000_000_000}]
    return write_rows(
        path, ROWS, kinds=KINDS, cpus=(0, 1), start_ts=START, end_ts=START + 10_000_000, ledger=ledger, clocks=clocks,
        host="web-1", kernel="6.1.0", machine="x86_64", version="0.1.0", command_line=["tracectl", "record"],
    )  # fmt: skip


@pytest.fixture(scope="session")
def lossy_capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a gap of twelve events on CPU 1."""
    path = tmp_path_factory.mktemp("lossy") / "lossy.parquet"
    gap = {"kind": "lost", "ts": START + 9_000_000, "cpu": 1, "stream": "sched", "from_ts": START + 6_000_000}
    gap |= {"lost_count": 12, "cause": "ring_full"}
    ledger = [LedgerLine("sched", 0, 7, 7, 0), LedgerLine("sched", 1, 13, 1, 12)]
    return write_rows(
        path, [*ROWS, gap], kinds=KINDS, cpus=(0, 1), start_ts=START, end_ts=START + 10_000_000, ledger=ledger
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip the kernel tests with the reason where nothing can be recorded, or fail them where it must work."""
    if item.get_closest_marker("kernel") is None:
        return
    reason = _why_not_recording()
    if reason and os.environ.get(REQUIRE_KERNEL):
        pytest.fail(f"{REQUIRE_KERNEL} is set, but {reason}")
    if reason:
        pytest.skip(reason)


def _why_not_recording() -> str:
    if os.geteuid() != 0:
        return "recording needs root"
    if not Path("/sys/kernel/tracing/events/sched").is_dir():
        return "tracefs is not mounted"
    try:
        bpf.load_bcc()
    except RecordError as error:
        return error.problem
    return ""
