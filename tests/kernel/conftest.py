"""What the kernel tests share: recordings made with the running kernel, and the checks that nothing of them stays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tracectl.query.answer import ask
from tracectl.recorder.drain import Outcome
from tracectl.recorder.session import RecordOptions, record
from tracectl.store.capture import Capture
from tracectl.store.database import Database
from tracectl.store.relations import Relations

ROOT = Path(__file__).parents[2]
ORACLES = ROOT.parent / "shared" / "oracles"
TRACECTL = (sys.executable, "-m", "tracectl")
# What a recording holds while it runs, as /proc/PID/fd names it.
_KERNEL_OBJECTS = ("bpf-map", "bpf-prog", "bpf_link", "bpf_raw_tracepoint", "perf_event", "bpf-raw-tp-link")


@dataclass(frozen=True)
class Recorded:
    """A capture, with all relations as views."""

    path: Path

    @cached_property
    def capture(self) -> Capture:
        """The capture, opened."""
        return Capture.open(self.path)

    @cached_property
    def database(self) -> Database:
        """A connection on which every relation is a view."""
        database = self.capture.database()
        for statement in Relations(self.capture).create_views():
            database.execute(statement)
        return database

    def rows(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of a statement."""
        return self.database.execute(sql, parameters).rows()

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        """Rows of a question of the language."""
        return ask(self.capture, question).rows()

    def hidden(self) -> set[int]:
        """Threads that got a CPU but were never seen to leave one: machines may hide their own agent from tracing.

        (The development machine does: no probe of any tracer runs while a thread of its process 1 is current.)
        """
        found = self.rows("SELECT DISTINCT next_tid FROM sched_switch EXCEPT SELECT DISTINCT tid FROM sched_switch")
        return {tid for (tid,) in found}

    def breaks(self) -> list[tuple[int, int, int, int]]:
        """Where the thread that leaves a CPU is not the one that got it: (cpu, from ts, ts, thread that got it)."""
        return self.rows(
            "SELECT cpu, before, ts, expected FROM (SELECT cpu, ts, tid, LAG(ts) OVER w AS before,"
            " LAG(next_tid) OVER w AS expected FROM sched_switch WINDOW w AS (PARTITION BY cpu ORDER BY seq))"
            " WHERE expected <> tid ORDER BY ts"
        )


def environment(**more: str) -> dict[str, str]:
    """Environment for a tracectl of its own process."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def record_to(path: Path, *command: str | Path, **options: Any) -> Outcome:
    """Record in this process while ``command`` runs (or until another stop condition)."""
    return record(RecordOptions(path, command=tuple(str(word) for word in command), **options))


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Wait for what another process or the kernel does; the limit is for what never happens."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def kernel_objects(pid: int | str = "self") -> list[str]:
    """BPF programs, maps, links and perf events that a process holds."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
        if any(name in target for name in _KERNEL_OBJECTS):
            found.append(target)
    return found


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    """After each test this process holds no kernel object, thread or child more than before."""
    threads = threading.active_count()
    objects = len(kernel_objects())
    yield
    assert len(kernel_objects()) == objects
    assert eventually(lambda: threading.active_count() <= threads)
    assert _children() == []


def _children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


class Running:
    """``tracectl record`` in a process of its own; leaving the block ends what still runs."""

    def __init__(self, output: Path, *arguments: str | Path, **more_environment: str) -> None:
        self.output = output
        self.segments = output.with_name(output.name + ".recording")
        self.process = subprocess.Popen(
            [*TRACECTL, "record", "-o", str(output), *map(str, arguments)],
            env=environment(**more_environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def started(self) -> None:
        """Wait until it is past its preparations (signals are caught, the segments' directory exists)."""
        assert eventually(lambda: self.segments.is_dir() or self.process.poll() is not None)
        if self.process.poll() is not None:
            pytest.fail(f"tracectl record ended with {self.process.returncode}: {self.end()[1]}")

    def first_segment(self) -> None:
        """Wait until something is on disk for good."""
        assert eventually((self.segments / "000001.parquet").exists)

    def end(self) -> tuple[int, str]:
        """Exit code and what it said."""
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out + err

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@dataclass(frozen=True)
class Workload(Recorded):
    """The oracles' workload, recorded by tracectl, perf and ftrace at the same time."""

    folder: Path

    @cached_property
    def truth(self) -> dict[str, Any]:
        """What the workload and the kernel's own counters say happened."""
        truth: dict[str, Any] = json.loads((self.folder / "truth.json").read_text())
        return truth

    def role(self, name: str) -> list[dict[str, Any]]:
        """The threads of a role."""
        threads: list[dict[str, Any]] = self.truth["roles"][name]["threads"]
        return threads

    def task(self, name: str) -> dict[str, Any]:
        """The thread of a name, with its window and counters."""
        return next(task for task in self.truth["tasks"] if task["comm"] == name)

    def perf(self, *arguments: str) -> list[str]:
        """Lines that perf prints about its recording."""
        command = ["perf", *arguments, "-i", str(self.folder / "perf.data")]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=True)
        return done.stdout.splitlines()

    @property
    def ftrace(self) -> list[str]:
        """Lines of the kernel's own text."""
        return (self.folder / "ftrace" / "trace.txt").read_text(errors="replace").splitlines()


def need(condition: bool, reason: str) -> None:
    """Skip with the reason, or fail where live recording must work."""
    if not condition and os.environ.get("TRACECTL_REQUIRE_KERNEL"):
        pytest.fail(f"TRACECTL_REQUIRE_KERNEL is set, but {reason}")
    if not condition:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """One run of the workload. tracectl starts first and ends last, so that its capture covers the others'."""
    need((ORACLES / "workload.py").is_file(), f"no oracles in {ORACLES}")
    need(shutil.which("perf") is not None, "perf is not installed")
    folder = tmp_path_factory.mktemp("workload")
    command = [ORACLES / "rec_ftrace.sh", folder / "ftrace", ORACLES / "rec_perf.sh", folder / "perf.data"]
    command += [sys.executable, ORACLES / "workload.py", "--out", folder / "truth.json"]
    outcome = record_to(folder / "workload.parquet", *command, command_line=("tracectl", "record", "--", "workload"))
    assert outcome.command_exit == 0
    assert outcome.lost == 0
    assert all(line.residue == 0 for line in outcome.ledger)
    return Workload(outcome.path, folder)
