"""Relations between rows on traces that fit a screen: what links them, where they begin and end, what a loss leaves."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tracectl.query import Scene, ask, explain, parse, plan
from tracectl.store.errors import NotRecordedError, QueryError
from tracectl.store.events import KINDS

ALL_KINDS = [kind for kind, event in KINDS.items() if not event.bookkeeping]
FAR = 10**9


@pytest.fixture
def herd(trace: Any) -> Any:
    """Three threads are woken; thread 1 accepts 40 ns later, thread 2 too late, thread 3 never."""
    for n, tid in enumerate((1, 2, 3)):
        trace.waking(100 + n, 0, "idle", f"w:{tid}/9", "softirq", 3)
    trace.event(140, 0, "sys_exit_accept4", "w:1/9", ret=7)
    trace.event(400, 1, "sys_exit_accept4", "w:2/9", ret=8)
    trace.options |= {"kinds": ALL_KINDS, "end_ts": FAR}
    return trace


def tids(answer: Any, trace: Any, question: str) -> list[int]:
    return [row[0] for row in answer(trace, f"{question} | select tid").rows()]


def test_wakeups_for_nothing(herd: Any, answer: Any) -> None:
    assert tids(answer, herd, "wakeups followed by accepts within 100ns") == [1]
    assert tids(answer, herd, "wakeups not followed by accepts within 100ns") == [2, 3]
    assert tids(answer, herd, "wakeups not followed by accepts within 299ns") == [3]
    # Of the process: whoever of it accepts.
    assert tids(answer, herd, "wakeups not followed by accepts within 100ns same pid") == []
    assert tids(answer, herd, "wakeups followed by accepts on fd 8 within 300ns anywhere") == [1, 2, 3]
    counted = answer(herd, "wakeups not followed by accepts within 100ns | count by comm")
    assert counted.rows() == [("w", 2)]
    assert counted.qualification.exact
    assert counted.notes == ["not followed by accepts: linked by tid"]


def test_a_lost_accept_is_not_called_missing(herd: Any, answer: Any) -> None:
    herd.lost(150, 160, 0, "epoll", 1)
    found = answer(herd, "wakeups not followed by accepts within 100ns")
    assert found.rows() == []
    assert (found.qualification.at_most, found.qualification.undetermined, found.qualification.gaps) == (2, 2, 1)
    assert answer(herd, "wakeups followed by accepts within 100ns | count").rows() == [(1, 1, 3)]
    # A window that ends before the gap is not touched by it.
    assert tids(answer, herd, "wakeups not followed by accepts within 45ns") == [2, 3]
    assert answer(herd, "wakeups not followed by accepts within 45ns").qualification.exact
    # The gap may hold any thread's accept, but on its own CPU only.
    assert tids(answer, herd, "wakeups not followed by accepts on cpu 1 within 100ns") == [1, 2, 3]


def test_beyond_the_end_nobody_knows(herd: Any, answer: Any) -> None:
    herd.options["end_ts"] = 450
    found = answer(herd, "wakeups not followed by accepts within 348ns")
    assert [row[2] for row in found.rows()] == [3]
    later = answer(herd, "wakeups not followed by accepts within 349ns")
    assert later.rows() == []
    assert later.qualification.undetermined == 1
    herd.options["start_ts"] = 90
    assert answer(herd, "wakeups not after closes within 10ns").qualification.exact
    early = answer(herd, "wakeups not after closes within 12ns")
    assert (len(early.rows()), early.qualification.undetermined) == (1, 2)


def test_within_a_handler_on_its_cpu(trace: Any, answer: Any) -> None:
    trace.softirq(100, 200, 0, 3)
    trace.softirq(300, 400, 0, 7)
    for ts, cpu in ((100, 0), (150, 0), (150, 1), (200, 0), (250, 0), (350, 0)):
        trace.waking(ts, cpu, "idle", f"w:{ts + cpu}")
    trace.irq(110, 120, 0, 11)
    trace.irq(190, 210, 0, 11)
    trace.options |= {"kinds": ALL_KINDS, "end_ts": FAR}
    assert tids(answer, trace, "wakeups during softirqs net_rx") == [100, 150]
    assert tids(answer, trace, "wakeups during (softirqs) where tid < 150") == [100]
    assert tids(answer, trace, "wakeups not during softirqs") == [151, 200, 250]
    assert tids(answer, trace, "wakeups during softirqs net_rx anywhere") == [100, 150, 151]
    # A row that lasts must lie within wholly.
    assert answer(trace, "irqs during softirqs | select ts").rows() == [(110,)]
    assert answer(trace, "softirqs during softirqs | count").rows() == [(0,)]


def test_handlers_nest(trace: Any, answer: Any) -> None:
    """The last to begin has ended, the one around it has not."""
    trace.event(100, 0, "irq_handler_entry", irq=1, irq_name="a")
    trace.irq(110, 120, 0, 2)
    trace.waking(130, 0, "idle", "w:1")
    trace.event(140, 0, "irq_handler_exit", irq=1)
    trace.waking(150, 0, "idle", "w:2")
    trace.options |= {"kinds": ALL_KINDS, "end_ts": FAR}
    assert tids(answer, trace, "wakeups during irqs") == [1]
    assert answer(trace, "irqs during irqs | select ts").rows() == [(110,)]


def test_an_event_that_both_share_counts(trace: Any, answer: Any) -> None:
    trace.switch(50, 0, "a:1", "S", "b:2")
    trace.waking(100, 0, "b:2", "a:1")
    trace.switch(150, 0, "b:2", "S", "a:1")
    trace.switch(180, 0, "a:1", "S", "b:2")
    trace.options |= {"kinds": ALL_KINDS, "end_ts": FAR}
    assert answer(trace, "delays followed by runs within 0ns | select tid").rows() == [(1,)]
    assert answer(trace, "delays followed by runs under 30ns within 0ns | select tid").rows() == []
    assert answer(trace, "delays after wakeups by task within 0ns | select tid").rows() == [(1,)]
    assert answer(trace, "runs after delays within 0ns | select tid").rows() == [(1,)]
    # But no row stands in relation to itself.
    assert answer(trace, "wakeups followed by wakeups within 1us | select tid").rows() == []


def test_a_wait_that_vanishes_with_its_waking(trace: Any, answer: Any) -> None:
    """The waking raced with the switch-out, and is lost: nothing is left that could begin a wait."""
    trace.switch(50, 0, "b:2", "S", "a:1")
    trace.event(100, 0, "sys_enter_close", "a:1", fd=3)
    trace.switch(110, 0, "a:1", "S", "b:2")
    trace.switch(150, 0, "b:2", "S", "a:1")
    trace.lost(60, 90, 1, "sched", 1)
    trace.options |= {"kinds": ALL_KINDS, "end_ts": FAR}
    found = answer(trace, "closes not followed by delays within 20ns")
    assert found.rows() == []
    assert found.qualification.undetermined == 1


def test_a_long_one_whose_begin_was_lost(trace: Any, answer: Any) -> None:
    trace.softirq(10, 20, 0, 7)
    trace.lost(20, 40, 0, "irq", 1)
    trace.waking(60, 0, "idle", "w:1")
    trace.softirq(80, 90, 0, 7)
    trace.waking(100, 0, "idle", "w:2")
    trace.options |= {"kinds": ALL_KINDS, "end_ts": FAR}
    found = answer(trace, "wakeups not during softirqs")
    assert [row[2] for row in found.rows()] == [2]
    assert found.qualification.undetermined == 1


def test_questions_inside_each_other(herd: Any, answer: Any) -> None:
    herd.event(150, 0, "sys_enter_close", "w:1/9", fd=7)
    assert tids(answer, herd, "wakeups followed by (accepts followed by closes within 10ns) within 50ns") == [1]
    assert tids(answer, herd, "wakeups followed by (accepts followed by closes within 9ns) within 50ns") == []
    with pytest.raises(QueryError, match="too many questions inside each other"):
        parse("wakeups" + " followed by (wakeups" * 4 + ") within 1ns" * 4)


@pytest.mark.parametrize(
    "condition", ["not " * 1000 + "certain", "certain or " * 600 + "certain", "cpu = 1 and " * 600 + "certain"]
)
def test_too_many_conditions_inside_each_other(condition: str) -> None:
    with pytest.raises(QueryError, match="too many conditions inside each other"):
        parse(f"wakeups where {condition}")
    parse(f"wakeups where {'certain or ' * 100}certain")


def test_a_filtered_recording_does_not_know_of_others(herd: Any, answer: Any) -> None:
    herd.options["filter"] = "pid 9"
    for question in ("wakeups of pid 9", "wakeups"):
        found = answer(herd, f"{question} not followed by accepts within 100ns")
        assert found.qualification.undetermined == (0 if " of " in question else 2), question
    herd.options["filter"] = "comm w*"  # a thread may have had another name when it accepted
    assert answer(herd, "wakeups of comm w not followed by accepts within 100ns").qualification.undetermined == 2


def test_what_the_inner_question_needs(trace: Any, answer: Any) -> None:
    with pytest.raises(NotRecordedError, match="accepts cannot be told") as caught:
        answer(trace.waking(1, 0, "idle", "a:1"), "wakeups followed by accepts within 1ms")
    assert (caught.value.start, caught.value.end) == (20, 27)


def test_names_inside_are_looked_up(herd: Any, answer: Any) -> None:
    found = answer(herd, "wakeups followed by accepts of tid 77 within 1ns")
    assert found.rows() == []
    assert any("no event of the capture names tid 77" in note for note in found.notes)


def test_explained() -> None:
    text = explain("wakeups of tid 4449 not followed by accepts on cpu 1 within 1ms | count", Scene(end_ts=10**9))
    assert text.splitlines()[1:5] == [
        "relation    wakeups and accepts",
        "conditions  of tid 4449",
        "            not followed by accepts on cpu 1 within 1ms (linked by tid)",
        "stages      count",
    ]
    assert text.splitlines()[6:8] == [
        "depends on  events of sched, on every CPU, from the start to the end",
        "            events of epoll, on CPU 1, from the start to the end",
    ]


def test_the_statement_is_one_and_its_joins_are_asof(herd: Any, capture_of: Any) -> None:
    found = ask(capture_of(herd), "wakeups during (softirqs on cpu 77) followed by accepts on fd 4711 within 9876ns")
    code = re.sub(r"--.*|read_parquet\(\[.*", "", found.sql)
    assert ";" not in code and "BETWEEN" not in code and code.count("ASOF") >= 2
    assert not re.search(r"\b(77|4711|9876)\b", code)
    assert sorted(value for value in found.parameters.values() if isinstance(value, int))[:3] == [77, 4711, 9876]


def test_the_inner_conditions_stand_below_the_join() -> None:
    sql = plan(parse("wakeups followed by accepts on fd 3 within 1ms"), Scene(), settled=True).select.sql()
    assert sql.index("WHERE fd = $p1") < sql.index("AS next_8 ON")
