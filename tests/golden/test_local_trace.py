"""Relations held against a recording of the kernel's own tracers, with truth from the kernel's counters and perf.

The recording (``../shared/traces/local_B``) is not part of the project; without it these tests are skipped.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from tracectl.query import ask
from tracectl.store.capture import Capture
from tracectl.store.writer import write_rows

FOLDER = Path(__file__).parents[3] / "shared" / "traces" / "local_B"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recording in {FOLDER}")

# "3033.770316 [0000]  hog:a[8380]   7.066  0.000  0.020  S": end of a run, wait before it, wait since the waking, run
TIMEHIST = re.compile(r"^\s*(\d+)\.(\d{6}) \[\d+\]\s+.*\[(\d+)(?:/\d+)?\]\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)\s+(\S+)\s*$")

PREEMPTED = ("R", "W")  # this perf's name for R+ on this kernel, whose preemption bit it does not know


def kernel_text(name: str) -> list[dict[str, Any]]:
    """The rows of one of the recording's texts."""
    where = Path(__file__).with_name("kernel_text.py")
    spec = importlib.util.spec_from_file_location("kernel_text", where)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.rows(FOLDER / name))


@pytest.fixture(scope="module")
def by_perf(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    """Recorded by perf: nanoseconds, no context."""
    # Both texts lack switches without a word (5 and 25 breaks). The references pair over that, and here what they pair
    # is to be compared: the breaks are not looked for.
    path = tmp_path_factory.mktemp("local") / "perf.parquet"
    return Capture.open(write_rows(path, kernel_text("perf.script.gz"), breaks_declared=True))


@pytest.fixture(scope="module")
def ftrace_rows() -> list[dict[str, Any]]:
    """Recorded by ftrace: microseconds, with the context in ``flag``."""
    return kernel_text("trace_tgid.txt.gz")


@pytest.fixture(scope="module")
def by_ftrace(tmp_path_factory: pytest.TempPathFactory, ftrace_rows: list[dict[str, Any]]) -> Capture:
    """The same run as a capture without recorded context."""
    plain = [{column: value for column, value in row.items() if column != "flag"} for row in ftrace_rows]
    return Capture.open(write_rows(tmp_path_factory.mktemp("local") / "ftrace.parquet", plain, breaks_declared=True))


@pytest.fixture(scope="module")
def tasks() -> list[dict[str, Any]]:
    """The workload's threads with the kernel's counters."""
    found: list[dict[str, Any]] = json.loads((FOLDER / "ground_truth.json").read_text())["tasks"]
    return found


def test_switches_are_the_kernel_s_counters(by_ftrace: Capture, tasks: list[dict[str, Any]]) -> None:
    text = "switches | select ts, prev_tid, prev_state"
    counts: Counter[tuple[int, str]] = Counter()
    windows = {task["tid"]: task for task in tasks}
    for ts, tid, state in ask(by_ftrace, text).rows():
        task = windows.get(tid)
        if task and task["t_begin_ns"] < ts <= task["t_end_ns"]:
            counts[tid, "involuntary" if state.startswith("R") else "voluntary"] += 1
    got = {tid: (counts[tid, "voluntary"], counts[tid, "involuntary"]) for tid in windows}
    assert got == {task["tid"]: (task["nvcsw"], task["nivcsw"]) for task in tasks}


def test_wakeups_per_waker_are_the_reference_reader_s(by_ftrace: Capture) -> None:
    expected = json.loads((FOLDER / "expected.json").read_text())["tasks"]
    windows = {task["tid"]: (task["t_begin_ns"], task["t_end_ns"]) for task in expected}
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    contexts: dict[int, Counter[str]] = defaultdict(Counter)
    text = "wakeups | select ts, tid, waker_tid, context, context_vec"
    for ts, tid, waker, context, vec in ask(by_ftrace, text).rows():
        if tid in windows and windows[tid][0] < ts <= windows[tid][1]:
            counts[tid][waker] += 1
            contexts[tid][f"softirq:{vec}" if context == "softirq" else "other"] += 1
    for task in expected:
        assert counts[task["tid"]] == {waker["tid"]: waker["count"] for waker in task["wakers"]}
        by_softirq = {name: n for name, n in task["wake_context"].items() if name.startswith("softirq:")}
        assert {name: n for name, n in contexts[task["tid"]].items() if name != "other"} == by_softirq


def test_contexts_by_spans_are_ftrace_s_flags(by_ftrace: Capture, ftrace_rows: list[dict[str, Any]]) -> None:
    words = {"s": "softirq", "h": "hardirq", "H": "hardirq", ".": "task"}
    flags = {(row["ts"], row["cpu"], row["target_tid"]): words[row["flag"]] for row in ftrace_rows if "flag" in row}
    answer = ask(by_ftrace, "wakeups | select ts, cpu, tid, comm, context, context_source")
    rows = answer.rows()
    assert len(rows) == len([row for row in ftrace_rows if "flag" in row])
    assert {source for *_, source in rows} == {"spans"}
    assert any("begins and ends" in note for note in answer.notes)
    # Local timer and IPIs were not recorded: their wakeups have the context that they interrupted.
    seen = Counter((flags[ts, cpu, tid], context) for ts, cpu, tid, *_, context, _ in rows)
    assert seen["task", "unknown"] + seen["softirq", "unknown"] < 10  # before the first switch of a CPU
    others = [row for row in rows if flags[row[:3]] not in ("hardirq", row[4]) and row[4] != "unknown"]
    # ftrace enabled the events one after the other.
    first = min(row["ts"] for row in ftrace_rows if row["kind"] == "softirq_entry")
    others = [row for row in others if row[0] >= first]
    # The end of softirq processing wakes ksoftirqd after its last softirq_exit: in softirq, in no handler.
    assert {(comm, context) for _, _, _, comm, context, _ in others} <= {
        ("ksoftirqd/0", "task"),
        ("ksoftirqd/1", "task"),
    }
    assert seen["softirq", "softirq"] > 300


def timehist() -> list[tuple[int, int, float, float, float, str]]:
    """(tid, end of the run in ns, ms waited, ms of that since the waking, ms run, state at the end)."""
    with gzip.open(FOLDER / "perf_sched_timehist.txt.gz", "rt") as file:
        found = [match for line in file if (match := TIMEHIST.match(line))]
    return [(int(m[3]), int(m[1]) * 10**9 + int(m[2]) * 1000, *map(float, m.groups()[3:6]), m[7]) for m in found]  # type: ignore[misc]


def missing_switches(capture: Capture) -> set[tuple[int, int]]:
    """(tid, end in us) of runs whose switch-in perf lost without a word: timehist lets them start anywhere."""
    running: dict[int, int] = {}
    found = set()
    for ts, cpu, prev_tid, next_tid in ask(capture, "switches | select ts, cpu, prev_tid, next_tid").rows():
        if running.get(cpu, prev_tid) != prev_tid:
            found.add((prev_tid, ts // 1000 * 1000))
        running[cpu] = next_tid
    return found


def test_delays_are_perf_sched_timehist_s(by_perf: Capture, tasks: list[dict[str, Any]]) -> None:
    theirs: dict[tuple[int, str], list[float]] = defaultdict(list)
    last_state: dict[int, str] = {}
    last_start: dict[int, float] = {}
    begins = {task["tid"]: task["t_begin_ns"] + 10_000 for task in tasks}  # clear of what timehist cuts off
    unknown_starts = missing_switches(by_perf)
    for tid, end, wait, since_waking, run, state in timehist():
        before, last_state[tid] = last_state.get(tid, ""), state
        if tid in begins and begins[tid] < end - run * 1e6 and (tid, end) not in unknown_starts:
            theirs[tid, "preempted" if before in PREEMPTED else "wakeup"].append(
                wait if before in PREEMPTED else since_waking
            )
            last_start[tid] = end - run * 1e6
    ours: dict[tuple[int, str], list[int]] = defaultdict(list)
    for tid, cause, dur, end_ts in ask(by_perf, "delays | select tid, cause, dur, end_ts").rows():
        # The runs in which a thread exits are not in timehist: perf has lost their tid by then.
        if tid in begins and begins[tid] < end_ts <= last_start[tid] + 2000:
            ours[tid, cause].append(dur)
    assert sum(len(found) for found in theirs.values()) > 1000
    for key in sorted(set(ours) | set(theirs)):
        assert len(ours[key]) == len(theirs[key]), key
        cut = 0.001 * len(theirs[key])  # timehist cuts each wait to us
        assert sum(ours[key]) / 1e6 == pytest.approx(sum(theirs[key]), rel=0.01, abs=cut), key
