"""``record --min-delay``: the late waits that the kernel picks out are those that a full recording tells of."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.kernel.conftest import Recorded, Running, record_to
from tracectl.query.answer import ask
from tracectl.recorder import runq
from tracectl.store.errors import NotRecordedError

pytestmark = pytest.mark.kernel

# Two threads that never sleep and one that does, on one CPU: each wait of the sleeper and of the busy is a slice long.
_WORKLOAD = """
import os, time, threading
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
end = time.monotonic() + 2.0
for _ in range(2):
    if os.fork() == 0:
        while time.monotonic() < end:
            pass
        os._exit(0)
while time.monotonic() < end:
    time.sleep(0.007)
    for _ in range(20000):
        pass
"""
_MS = 1_000_000
# Two programs at one event read the clock one after the other, and a busy virtual machine may stop in between. No
# thread begins two waits of over 1 ms within this time.
_CLOCKS = 300_000

Wait = tuple[int, int, int, str, int, int]  # tid, prev_tid, cpu, cause, ts, end


def _waits(full: Recorded) -> list[Wait]:
    """Every wait that begins and ends in a recording, told plainly: one thread after the other, one step at a time."""
    steps: dict[int, list[tuple[str, int, int, int]]] = defaultdict(list)  # what, ts, cpu, prev_tid
    rows = full.rows(
        "SELECT kind, ts, cpu, tid, prev_state, next_tid, target_tid FROM capture"
        " WHERE kind IN ('sched_switch', 'sched_waking', 'sched_wakeup_new') ORDER BY seq"
    )
    for kind, ts, cpu, tid, state, next_tid, target in rows:
        if kind == "sched_switch":
            steps[tid].append(("preempted" if state[0] == "R" else "out", ts, cpu, 0))
            steps[next_tid].append(("in", ts, cpu, tid))
        else:
            steps[target].append(("waking" if kind == "sched_waking" else "new", ts, cpu, 0))
    steps.pop(0, None)  # idle
    found = []
    for tid, own in steps.items():
        since: tuple[str, int] | None = None
        raced = runs = woken = False
        for what, ts, cpu, prev in own:
            if what == "in":
                found += [(tid, prev, cpu, since[0], since[1], ts)] if since else []
                since, runs, woken, raced = None, True, False, False
            elif what == "waking":
                woken = True
                if not runs and (since is None or raced):
                    since, raced = ("wakeup", ts), False
            else:
                raced = what == "out" and runs and woken
                since = ("wakeup", ts) if raced else None if what == "out" else (what, ts)
                runs = woken = False
    return found


def _unmatched(some: Iterable[Wait], others: Iterable[Wait]) -> list[Wait]:
    """Those that no other is: the same thread, CPU and cause, begin and end at the same moments as far as clocks go."""
    by_thread = defaultdict(list)
    for other in others:
        by_thread[other[:4]].append(other)
    return [
        one
        for one in some
        if not any(max(abs(one[4] - o[4]), abs(one[5] - o[5])) <= _CLOCKS for o in by_thread[one[:4]])
    ]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recorded, Recorded]:
    """The late waits of a workload, and all scheduling of the same time by another recorder."""
    folder = tmp_path_factory.mktemp("late")
    with Running(folder / "full.parquet", "-e", "sched", "--buffer", "8M") as other:
        other.started()
        other.first_segment()
        outcome = record_to(folder / "late.parquet", sys.executable, "-c", _WORKLOAD, min_delay_ns=_MS)
        other.process.terminate()
        code, said = other.end()
    assert code == 0, said
    assert all(line.residue == 0 for line in outcome.ledger)
    assert outcome.lost == 0
    late, full = Recorded(outcome.path), Recorded(folder / "full.parquet")
    assert full.capture.start_ts < late.capture.start_ts
    assert full.capture.end_ts > late.capture.end_ts
    assert all(line.lost == 0 for line in full.capture.ledger())
    return late, full


def test_the_late_waits_are_those_of_a_full_recording(both: tuple[Recorded, Recorded]) -> None:
    late, full = both
    # What a machine hides of a thread tells differently to recorders that did not begin at the same time.
    hidden = full.hidden()
    picked = late.rows("SELECT tid, prev_tid, cpu, cause, ts - dur, ts FROM runq_delay")
    picked = [row for row in picked if row[0] not in hidden]
    assert len(picked) > 100
    assert all(ts - since > _MS and since >= late.capture.start_ts for *_, since, ts in picked)
    assert {cause for *_, cause, _, _ in picked} >= {"wakeup", "preempted"}
    _compare(late, picked, [row for row in _waits(full) if row[0] not in hidden], picked)
    # And what questions answer, but where a missing event leaves them in doubt.
    told = full.rows("SELECT tid, prev_tid, cpu, cause, ts, end_ts FROM delays WHERE certain")
    doubtful = full.rows("SELECT tid, ts FROM delays WHERE NOT certain")
    sure = [row for row in picked if not any(tid == row[0] and abs(ts - row[4]) <= _CLOCKS for tid, ts in doubtful)]
    _compare(late, picked, told, sure)


def _compare(late: Recorded, picked: list[Wait], others: list[Wait], sure: list[Wait]) -> None:
    """Each of the others that is late for sure was picked out, and each of those in ``sure`` is one of the others."""
    begin, end = late.capture.start_ts + _CLOCKS, late.capture.end_ts - _CLOCKS
    surely = [row for row in others if row[4] >= begin and row[5] <= end and row[5] - row[4] > _MS + 2 * _CLOCKS]
    assert len(surely) > 100
    assert _unmatched(surely, picked) == []
    assert len(sure) > 100
    assert _unmatched(sure, others) == []


def test_only_late_waits_are_recorded_and_every_answer_says_so(both: tuple[Recorded, Recorded]) -> None:
    late, full = both
    kinds = {"runq_delay", "sched_process_fork", "sched_process_exec", "sched_process_exit"}
    assert late.capture.kinds == kinds
    assert late.capture.footer.min_delay_ns == _MS
    filters = dict(late.rows("SELECT covered_kind, filter FROM capture WHERE kind = 'coverage'"))
    waits = "waits that began in the recording and lasted over 1000000 ns"
    assert filters == {kind: waits if kind == "runq_delay" else None for kind in kinds}
    answer = ask(late.capture, "events runq_delay where dur > 2ms")
    assert answer.qualification.exact
    assert answer.notes == ["only waits of more than 1ms that began in the recording were recorded (--min-delay)"]
    assert 0 < len(answer.rows()) < len(late.ask("events runq_delay"))
    every = "delays over 1ms | select tid, ts, end_ts, cause"
    assert late.ask(every) == late.rows("SELECT tid, ts - dur, ts, cause FROM runq_delay ORDER BY seq")
    with pytest.raises(NotRecordedError, match="only delays over 1ms were recorded"):
        ask(late.capture, "delays")
    with pytest.raises(NotRecordedError):
        ask(full.capture, "events runq_delay")


def test_a_task_filter_keeps_the_waits_of_its_threads(tmp_path: Path) -> None:
    outcome = record_to(tmp_path / "x.parquet", sys.executable, "-c", _WORKLOAD, comms=("python*",), min_delay_ns=_MS)
    found = Recorded(outcome.path)
    rows = found.rows("SELECT DISTINCT comm FROM runq_delay")
    assert rows
    assert all(comm.startswith("python") for (comm,) in rows)
    assert all(line.residue == 0 for line in outcome.ledger)


def test_threads_without_room_are_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = runq.source(_MS)
    small = usual.replace("#define MOST_THREADS 65536", "#define MOST_THREADS 1")
    assert small != usual
    monkeypatch.setattr(runq, "source", lambda _: small)
    outcome = record_to(tmp_path / "x.parquet", sys.executable, "-c", _WORKLOAD, min_delay_ns=_MS)
    assert outcome.causes["map_full"] > 100
    assert all(line.residue == 0 for line in outcome.ledger)
    answer = ask(Recorded(outcome.path).capture, "events runq_delay | count")
    assert not answer.qualification.exact
