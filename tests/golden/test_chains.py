"""Chains and critical paths: small traces by hand, and other tools' traces against Perfetto's critical path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tracectl.query import ask
from tracectl.recorder.import_session import ImportOptions, import_traces
from tracectl.store.capture import Capture
from tracectl.store.errors import NotRecordedError
from tracectl.store.writer import write_rows

FOLDER = Path(__file__).parents[3] / "shared" / "traces"
WAITS = ("depth", "ts", "dur", "comm", "what", "ran_comm", "wakes_comm", "certain")


def handed_over(trace: Any) -> Any:
    """``a`` waits for ``b``, which ``c`` kept from its CPU, which an interrupt had woken."""
    trace.switch(100, 0, "a:1", "S", "idle")
    trace.switch(110, 1, "b:2", "S", "c:3")
    trace.event(120, 0, "softirq_entry", "idle", vec=3).waking(125, 0, "idle", "b:2", "softirq", 3)
    trace.event(126, 0, "softirq_exit", "idle", vec=3)
    trace.switch(140, 1, "c:3", "R+", "d:4")
    trace.switch(150, 1, "d:4", "S", "b:2")
    trace.waking(170, 1, "b:2", "a:1").switch(180, 0, "idle", "R", "a:1")
    trace.switch(190, 0, "a:1", "S", "idle")
    return trace


def path(capture: Any, question: str, *names: str) -> list[tuple[Any, ...]]:
    return ask(capture, f"{question} | select {', '.join(names or WAITS)}").rows()


def test_all_that_held_a_thread_up(trace: Any, capture_of: Any) -> None:
    capture = capture_of(handed_over(trace))
    first = capture.start_ts
    asked = f"critical path of tid 1 between {100 - first}ns and {190 - first}ns"
    assert path(capture, asked) == [
        (1, 100, 10, "b", "running", None, "a", True),
        (1, 110, 10, "b", "blocked", None, "a", True),
        (2, 120, 5, None, "softirq", None, "b", True),
        (1, 125, 15, "b", "runnable", "c", "a", True),
        (1, 140, 10, "b", "runnable", "d", "a", True),
        (1, 150, 20, "b", "running", None, "a", True),
        (0, 170, 10, "a", "runnable", "swapper/0", None, True),
        (0, 180, 10, "a", "running", None, None, True),
    ]
    assert ask(capture, f"{asked} | sum dur").rows() == [(90,)]


def test_a_chain_goes_back_to_an_interrupt(trace: Any, capture_of: Any) -> None:
    capture = capture_of(handed_over(trace))
    found = path(capture, f"chains of comm a at {185 - capture.start_ts}ns", "depth", "ts", "end_ts", "comm", "what")
    assert found == [
        (0, 180, 190, "a", "running"),
        (0, 170, 180, "a", "runnable"),
        (0, 100, 170, "a", "blocked"),
        (1, 150, 170, "b", "running"),
        (1, 140, 150, "b", "runnable"),
        (1, 125, 140, "b", "runnable"),
        (1, 110, 125, "b", "blocked"),
        (2, 120, 125, None, "softirq"),
    ]


def certain(trace: Any, capture_of: Any, stream: str, begin: int, end: int) -> dict[tuple[str, int], bool]:
    """What stays certain where events of CPU 1 (of CPU 0, of interrupts) were lost."""
    cpu = 0 if stream == "irq" else 1
    trace.event(end, cpu, "lost", stream=stream, from_ts=begin, lost_count=1, cause="ring_full")
    capture = capture_of(trace)
    first = capture.start_ts
    asked = f"critical path of tid 1 between {100 - first}ns and {190 - first}ns"
    return {(what, ts): sure for what, ts, sure in path(capture, asked, "what", "ts", "certain")}


def test_behind_a_link_over_a_gap_nothing_is_certain(trace: Any, capture_of: Any) -> None:
    found = certain(handed_over(trace), capture_of, "sched", 111, 115)
    assert found["running", 180]
    # What b did from 150 on is known by itself; that a waited for it is not.
    assert not found["running", 150]


def test_a_lost_handler_leaves_its_wait_open(trace: Any, capture_of: Any) -> None:
    found = certain(handed_over(trace), capture_of, "irq", 121, 124)
    assert not found["softirq", 120] and not found["blocked", 110]
    assert found["running", 150] and found["runnable", 125]


def test_threads_that_are_only_in_a_filter_are_not_certain(trace: Any, capture_of: Any) -> None:
    trace.options["filter"] = "tid 1"
    capture = capture_of(handed_over(trace))
    answer = ask(capture, f"critical path of tid 1 between 0ns and {190 - capture.start_ts}ns")
    sure, depth, what = (answer.columns.index(name) for name in ("certain", "depth", "what"))
    assert {(row[depth], row[what]) for row in answer.rows() if row[sure]} == {(0, "running")}
    assert not answer.qualification.exact


def test_without_wakings_there_is_no_walk(trace: Any, capture_of: Any) -> None:
    capture = capture_of(trace.switch(100, 0, "a:1", "S", "idle"))
    with pytest.raises(NotRecordedError, match="sched_waking"):
        ask(capture, "chains of tid 1 at 0ns")


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no traces in {FOLDER}")
def test_threads_share_a_path_as_perfetto_says(tmp_path: Path) -> None:
    """Perfetto v52: SUM(dur) by thread of ``_thread_executing_span_critical_path`` of 8384, from its first waking."""
    import_traces(ImportOptions((str(FOLDER / "local_B/trace.txt.gz"),), tmp_path / "b.parquet"))
    capture = Capture.open(tmp_path / "b.parquet")
    since, until = (us * 1000 - capture.start_ts for us in (3_033_977_438, 3_034_169_846))
    asked = f"critical path of tid 8384 between {since}ns and {until}ns where what in (running, runnable)"
    found = dict(ask(capture, f"{asked} | sum dur by tid").rows())
    assert {tid: found[tid] // 1000 for tid in (8384, 8382, 8375)} == {8384: 22_393, 8382: 9_845, 8375: 63}


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no traces in {FOLDER}")
def test_a_critical_path_of_trace_compass_own_trace(tmp_path: Path) -> None:
    """Perfetto v52 on the same file: threaded-ml from 2045 us, pulseaudio 2137 to 2296 us, threaded-ml to 2328 us."""
    import_traces(ImportOptions((str(FOLDER / "tracecompass/trace-critical-path"),), tmp_path / "c.parquet"))
    capture = Capture.open(tmp_path / "c.parquet")
    found = path(capture, "critical path of tid 3534 between 2100us and 2320us", "ts", "end_ts", "comm")
    first = capture.start_ts
    turns = [((ts - first) // 1000, (end - first) // 1000, comm) for ts, end, comm in found]
    assert [turn[2] for turn in turns if turn[0] < 2137] == ["threaded-ml"]
    assert {turn[2] for turn in turns if 2137 <= turn[0] < 2296} == {"pulseaudio"}
    assert {turn[2] for turn in turns if turn[0] >= 2296} == {"threaded-ml"}
    assert (turns[1][0], turns[-1][1]) == (2137, 2320)


def test_a_walk_is_of_one_capture(run: Any, tmp_path: Path) -> None:
    sample = Path(__file__).parents[2] / "examples" / "sample.parquet"
    rows = [{"kind": "sched_waking", "ts": 5, "cpu": 0, "tid": 1, "pid": 1, "comm": "a", "target_tid": 2}]
    other = write_rows(tmp_path / "other.parquet", rows, kinds=["sched_switch", "sched_waking"])
    done = run("query", sample, other, "chains of tid 1 at 1s")
    assert done.code != 0 and "one capture" in done.err and "Traceback" not in done.err
