"""Each saved question against plain Python: loops over the events of a simulated machine, no SQL and no views."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.property.machine import COMMS, END, KINDS, START, Machine, Row
from tracectl.query import ask
from tracectl.saved import expand, shipped
from tracectl.store.capture import Capture
from tracectl.store.events import SOFTIRQS
from tracectl.store.writer import write_rows

Rows = list[tuple[Any, ...]]
SEEDS = range(4)


@pytest.fixture(scope="module", params=SEEDS)
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], Capture]:
    """The events of a machine, each switch with one of three stacks, and the capture of them."""
    rows = Machine(request.param, steps=1500).rows
    for row in rows:
        if row["kind"] == "sched_switch":
            row["kstack"] = row["seq"] % 3 + 1
    stacks = [
        {"seq": 0, "ts": 0, "cpu": None, "kind": "stack", "stack_id": n, "folded": f"main;f{n}"} for n in (1, 2, 3)
    ]
    path = tmp_path_factory.mktemp("machine") / "capture.parquet"
    filled = {"sched_switch": ["kstack"]}
    made = write_rows(
        path, stacks + rows, kinds=KINDS, cpus=(0, 1), start_ts=START, end_ts=END, breaks_declared=True, filled=filled
    )
    return rows, Capture.open(made)


# ---- what is going on, from the events alone ----


def spans(rows: list[Row], entry: str, leave: str) -> Iterator[tuple[Row, int]]:
    """Handlers with how long they ran. The machine never nests two of a kind on a CPU."""
    begun: dict[int, Row] = {}
    for row in rows:
        if row["kind"] == entry:
            begun[row["cpu"]] = row
        elif row["kind"] == leave:
            yield begun[row["cpu"]], row["ts"] - begun.pop(row["cpu"])["ts"]


def slices(rows: list[Row]) -> Iterator[tuple[int, int, int]]:
    """(tid, CPU, ns) of time on a CPU."""
    since: dict[int, int] = {}
    for row in rows:
        if row["kind"] == "sched_switch":
            if row["cpu"] in since:
                yield row["tid"], row["cpu"], row["ts"] - since[row["cpu"]]
            since[row["cpu"]] = row["ts"]


def waits(rows: list[Row]) -> Iterator[tuple[int, int, str]]:
    """(tid, ns, cause) of waits in run queues."""
    since: dict[int, tuple[int, str]] = {}
    for row in rows:
        if row["kind"] == "sched_waking":
            since[row["target_tid"]] = row["ts"], "wakeup"
        elif row["kind"] == "sched_switch":
            if row["next_tid"]:
                begin, cause = since.pop(row["next_tid"])
                yield row["next_tid"], row["ts"] - begin, cause
            if row["tid"] and row["prev_state"].startswith("R"):
                since[row["tid"]] = row["ts"], "preempted"


def sleeps(rows: list[Row]) -> Iterator[tuple[Row, int, int, Row]]:
    """(switch-out, ns blocked, ns runnable afterwards, waking) of sleeps."""
    out: dict[int, Row] = {}
    woken: dict[int, Row] = {}
    for row in rows:
        if row["kind"] == "sched_waking":
            woken[row["target_tid"]] = row
        elif row["kind"] == "sched_switch":
            begun, waking = out.pop(row["next_tid"], None), woken.pop(row["next_tid"], None)
            if begun and waking:
                yield begun, waking["ts"] - begun["ts"], row["ts"] - waking["ts"], waking
            if row["tid"] and row["prev_state"] in ("S", "D"):
                out[row["tid"]] = row


def of_kind(rows: list[Row], kind: str) -> list[Row]:
    return [row for row in rows if row["kind"] == kind]


def summed(values: Iterator[tuple[Any, ...]], width: int = 1) -> Rows:
    """The last ``width`` numbers of each row, summed by what stands before them."""
    found: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * width)
    for value in values:
        for n, number in enumerate(value[-width:]):
            found[value[:-width]][n] += number
    return [(*key, *numbers) for key, numbers in found.items()]


def counted(values: Iterator[tuple[Any, ...]]) -> Rows:
    return [(*key, count) for key, count in Counter(values).items()]


def percentiles(values: Iterator[tuple[str, int]], *which: int) -> Rows:
    found: dict[str, list[int]] = defaultdict(list)
    for key, value in values:
        found[key].append(value)
    return [
        (key, *(sorted(held)[max(math.ceil(p * len(held) / 100), 1) - 1] for p in which)) for key, held in found.items()
    ]


# ---- the questions ----


def herd(rows: list[Row]) -> Rows:
    def accepted(place: int, waking: Row) -> bool:
        later = of_kind(rows[place + 1 :], "sys_exit_accept4")
        return any(row["tid"] == waking["target_tid"] and row["ts"] - waking["ts"] <= 25 for row in later)

    wakings = [(place, row) for place, row in enumerate(rows) if row["kind"] == "sched_waking"]
    return counted((row["target_comm"],) for place, row in wakings if not accepted(place, row))


def histogram(rows: list[Row]) -> Rows:
    found = Counter(0 if ns == 0 else 2 ** int(math.log2(ns)) for _, ns, _ in waits(rows))
    return [(low, max(2 * low, 1), count) for low, count in found.items()]


def storms(rows: list[Row]) -> Rows:
    """Every part of the time, also those where nothing came; the name has one value on this machine."""
    begins = [row["ts"] for row, _ in spans(rows, "irq_handler_entry", "irq_handler_exit")]
    found = []
    for ts in range(START, END + 1, 100):
        count = sum(ts <= begin < ts + 100 for begin in begins)
        found.append((ts, "handler", "eth0", count, count * 1e9 / min(100, END + 1 - ts)))
    return found


def irqs(rows: list[Row]) -> Iterator[tuple[Any, ...]]:
    for row, ns in spans(rows, "irq_handler_entry", "irq_handler_exit"):
        yield "handler", "eth0", row["cpu"], ns


def vector(row: Row) -> str | None:
    """The name of a waking's softirq."""
    return SOFTIRQS[row["context_vec"]] if row["context"] == "softirq" else None


def of_softirq(rows: list[Row]) -> Iterator[Row]:
    return (row for row in of_kind(rows, "sched_waking") if row["context"] == "softirq")


def softirqs(rows: list[Row]) -> Iterator[tuple[Row, int]]:
    return spans(rows, "softirq_entry", "softirq_exit")


EXPECTED: dict[str, Callable[[list[Row]], Rows]] = {
    "@herd within=25ns": herd,
    "@runqlat_hist": histogram,
    "@irq_storms every=100ns n=100000": storms,
    "@offcpu_stacks": lambda rows: summed((s["comm"], f"main;f{s['kstack']}", ns) for s, ns, _, _ in sleeps(rows)),
    "@offcpu": lambda rows: summed(((s["comm"], s["prev_state"], ns, late) for s, ns, late, _ in sleeps(rows)), 2),
    "@softirq_time": lambda rows: summed((SOFTIRQS[s["vec"]], s["cpu"], ns) for s, ns in softirqs(rows)),
    "@softirq_slow": lambda rows: percentiles(((SOFTIRQS[s["vec"]], ns) for s, ns in softirqs(rows)), 50, 99, 100),
    "@wakeup_matrix": lambda rows: counted(
        (row["comm"], row["target_comm"], row["context"]) for row in of_kind(rows, "sched_waking")
    ),
    "@wakers tid=3": lambda rows: counted(
        (row["context"], vector(row), row["comm"])
        for row in of_kind(rows, "sched_waking")
        if row["target_tid"] == 3 and row["context"] != "hardirq"
    ),
    "@woken_by_softirq": lambda rows: counted((row["target_comm"], vector(row)) for row in of_softirq(rows)),
    "@runqlat": lambda rows: percentiles(((COMMS[tid], ns) for tid, ns, _ in waits(rows)), 50, 95, 99),
    "@irq_count": lambda rows: counted(row[:-1] for row in irqs(rows)),
    "@irq_time": lambda rows: summed(irqs(rows)),
    "@cpu_time": lambda rows: summed((COMMS[tid], ns) for tid, _, ns in slices(rows) if tid),
    "@cpu_busy": lambda rows: summed((cpu, ns) for tid, cpu, ns in slices(rows) if tid),
    "@switches": lambda rows: counted(
        (row["comm"], row["prev_state"]) for row in of_kind(rows, "sched_switch") if row["tid"]
    ),
    "@accepts": lambda rows: counted((row["comm"], row["tid"]) for row in of_kind(rows, "sys_exit_accept4")),
    "@epoll_idle": lambda rows: counted(
        (row["comm"], row["tid"]) for row in of_kind(rows, "sys_exit_epoll_wait") if row["ret"] == 0
    ),
    "@loss": lambda _: [],
}


@pytest.mark.parametrize("question", EXPECTED)
def test_the_answer_is_what_loops_give(question: str, machine: tuple[list[Row], Capture]) -> None:
    rows, capture = machine
    answer = ask(capture, expand(question))
    assert answer.qualification.exact
    expected = EXPECTED[question](rows)
    # What the handler of a hardirq's waking is called is not part of what the machine says.
    found = [row for row in answer.rows() if not (question.startswith("@wakers") and row[0] == "hardirq")]
    assert Counter(found) == Counter(expected)
    assert expected or question == "@loss"


def test_a_herd_that_came_and_went(machine: tuple[list[Row], Capture]) -> None:
    """The time within which to accept decides: what the longer one counts is less, and neither is nothing."""
    _, capture = machine
    counts = [ask(capture, expand(f"@herd within={time} | sum count")).rows()[0][0] for time in ("1ns", "60ns")]
    assert counts[0] > counts[1] > 0


@pytest.mark.parametrize(("question", "column"), [("@irq_storms every=100ns n=3", 3), ("@offcpu_stacks n=2", 2)])
def test_the_largest_first(question: str, column: int, machine: tuple[list[Row], Capture]) -> None:
    rows, capture = machine
    name = question.split(maxsplit=1)[0]
    whole = next(make(rows) for asked, make in EXPECTED.items() if asked.split()[0] == name)
    found = ask(capture, expand(question)).rows()
    assert [row[column] for row in found] == sorted((row[column] for row in whole), reverse=True)[: len(found)]
    assert len(found) == int(question[-1]) and set(found) <= set(whole)


@pytest.mark.parametrize("name", ["top_delays", "preemptions", "dstate"])
def test_single_rows(name: str, machine: tuple[list[Row], Capture]) -> None:
    rows, capture = machine
    answer = ask(capture, expand(f"@{name}"))
    found = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows()]
    if name == "top_delays":
        longest = sorted((ns for _, ns, _ in waits(rows)), reverse=True)[:10]
        assert [row["dur"] for row in found] == longest
        known = {(COMMS[tid], ns, cause) for tid, ns, cause in waits(rows)}
        assert {(row["comm"], row["dur"], row["cause"]) for row in found} <= known
    elif name == "dstate":
        known_sleeps = [
            (ns, s["comm"], w["comm"], w["context"]) for s, ns, _, w in sleeps(rows) if s["prev_state"] == "D"
        ]
        assert [row["blocked"] for row in found] == sorted((one[0] for one in known_sleeps), reverse=True)[:10]
        assert {(r["blocked"], r["comm"], r["waker_comm"], r["context"]) for r in found} <= set(known_sleeps)
    else:
        lost = summed((COMMS[tid], ns) for tid, ns, cause in waits(rows) if cause == "preempted")
        assert lost and Counter(summed((row["comm"], row["sum_dur"]) for row in found)) == Counter(lost)


def test_a_herd_at_a_port(tmp_path: Path) -> None:
    """Three workers woken for a connection to port 80, one accepts; another socket's wakeup does not count."""

    def waking(ts: int, tid: int, sport: int, dport: int) -> Row:
        row = {"kind": "sched_waking", "ts": ts, "cpu": 0, "tid": 0, "pid": 0, "comm": "swapper/0", "target_tid": tid}
        row |= {"target_pid": 1, "target_comm": f"w{tid}", "context": "softirq", "context_vec": 3}
        return row | {"fd": 7, "socket": 1, "family": 2, "sport": sport, "dport": dport}

    def accept(ts: int, tid: int, ret: int) -> Row:
        return {"kind": "sys_exit_accept4", "ts": ts, "cpu": 1, "tid": tid, "pid": 1, "comm": f"w{tid}", "ret": ret}

    rows = [waking(100, 1, 80, 0), waking(101, 2, 80, 0), waking(102, 3, 80, 0), waking(103, 4, 81, 900)]
    rows += [accept(110, 1, 12), accept(120, 2, -11)]  # EAGAIN is no connection
    path = write_rows(
        tmp_path / "herd.parquet", rows, kinds=["sched_waking", "sys_exit_accept4"], cpus=(0, 1), start_ts=0,
        end_ts=5_000_000, filled={"sched_waking": ["fd", "socket", "family", "saddr", "sport", "daddr", "dport"]},
    )  # fmt: skip
    capture = Capture.open(path)
    assert expand("@herd port=80 pid=1") == (
        "wakeups on port 80 of pid 1 not followed by accepts within 1ms | count by comm"
    )
    assert Counter(ask(capture, expand("@herd port=80")).rows()) == Counter([("w2", 1), ("w3", 1)])
    assert Counter(ask(capture, expand("@herd port=900")).rows()) == Counter([("w4", 1)])
    assert ask(capture, expand("@herd port=82")).rows() == []


def test_every_question_is_here_or_told_apart() -> None:
    """Those of connections and migrations need kinds that the machine does not make: tests/unit/test_saved.py."""
    here = {question.split()[0][1:] for question in EXPECTED} | {"top_delays", "preemptions", "dstate"}
    assert set(shipped()) - here == {"migrations", "epoll_woken", "connections_by_port", "connects_by_port", "port"}
