"""Exports opened by Perfetto's own trace processor, offline: the same switches, wakers, states and spans as ours."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tracectl import export_protobuf
from tracectl.cli import main
from tracectl.export_clock import Clocks
from tracectl.export_perfetto_sched import state_bits
from tracectl.store.capture import Capture
from tracectl.store.relations import Relations
from tracectl.store.writer import write_rows

Run = Callable[..., Any]
Ask = Callable[[Path, str], list[tuple[str, ...]]]
Rows = list[dict[str, Any]]

ROOT = Path(__file__).parents[2]
START = 5_000_000_000_000
SUSPENDED = 3_600_000_000_000
REALTIME = 1_700_000_000_000_000_000
CPUS = 3
EVIL = 'a"b\n</script>'


@pytest.fixture(scope="module")
def ask(trace_processor: Ask) -> Ask:
    return trace_processor


@pytest.fixture(scope="module", autouse=True)
def _perfetto() -> None:
    pytest.importorskip("perfetto", reason="the extra perfetto is not installed")


class Machine:
    """A made-up machine that wakes and switches threads as a kernel does, always the same way."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.rows: Rows = []
        self.ts = START
        self.running = dict.fromkeys(range(CPUS), 0)
        self.sleeping = set(range(100, 112))
        self.ready: list[int] = []

    def name(self, tid: int, cpu: int = 0) -> str:
        return f"swapper/{cpu}" if tid == 0 else f"thread{tid}" if tid % 5 else EVIL

    def add(self, kind: str, cpu: int, **fields: Any) -> None:
        tid = self.running[cpu]
        row = {"kind": kind, "ts": self.ts, "cpu": cpu, "pid": tid and 100, "tid": tid, "comm": self.name(tid, cpu)}
        self.rows.append(row | {"seq": len(self.rows) + 1} | fields)

    def waking(self, cpu: int) -> None:
        tid = self.random.choice(sorted(self.sleeping))
        self.sleeping.remove(tid)
        self.ready.append(tid)
        context, vec = self.random.choice((("task", None), ("softirq", 3), ("hardirq", 36), ("unknown", None)))
        target = {"target_tid": tid, "target_pid": 100, "target_comm": self.name(tid), "target_prio": 120}
        self.add("sched_waking", cpu, **target, target_cpu=cpu, context=context, context_vec=vec)

    def switch(self, cpu: int) -> None:
        leaving = self.running[cpu]
        state = "R" if leaving == 0 else self.random.choice(("S", "S", "D", "I", "R", "R+"))
        following = self.ready.pop(0) if self.ready else 0
        if leaving == following:
            return
        prio = {"prev_prio": 120, "next_prio": 120}
        self.add("sched_switch", cpu, **prio, prev_state=state, next_tid=following, next_comm=self.name(following, cpu))
        self.running[cpu] = following
        if leaving:
            self.ready.append(leaving) if state.startswith("R") else self.sleeping.add(leaving)

    def softirq(self, cpu: int) -> None:
        vec = self.random.randrange(10)
        self.add("softirq_entry", cpu, vec=vec)
        self.ts += self.random.randrange(2) * 700
        self.add("softirq_exit", cpu, vec=vec)

    def run(self, steps: int) -> Rows:
        """Events of so many steps; now and then several of a CPU at the same ns (Perfetto has no order across CPUs)."""
        cpu = 0
        for _ in range(steps):
            if advance := self.random.choice((0, 250, 1_000, 77_777)):
                self.ts += advance
                cpu = self.random.randrange(CPUS)
            step = self.random.choice((self.switch, self.switch, self.waking, self.softirq))
            if step != self.waking or self.sleeping:
                step(cpu)
        while self.ready:  # a thread that was woken and never got a CPU is a sleep to Perfetto, not yet one to us
            self.ts += 1_000
            self.switch(self.random.randrange(CPUS))
        return self.rows


class Own:
    """What our relations say about a capture."""

    def __init__(self, path: Path) -> None:
        self.capture = Capture.open(path)
        self.database = self.capture.database()
        self.relations = Relations(self.capture)

    def __call__(self, relations: str, sql: str) -> list[tuple[Any, ...]]:
        return self.database.execute(f"{self.relations.with_clause(relations.split())}\n{sql}").rows()

    def states(self) -> dict[tuple[int, str], tuple[int, int]]:
        """How often and how long each thread was in each state."""
        found = {(tid, "Running"): (n, ns) for tid, n, ns in self("runs", _SUMS.format("runs", "dur", "1"))}
        found |= {(tid, "R"): (n, ns) for tid, n, ns in self("delays", _SUMS.format("delays", "dur", "1"))}
        sql = "SELECT tid, state, COUNT(*), SUM(blocked)::BIGINT FROM sleeps WHERE tid > 0 GROUP BY ALL"
        return found | {(tid, state): (n, ns) for tid, state, n, ns in self("sleeps", sql)}


_SUMS = "SELECT tid, COUNT(*), SUM({1})::BIGINT FROM {0} WHERE tid > 0 AND {2} GROUP BY tid"
_STATES = (
    "SELECT t.tid, CASE WHEN state IN ('R', 'R+') THEN 'R' ELSE state END, COUNT(*), SUM(dur) "
    "FROM thread_state JOIN thread t USING (utid) WHERE dur >= 0 AND t.tid > 0 GROUP BY 1, 2"
)
_WAKERS = (
    "SELECT s.ts, t.tid, w.tid, s.irq_context FROM thread_state s JOIN thread t USING (utid) "
    "JOIN thread w ON w.utid = s.waker_utid"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture of the made-up machine: complete, with the clocks of one that was suspended before."""
    path = tmp_path_factory.mktemp("made") / "made.parquet"
    clock = {"ts": START + 10, "boottime": START + 10 + SUSPENDED + 400, "realtime": REALTIME}
    return write_rows(path, Machine(7).run(6000), start_ts=START, clocks=[clock], kernel="6.1.0", machine="x86_64")


@pytest.fixture(scope="module")
def trace(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That capture, exported with an answer."""
    path = tmp_path_factory.mktemp("trace") / "made.pftrace"
    assert main(["export", str(made), "--to", "perfetto", "-o", str(path), "delays over 100us"]) == 0
    return path


def shift(trace: Path) -> int:
    """What the format adds to our times: Perfetto's clock also counts suspended time."""
    return SUSPENDED + 400 if trace.suffix == ".pftrace" else 0


@pytest.fixture(scope="module", params=("perfetto", "ftrace-text"))
def both(request: pytest.FixtureRequest, made: Path, trace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The capture as Perfetto's own format and as the kernel's text."""
    if request.param == "perfetto":
        return trace
    path = tmp_path_factory.mktemp("text") / "made.txt"
    assert main(["export", str(made), "--to", "ftrace-text", "-o", str(path)]) == 0
    return path


def test_perfetto_reads_it_without_complaint(ask: Ask, both: Path) -> None:
    assert ask(both, "SELECT name, value FROM stats WHERE value > 0 AND severity IN ('error', 'data_loss')") == []


def test_as_many_switches(ask: Ask, both: Path, made: Path) -> None:
    switches = Own(made)("sched_switch", "SELECT ts, cpu, next_tid FROM sched_switch ORDER BY ALL")
    theirs = ask(both, "SELECT ts, cpu, tid FROM sched JOIN thread USING (utid)")
    moved = shift(both)
    assert sorted((int(ts) - moved, int(cpu), int(tid)) for ts, cpu, tid in theirs) == switches
    assert len(switches) > 1500


def test_same_time_in_every_state(ask: Ask, both: Path, made: Path) -> None:
    theirs = {(int(tid), state): (int(n), int(ns)) for tid, state, n, ns in ask(both, _STATES)}
    assert theirs == Own(made).states()


def test_same_waker_and_interrupt_per_wakeup(ask: Ask, both: Path, made: Path) -> None:
    own, moved = Own(made), shift(both)
    sql = "SELECT ts + blocked, tid, waker_tid, context FROM sleeps WHERE waker_tid > 0"
    ours = {(ts, tid, waker): context for ts, tid, waker, context in own("sleeps", sql)}
    theirs = {(int(ts) - moved, int(tid), int(waker)): irq for ts, tid, waker, irq in ask(both, _WAKERS)}
    assert ours.keys() <= theirs.keys()
    assert len(ours) > 300
    irq = {"task": "0", "softirq": "1", "hardirq": "1", "unknown": "NULL"}
    other = {wakeup for wakeup, context in ours.items() if theirs[wakeup] != irq[context]}
    assert all(theirs[wakeup] == "NULL" for wakeup in other)  # not known to Perfetto, never wrong
    if both.suffix == ".pftrace":
        sql = "SELECT w.ts FROM sched_waking w JOIN sched_switch s ON w.cpu = s.cpu AND w.ts = s.ts"
        assert {ts for ts, *_ in other} <= {ts for (ts,) in own("sched_waking sched_switch", sql)}


def test_softirqs_per_cpu(ask: Ask, trace: Path, made: Path) -> None:
    own = Own(made)("softirqs", "SELECT cpu, ts, dur, name FROM softirqs WHERE name <> 'IRQ_POLL'")
    sql = "SELECT t.name, ts, dur, s.name FROM slice s JOIN track t ON s.track_id = t.id WHERE t.type = 'cpu_softirq'"
    theirs = [(int(t.split()[-1]), int(ts) - shift(trace), int(dur), name) for t, ts, dur, name in ask(trace, sql)]
    # Perfetto still has the old name of IRQ_POLL.
    assert sorted(slice for slice in theirs if slice[3] != "BLOCK_IOPOLL") == sorted(own)
    assert len(own) > 500


def test_the_answers_rows_have_a_track(ask: Ask, trace: Path, made: Path) -> None:
    sql = "SELECT s.ts, s.dur FROM slice s JOIN track t ON s.track_id = t.id WHERE t.name = 'Answer: delays over 100us'"
    theirs = sorted((int(ts) - shift(trace), int(dur)) for ts, dur in ask(trace, sql))
    assert theirs == sorted(Own(made)("delays", "SELECT ts, dur FROM delays WHERE dur > 100000"))
    assert len(theirs) > 10
    values = ask(trace, "SELECT DISTINCT a.string_value FROM args a WHERE a.key = 'debug.cause'")
    assert set(values) == {("wakeup",), ("preempted",)}


def test_real_time_and_monotonic(ask: Ask, trace: Path) -> None:
    ((real, mono),) = ask(
        trace, f"SELECT to_realtime(ts), to_monotonic(ts) FROM (SELECT {START + 10 + shift(trace)} ts)"
    )
    assert (int(real), int(mono)) == (REALTIME, START + 10)


def test_names_arrive_as_they_are(ask: Ask, trace: Path) -> None:
    found = ask(trace, "SELECT DISTINCT hex(name) FROM thread WHERE tid = 105")
    assert [bytes.fromhex(name).decode() for (name,) in found] == [EVIL]


def test_names_of_text_stay_on_their_line(ask: Ask, made: Path, run: Run, tmp_path: Path) -> None:
    assert run("export", made, "--to", "ftrace-text", "-o", tmp_path / "t.txt").code == 0
    ((name,),) = ask(tmp_path / "t.txt", "SELECT DISTINCT name FROM thread WHERE tid = 105")
    assert name == 'a"b\\x0a\\x3c/script>'


def test_gaps_are_slices(ask: Ask, lossy_capture: Path, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "lossy.pftrace"
    assert run("export", lossy_capture, "--to", "perfetto", "-o", path).code == 0
    sql = "SELECT t.name, s.name, s.dur FROM slice s JOIN track t ON s.track_id = t.id WHERE t.name LIKE 'Lost%'"
    assert ask(path, sql) == [("Lost Cpu 1, sched", "lost 12 events", "3000000")]


def test_chrome_json(ask: Ask, made: Path, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    assert run("export", made, "--to", "chrome", "-o", path, "delays over 100us").code == 0
    assert ask(path, "SELECT name, value FROM stats WHERE value > 0 AND severity IN ('error', 'data_loss')") == []
    sql = (
        "SELECT t.tid, s.name, COUNT(*), SUM(s.dur) FROM slice s JOIN thread_track k ON s.track_id = k.id "
        "JOIN thread t USING (utid) WHERE t.tid < 10000000 GROUP BY 1, 2"
    )
    names = {"running": "Running", "runnable": "R"}
    theirs = {
        (int(tid), names.get(name, name.removeprefix("sleeping "))): (int(n), int(ns))
        for tid, name, n, ns in ask(path, sql)
    }
    assert theirs == Own(made).states()
    arrows = Own(made)("sleeps", "SELECT COUNT(*) FROM sleeps WHERE context = 'task' AND waker_tid > 0")
    assert ask(path, "SELECT COUNT(*) FROM flow") == [(str(arrows[0][0]),)]
    assert "</script>" not in path.read_text() and json.loads(path.read_text())["traceEvents"]


def test_a_tid_used_again_is_another_thread(ask: Ask, run: Run, tmp_path: Path) -> None:
    rows = []
    for life, name in enumerate(("first", "second")):
        at = START + life * 1_000_000
        parent = {"kind": "sched_process_fork", "cpu": 0, "pid": 50, "tid": 50, "comm": "parent"}
        rows.append({**parent, "ts": at, "child_tid": 60, "child_pid": 60, "child_comm": f"child {life}"})
        switch = {"kind": "sched_switch", "cpu": 0, "prev_prio": 120, "next_prio": 120}
        rows.append(
            {**switch, "ts": at + 10, "pid": 0, "tid": 0, "comm": "swapper/0", "prev_state": "R", "next_tid": 60}
            | {"next_comm": name}
        )
        rows.append(
            {**switch, "ts": at + 100 + life, "pid": 60, "tid": 60, "comm": name, "prev_state": "X", "next_tid": 0}
            | {"next_comm": "swapper/0"}
        )
    path = tmp_path / "t.pftrace"
    capture = write_rows(tmp_path / "c.parquet", rows)
    assert run("export", capture, "--to", "perfetto", "-o", path).code == 0
    sql = "SELECT p.name, t.name, SUM(dur) FROM sched JOIN thread t USING (utid) JOIN process p USING (upid) "
    lives = ask(path, sql + "WHERE tid = 60 GROUP BY t.utid")
    assert sorted(lives) == [
        ("first", "first", "90"),
        ("second", "second", "91"),
    ]


def test_field_numbers_are_perfettos() -> None:
    pb = export_protobuf.messages()

    def number(message: str, field: str) -> int:
        found: int = getattr(pb, message).DESCRIPTOR.fields_by_name[field].number
        return found

    assert number("Trace", "packet") == export_protobuf.TRACE_PACKET
    assert number("TracePacket", "timestamp") == export_protobuf.PACKET_TIMESTAMP
    assert number("TracePacket", "ftrace_events") == export_protobuf.PACKET_FTRACE_EVENTS
    assert number("FtraceEventBundle", "event") == export_protobuf.BUNDLE_EVENT
    assert number("FtraceEvent", "timestamp") == export_protobuf.EVENT_TIMESTAMP
    assert number("FtraceEventBundle", "cpu") == 1


def test_every_packet_is_what_perfettos_classes_read(trace: Path) -> None:
    read = export_protobuf.messages().Trace.FromString(trace.read_bytes())
    assert len(read.packet) > 100
    empty = [packet for packet in read.packet if packet.WhichOneof("data") is None]
    assert [packet.sequence_flags for packet in empty] == [1]
    compact = sum(len(packet.ftrace_events.compact_sched.switch_timestamp) for packet in read.packet)
    assert compact > 1000


def test_states_as_numbers() -> None:
    assert [state_bits(state) for state in ("R", "R+", "S", "D", "I", "Z", "D|K")] == [0, 256, 1, 2, 128, 32, 2 + 512]
    assert state_bits(None) == state_bits("?") == 512


def test_noise_between_clock_readings_is_no_suspend(tmp_path: Path) -> None:
    readings = [(0, 831), (1_000, 651), (2_000, 10**10), (3_000, 10**10 - 200)]
    clocks = [{"ts": ts, "boottime": ts + ahead, "realtime": ts} for ts, ahead in readings]
    row = {"kind": "sched_process_exit", "ts": 5, "cpu": 0, "pid": 1, "tid": 1, "comm": "a"}
    read = Clocks(Capture.open(write_rows(tmp_path / "c.parquet", [row], clocks=clocks)))
    assert (read.boottime(np.array([0, 999, 1_500, 2_000, 3_500])) - [0, 999, 1_500, 2_000, 3_500]).tolist() == [
        0, 0, 0, 10**10, 10**10,
    ]  # fmt: skip
