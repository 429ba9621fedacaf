"""Chains and critical paths against a plain walk in Python, on random small recordings, whole and with losses."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import chains_oracle as oracle
import pytest
from traces import START, Bench, Case, Loss, Row, without

from tracectl.query import Answer, ask
from tracectl.store import relations as store_relations
from tracectl.store.relations import views

KINDS = (
    "sched_switch", "sched_waking", "sched_wakeup_new", "softirq_entry", "softirq_exit", "irq_handler_entry",
    "irq_handler_exit",
)  # fmt: skip
# TRACECTL_CHAINS=2000 tries so many.
TRACES = int(os.environ.get("TRACECTL_CHAINS", "40"))
PATH = ("depth", "ts", "end_ts", "tid", "what", "cpu", "ran_tid", "wakes_tid")
CHAIN = ("depth", "ts", "end_ts", "tid", "what", "wakes_tid")


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    with made.tables():
        yield made


class Kernel:
    """Two CPUs that run four threads: what a scheduler does, decided by chance, and now and then what none would do."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.rows: list[Row] = []
        self.ts = 100
        self.runs = [0, 0]
        self.sleeping = {1, 2, 3, 4}
        for _ in range(self.random.choice((12, 60, 120))):
            self.random.choice((self.switch, self.switch, self.wake, self.wake, self.interrupt, self.oddity))()

    def event(self, kind: str, cpu: int, **fields: Any) -> None:
        self.ts += self.random.choice((0, 1, 1, 2, 5))
        tid = self.runs[cpu]
        base = {
            "seq": len(self.rows) + 1,
            "ts": self.ts,
            "kind": kind,
            "cpu": cpu,
            "tid": tid,
            "pid": tid,
            "comm": f"t{tid}",
        }
        self.rows.append(base | fields)

    def switch(self) -> None:
        cpu = self.random.randrange(2)
        ready = [tid for tid in (1, 2, 3, 4) if tid not in self.sleeping and tid not in self.runs]
        into = self.random.choice([*ready, *ready, *ready, 0])
        before = self.runs[cpu]
        if into == before:
            return
        state = self.random.choice(("S", "S", "S", "D", "R+")) if before else "R"
        self.event("sched_switch", cpu, prev_state=state, next_tid=into, next_comm=f"t{into}")
        if before and state in "SD":
            self.sleeping.add(before)
        self.runs[cpu] = into

    def wake(self, context: str = "task", vec: int | None = None, cpu: int | None = None) -> None:
        busy = [number for number in (0, 1) if self.runs[number]] or [0]
        cpu = self.random.choice(busy) if cpu is None else cpu
        target = self.random.choice(sorted(self.sleeping) or [1])
        if not self.sleeping and self.random.random() < 0.7:
            return
        if context == "task" and self.random.random() < 0.1:
            context = "unknown"
        target_fields = {"target_tid": target, "target_pid": target, "target_comm": f"t{target}"}
        self.event("sched_waking", cpu, context=context, context_vec=vec, **target_fields)
        self.sleeping.discard(target)

    def interrupt(self) -> None:
        cpu, vec = self.random.randrange(2), self.random.randrange(2)
        if self.random.random() < 0.5:
            self.event("softirq_entry", cpu, vec=vec)
            self.wake("softirq", vec, cpu)
            self.event("softirq_exit", cpu, vec=vec)
        else:
            self.event("irq_handler_entry", cpu, irq=vec, irq_name="eth0")
            self.wake("hardirq", vec, cpu)
            self.event("irq_handler_exit", cpu, irq=vec)

    def oddity(self) -> None:
        """A thread's end and birth, a waking that races, or a switch that fits nothing."""
        if self.random.random() < 0.7:
            return
        cpu, tid = self.random.randrange(2), self.random.randint(1, 4)
        target = {"target_tid": tid, "target_pid": tid, "target_comm": f"t{tid}"}
        what = self.random.randrange(2 if tid == self.runs[cpu] else 3)
        if what == 0:
            self.event("sched_wakeup_new", cpu, **target)
            self.sleeping.discard(tid)
        elif what == 1:
            self.event("sched_waking", cpu, context="task", context_vec=None, **target)
        else:
            self.event("sched_switch", cpu, prev_state=self.random.choice("SX"), next_tid=tid, next_comm=f"t{tid}")
            self.runs[cpu] = tid


def losses(seed: int) -> Case:
    """What is lost, and what the gaps do not say."""
    chance = random.Random(seed)
    lost = tuple(
        Loss(chance.choice(("sched", "sched", "irq")), chance.randrange(2), chance.randrange(25),
             chance.choice((1, 2, 3, 40)), whole=False)
        for _ in range(chance.randint(1, 2))
    )  # fmt: skip
    return Case("chains", (), lost, chance.choice(("", "", "", "count", "cpu", "stream")), chance.random() < 0.8)


def answer(bench: Bench, name: str, rows: list[Row], question: str, *, declared: bool = True) -> Answer:
    return ask(bench.capture(name, rows, kinds=set(KINDS), declared=declared), question, database=bench.database)


def picked(answer: Answer, names: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """Some columns of the rows; the begin of all that was read is 0."""
    places = [answer.columns.index(name) for name in names]
    return [tuple(row[place] for place in places) for row in answer.rows()]


def question(tid: int, times: tuple[int, int] | int) -> str:
    if isinstance(times, int):
        return f"chains of tid {tid} at {times - START}ns"
    return f"critical path of tid {tid} between {times[0] - START}ns and {times[1] - START}ns"


def asked(seed: int, rows: list[Row]) -> tuple[int, tuple[int, int], int]:
    """A thread, a time and a moment."""
    chance = random.Random(seed)
    last = rows[-1]["ts"] if rows else 100
    end = chance.randint(96, last + 5)
    return chance.randint(1, 4), (max(end - chance.choice((1, 10, 60, 150)), 91), end), chance.randint(95, last + 5)


def test_critical_path_is_what_the_oracle_says_and_fills_the_time(bench: Bench) -> None:
    seen: Counter[str] = Counter()
    for seed in range(TRACES):
        rows = Kernel(seed).rows
        tid, times, _ = asked(seed, rows)
        expected = oracle.critical_path(rows, tid, *times)
        assert Counter(picked(answer(bench, "whole", rows, question(tid, times)), PATH)) == Counter(expected), seed
        if expected:
            time = sorted((part[1], part[2]) for part in expected)
            assert time[0][0] == times[0] and time[-1][1] == times[1]
            assert all(one[1] == another[0] for one, another in pairwise(time))
        seen.update(str(part[4]) for part in expected)
        seen.update(f"depth {part[0]}" for part in expected)
    wanted = {"running", "runnable", "blocked", "created", "softirq", "hardirq", "unknown", "depth 2"}
    assert wanted <= set(seen), seen


def test_a_chain_is_what_the_oracle_says(bench: Bench) -> None:
    seen: Counter[str] = Counter()
    for seed in range(TRACES):
        rows = Kernel(seed).rows
        tid, _, moment = asked(seed, rows)
        found = picked(answer(bench, "whole", rows, question(tid, moment)), CHAIN)
        expected = oracle.chain(rows, tid, moment)
        whole = {part for part in found if part[3] is not None and part[4] != "runnable"}
        assert whole == {part for part in expected if part[4] != "runnable"}, seed
        # Who had the CPU meanwhile makes several rows of a wait for it: together they are the wait.
        for part in expected:
            if part[4] == "runnable":
                slices = [(ts, end) for depth, ts, end, who, what, wakes in found
                          if (depth, who, what, wakes) == (part[0], part[3], "runnable", part[5])
                          and part[1] <= ts and (part[2] is None or ts < part[2] or ts == part[1])]  # fmt: skip
                assert min(ts for ts, _ in slices) == part[1], seed
        seen.update(f"depth {part[0]}" for part in expected)
    assert {"depth 0", "depth 1", "depth 2"} <= set(seen), seen


def unsound(bench: Bench, seed: int) -> str:
    """What is wrong with an answer where something was lost; empty: nothing. A count's and a sum's bounds too."""
    rows, case = Kernel(seed).rows, losses(seed)
    tid, times, moment = asked(seed, rows)
    left, _ = without(case, rows)
    stage = ("", "", " | count", " | sum dur")[seed % 4]
    about = question(tid, times if seed % 3 else moment) + stage
    whole = answer(bench, "whole", rows, about, declared=case.declared)
    lossy = answer(bench, "lossy", left, about, declared=case.declared)
    full, found = whole.rows(), lossy.rows()
    if lossy.qualification.exact:
        return "" if found == full else f"{about}: called exact, but differs"
    if lossy.qualification.at_most is not None:
        return f"{about}: bounded"
    if stage == " | count":
        column = lossy.columns.index("count_min")
        return "" if found[0][column] <= full[0][0] else f"{about}: {found} not {full}"
    if stage:
        return "" if lossy.qualification.bounds["sum_dur"] == "not bounded" else f"{about}: bounded"
    certain, depth = lossy.columns.index("certain"), lossy.columns.index("depth")
    SEEN.update(f"{row[certain]} {row[depth]}" for row in found)
    wrong = Counter(row for row in found if row[certain]) - Counter(full)
    return f"{about}: certain, but not in the full answer: {wrong}" if wrong else ""


SEEN: Counter[str] = Counter()


def test_no_certain_link_is_wrong_whatever_was_lost(bench: Bench) -> None:
    SEEN.clear()
    for seed in range(2 * TRACES):
        assert not unsound(bench, seed), seed
    assert {"True 0", "True 1", "False 0", "False 1"} <= set(SEEN), SEEN


def test_a_neglected_loss_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    view = views()["chain_segments"]
    assert "gap.reach < since_ts" in view.sql
    wrong = {**views(), view.name: replace(view, sql=view.sql.replace("gap.reach < since_ts", "TRUE"))}
    monkeypatch.setattr(store_relations, "views", lambda: wrong)
    assert any(unsound(bench, seed) for seed in (76, 77, *range(400)))
