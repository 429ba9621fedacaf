"""Traces of other people's tools, imported, against answers that other tools gave (``../shared/traces``).

The traces are not part of the project; without them these tests are skipped.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tracectl.query import ask
from tracectl.recorder.import_session import Imported, ImportOptions, import_traces
from tracectl.store.capture import Capture
from tracectl.store.errors import NotRecordedError

FOLDER = Path(__file__).parents[3] / "shared" / "traces"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no traces in {FOLDER}")
DIALECTS = ("trace.txt.gz", "trace_tgid.txt.gz", "report.txt.gz", "report_R.txt.gz")
LOCAL = (*DIALECTS, "perf.script.gz")
Import = Callable[[str], tuple[Imported, Capture]]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Import:
    """Imports a file of the folder, each once."""

    @cache
    def make(name: str) -> tuple[Imported, Capture]:
        output = tmp_path_factory.mktemp("imported") / "capture.parquet"
        outcome = import_traces(ImportOptions((str(FOLDER / name),), output))
        return outcome, Capture.open(output)

    return make


def answer(imported: Import, name: str, question: str) -> list[tuple[Any, ...]]:
    """The rows of an answer."""
    return ask(imported(name)[1], question).rows()


def ground_truth() -> dict[int, dict[str, Any]]:
    """The workload's threads with the kernel's counters, by tid."""
    return {task["tid"]: task for task in json.loads((FOLDER / "local_B/ground_truth.json").read_text())["tasks"]}


EVENTS = {
    **dict.fromkeys((f"local_B/{name}" for name in DIALECTS), 30_921),
    "local_B/perf.script.gz": 21_630,
    "lisa/trace.txt": 2_941,
    "tracecompass/trace-android-sched-irq": 139,
    "tracecompass/trace-critical-path": 146,
    "catapult/android_systrace.txt": 91,
    "speedscope/one-sample.linux-perf.txt": 1,
    "speedscope/simple-with-pid.linux-perf.txt": 137,
}


@pytest.mark.parametrize("name", EVENTS)
def test_every_event_is_there_and_every_line_was_read(imported: Import, name: str) -> None:
    outcome, capture = imported(name)
    assert outcome.totals.unparsed == 0
    assert sum(outcome.totals.events.values()) == EVENTS[name]
    assert ask(capture, "events | count").rows()[0][0] == EVENTS[name]


@pytest.mark.parametrize("name", LOCAL)
def test_counts_of_events(imported: Import, name: str) -> None:
    lines = (FOLDER / "local_B/event_counts.txt").read_text().splitlines()
    expected = {file: tuple(map(int, counts)) for file, *counts in (line.split() for line in lines)}
    events = imported(f"local_B/{name}")[0].totals.events
    got = tuple(events[kind] for kind in ("sched_switch", "sched_waking", "softirq_entry"))
    assert got == expected[name.replace("_tgid", "").removesuffix(".gz")]


@pytest.mark.parametrize("name", LOCAL)
def test_switches_are_the_kernel_s_counters(imported: Import, name: str) -> None:
    tasks = ground_truth()
    counts: Counter[tuple[int, bool]] = Counter()
    for ts, tid, state in answer(imported, f"local_B/{name}", "switches | select ts, prev_tid, prev_state"):
        if tid in tasks and tasks[tid]["t_begin_ns"] < ts <= tasks[tid]["t_end_ns"]:
            counts[tid, state.startswith("R")] += 1
    got = {tid: (counts[tid, False], counts[tid, True]) for tid in tasks}
    assert got == {tid: (task["nvcsw"], task["nivcsw"]) for tid, task in tasks.items()}


@pytest.mark.parametrize("name", LOCAL)
def test_wakers_are_the_reference_reader_s(imported: Import, name: str) -> None:
    expected = json.loads((FOLDER / "local_B/expected.json").read_text())["tasks"]
    windows = {task["tid"]: (task["t_begin_ns"], task["t_end_ns"]) for task in expected}
    wakers: dict[int, Counter[int]] = defaultdict(Counter)
    for ts, tid, waker in answer(imported, f"local_B/{name}", "wakeups | select ts, tid, waker_tid"):
        if tid in windows and windows[tid][0] < ts <= windows[tid][1]:
            wakers[tid][waker] += 1
    for task in expected:
        assert wakers[task["tid"]] == {waker["tid"]: waker["count"] for waker in task["wakers"]}, task["comm"]


@pytest.mark.parametrize("name", ["trace.txt.gz", "trace_tgid.txt.gz"])
def test_contexts_by_flags_are_the_reference_reader_s(imported: Import, name: str) -> None:
    expected = json.loads((FOLDER / "local_B/expected.json").read_text())["tasks"]
    windows = {task["tid"]: (task["t_begin_ns"], task["t_end_ns"]) for task in expected}
    contexts: dict[int, Counter[str]] = defaultdict(Counter)
    question = "wakeups | select ts, tid, context, context_vec, context_source"
    for ts, tid, context, vec, source in answer(imported, f"local_B/{name}", question):
        assert source == "flags"
        if tid in windows and windows[tid][0] < ts <= windows[tid][1]:
            # The reference reader writes -1 for a softirq wakeup outside of every handler.
            contexts[tid][f"softirq:{-1 if vec is None else vec}" if context == "softirq" else context] += 1
    for task in expected:
        nested = task["wake_context"].pop("hardirq-in-softirq", 0)
        task["wake_context"]["hardirq"] = task["wake_context"].get("hardirq", 0) + nested
        assert contexts[task["tid"]] == {name: n for name, n in task["wake_context"].items() if n}, task["comm"]


QUESTIONS = (
    "switches | select ts, cpu, prev_tid, prev_comm, prev_prio, next_tid, next_comm, next_prio",
    "delays | select ts, dur, tid, cpu, cause, prev_tid",
    "sleeps | select ts, dur, tid, state, blocked, waker_tid",
    "runs | select ts, dur, tid, cpu",
    "softirqs | select ts, dur, vec, cpu",
    "irqs | select ts, dur, irq, name",
    "wakeups | select ts, cpu, tid, comm, waker_tid, waker_comm, prio, prev_cpu",
    "tasks | select tid, comm",
    "events sched_process_fork | select ts, tid, child_tid, child_comm",
)


@pytest.mark.parametrize("question", QUESTIONS)
def test_dialects_of_one_recording_give_the_same_answers(imported: Import, question: str) -> None:
    first, *others = (answer(imported, f"local_B/{name}", question) for name in DIALECTS)
    assert first
    for other in others:
        assert other == first


def test_states_of_the_dialects(imported: Import) -> None:
    states = [
        Counter(state for (state,) in answer(imported, f"local_B/{name}", "switches | select prev_state"))
        for name in DIALECTS
    ]
    text, tgid, report, numbers = states
    assert text == tgid == numbers
    # trace-cmd's own layout does not tell a preempted thread from one that yields.
    text["R"] += text.pop("R+")
    assert report == text


def test_both_recorders_saw_the_same_switches_of_the_workload(imported: Import) -> None:
    tasks = ground_truth()
    question = "switches | select ts, prev_tid, cpu, next_tid"
    seen = []
    for name in ("trace.txt.gz", "perf.script.gz"):
        rows = answer(imported, f"local_B/{name}", question)
        seen.append([(t, c, n) for ts, t, c, n in rows if t in tasks and ts > tasks[t]["t_begin_ns"] + 10_000])
    assert Counter(seen[0]) == Counter(seen[1])


def test_lisa_s_times_on_a_cpu(imported: Import) -> None:
    # LISA splits a thread's time by its names and, at a wakeup of a thread that runs already (kworker/u12:0, pid 5),
    # ends the activity; idle is another matter there (a CPU's own state, not swapper's).
    with (FOLDER / "lisa/expected_lisa_task_states.tsv").open() as file:
        expected: Counter[int] = Counter()
        for row in csv.DictReader(file, delimiter="\t"):
            if row["s"] == "TASK_ACTIVE" and row["pid"] != "0":
                expected[int(row["pid"])] += round(float(row["sum"]) * 1e6)
    got: Counter[int] = Counter()
    for tid, dur in answer(imported, "lisa/trace.txt", "runs where tid != 0 | select tid, dur"):
        got[tid] += (dur or 0) // 1000
    assert len(expected) > 40
    assert {tid for tid in expected if got[tid] != expected[tid]} == {5}
    assert got[5] - expected[5] == 10


def test_lisa_s_preempted_flag_is_found(imported: Import) -> None:
    states = Counter(state for (state,) in answer(imported, "lisa/trace.txt", "switches | select prev_state"))
    assert states["R+"] > 0
    assert not [state for state in states if state.isdecimal()]


PERFETTO = ("tracecompass/trace-android-sched-irq", "tracecompass/trace-critical-path", "catapult/android_systrace.txt")


@pytest.mark.parametrize("name", PERFETTO)
def test_perfetto_s_slices(imported: Import, name: str) -> None:
    table = (FOLDER / f"{name.removesuffix('.txt')}.expected_tp.tsv").read_text().splitlines()
    slices, _, cpus = map(int, table[1].split())
    assert answer(imported, name, "switches | count")[0][0] == slices
    assert len(imported(name)[1].cpus) == cpus or name.endswith("critical-path")  # a CPU with no switch is none there
    runs: dict[int, list[int]] = defaultdict(list)
    for tid, dur in answer(imported, name, "runs | select tid, dur"):
        if dur is not None:  # else it ran on
            runs[tid].append(dur)
    compared = 0
    for line in table[4:]:
        fields = line.split("\t")
        if len(fields) == 7 and fields[2] == "Running":
            tid, n, ns, longest, still_running = (int(f) if f != "NULL" else 0 for f in (fields[0], *fields[3:]))
            assert (len(runs[tid]), sum(runs[tid])) == (n - still_running, ns), fields
            assert max(runs[tid], default=-1) == longest, fields
            compared += 1
    assert compared > 5


def test_what_ftrace_overwrote_is_a_gap(imported: Import) -> None:
    outcome, capture = imported("tracecompass/trace-android-sched-irq")
    assert outcome.totals.lost == 223_807 - 69_657
    assert ask(capture, "switches | count").qualification.exact is False


def inline_cases() -> list[dict[str, Any]]:
    path = FOLDER / "perfetto/inline_cases.json"
    return [case for case in json.loads(path.read_text()) if case["kind"] == "Systrace"] if path.is_file() else []


@pytest.mark.parametrize("case", inline_cases(), ids=lambda case: case["name"])
def test_perfetto_s_own_systrace_cases_are_read(case: dict[str, Any], tmp_path: Path) -> None:
    source = tmp_path / "case"
    source.write_text(case["trace"])
    outcome = import_traces(ImportOptions((str(source),), tmp_path / "out.parquet"))
    lines = [line for line in case["trace"].splitlines() if not line.startswith("cpus=")]
    begun = {line.split(" ")[0] for line in lines if ": B|" in line}
    ends = sum(": E|" in line and line.split(" ")[0] in begun for line in lines)  # they complete their begin's row
    assert (sum(outcome.totals.events.values()), outcome.totals.unparsed) == (len(lines) - ends, 0)


@pytest.mark.parametrize("name", [case["name"] for case in inline_cases() if "atrace" in case["suite"]])
def test_perfetto_s_slices_of_its_own_atrace_cases(name: str, tmp_path: Path) -> None:
    (case,) = (case for case in inline_cases() if case["name"] == name)
    (tmp_path / "case").write_text(case["trace"])
    outcome = import_traces(ImportOptions((str(tmp_path / "case"),), tmp_path / "out.parquet"))
    columns, *expected = list(csv.reader(case["out"].splitlines()))
    if columns in (["name", "count"], ["slice_count"]):
        question = f"events slice | count{' by name | sort name | select name, count' if len(columns) > 1 else ''}"
    else:
        question = f"events slice | select {', '.join(columns)}"
    rows = ask(Capture.open(outcome.path), question).rows()
    assert [[str(value) for value in row] for row in rows] == expected


@pytest.mark.skipif(shutil.which("trace-cmd") is None, reason="trace-cmd is not installed")
def test_trace_dat_holds_what_trace_cmd_reports(imported: Import) -> None:
    path = FOLDER / "trappy/raw_trace.dat"
    report = subprocess.run(["trace-cmd", "report", "-i", path], capture_output=True, check=True).stdout.decode()
    switches = [line for line in report.splitlines() if " sched_switch: " in line]
    rows = answer(
        imported, "trappy/raw_trace.dat", "switches | select ts, cpu, prev_comm, prev_tid, next_comm, next_tid"
    )
    assert len(rows) == len(switches) == 755
    for line, (_, cpu, prev, prev_tid, following, next_tid) in zip(switches, rows, strict=True):
        assert f"[{cpu:03}]" in line
        assert f" {prev}:{prev_tid} [" in line
        assert f" ==> {following}:{next_tid} [" in line


def test_the_log_of_ep_poll_interact(imported: Import) -> None:
    name = "pubdiy/ep_poll_interact.bt.log"
    expected = json.loads((FOLDER / "pubdiy/expected.json").read_text())["ep_poll_interact.bt.log"]
    wakeups = answer(imported, name, "wakeups | select tid, comm, waker_comm")
    assert len(wakeups) == expected["wakeups"]
    assert Counter(f"{tid} {comm}" for tid, comm, _ in wakeups) == expected["by_wakee"]
    assert Counter(waker for *_, waker in wakeups) == expected["by_waker_comm"]
    assert Counter(f"{tid} <- {waker}" for tid, _, waker in wakeups) == expected["by_wakee_waker"]
    returns = answer(imported, name, "epolls | select tid, comm")
    assert len(returns) == expected["sleeper_wakeups"]
    assert Counter(f"{tid} {comm}" for tid, comm in returns) == expected["sleeper_by_tid"]
    callbacks = answer(imported, name, "callbacks | select tcp_state, sport")
    assert Counter(state for state, _ in callbacks) == expected["by_state"]
    ports = Counter(str(port) for _, port in callbacks)
    assert (
        dict(ports.most_common(len(expected["by_lport"]) - 1)).items() <= expected["by_lport"].items() <= ports.items()
    )
    assert len(answer(imported, name, "wakeups where fd is null")) == 0
    assert sum(n for *_, n in answer(imported, name, "wakeups on port 15006 | count by fd")) > 0
    assert len(answer(imported, name, "events inet_csk_accept")) == expected["inet_csk_accept_lines"]
    # Counted there as text: once more, in the script that the log begins with.
    assert len(answer(imported, name, "accepts")) == expected["sys_exit_accept4"] - 1
    assert len(answer(imported, name, "closes")) == expected["close"]
    times = [ts // 1_000_000 for (ts,) in answer(imported, name, "wakeups | select ts")]
    assert [min(times), max(times)] == expected["elapsed_ms_range"]
    assert [text.partition("@")[0] for _, text in imported(name)[0].totals.examples] == ["^C", "root"]


def test_the_log_does_not_tell_who_woke_by_softirq(imported: Import) -> None:
    with pytest.raises(NotRecordedError, match="context cannot be told"):
        answer(imported, "pubdiy/ep_poll_interact.bt.log", "wakeups of tid 4449 by softirq")
