"""Questions from end to end: examples, errors, SQL that others can run, what was lost, threads that are not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from tracectl.query import Answer, Scene, ask, explain, parse, plan
from tracectl.query.clause import Clause
from tracectl.query.clauses import CLAUSES
from tracectl.query.grammar import assemble
from tracectl.query.nouns import NOUNS, Noun
from tracectl.query.stage import Stage
from tracectl.query.stages import STAGES
from tracectl.store.capture import Capture
from tracectl.store.errors import NotRecordedError, QueryError, StrictError
from tracectl.store.events import CATALOGUE, KINDS
from tracectl.store.writer import write_rows

HERE = Path(__file__).parent
PARTS: tuple[Noun | type[Clause] | type[Stage], ...] = (*NOUNS, *CLAUSES, *STAGES)
EXAMPLES = sorted({text for part in PARTS for text in part.examples})
EVENT_EXAMPLES = sorted({event.example for event in CATALOGUE if event.example})
ALL_KINDS = [kind for kind, event in KINDS.items() if not event.bookkeeping]


def in_plain_duckdb(answer: Answer) -> list[tuple[Any, ...]]:
    """What the statement with its values written in gives elsewhere; of rows that may match, those that do."""
    with duckdb.connect() as connection:
        found = connection.execute(answer.sql_literal)
        names = [name for name, *_ in found.description or ()]
        rows: list[tuple[Any, ...]] = found.fetchall()
    if "match_" not in names:
        return rows
    matched = names.index("match_")
    columns = [names.index(name) for name in answer.columns]
    return [tuple(row[n] for n in columns) for row in rows if row[matched] or answer.plan.select.group == []]


@pytest.fixture
def busy(trace: Any, capture_of: Any) -> Any:
    """A capture with a little of everything."""
    trace.event(1, None, "task", "wrk:worker_0:4449/4182", start_ts=-50, cgroup="/kubepods/x")
    trace.waking(20, 0, "idle", "wrk:worker_0:4449/4182", "softirq", 3)
    trace.switch(25, 0, "idle", "R", "wrk:worker_0:4449")
    trace.event(26, 0, "sys_exit_epoll_wait", "wrk:worker_0:4449/4182", ret=1)
    trace.switch(40, 0, "wrk:worker_0:4449/4182", "S", "idle")
    trace.waking(50, 1, "it's:900", "wrk:worker_0:4449/4182")
    trace.switch(65, 0, "idle", "R", "wrk:worker_0:4449")
    trace.softirq(70, 80, 0, 3)
    trace.irq(82, 84, 0, 11)
    trace.options["kinds"] = ALL_KINDS
    trace.options["filled"] = {"sched_waking": ["fd", "kstack"], "sched_switch": ["kstack"]}
    return capture_of(trace)


@pytest.mark.parametrize("question", [*EXAMPLES, *EVENT_EXAMPLES])
def test_every_example_runs_and_its_sql_runs_in_plain_duckdb(busy: Any, question: str) -> None:
    answer = ask(busy, question)
    found = answer.rows()
    assert in_plain_duckdb(answer) == found
    assert list(answer.units) == [name for name in answer.columns if name in answer.units]
    assert explain(question, Scene.of(busy, "recorded")).startswith("rows")


def test_what_a_wakeup_came_through(trace: Any, capture_of: Any) -> None:
    ends = {"saddr": "10.0.0.1", "sport": 15006, "daddr": "10.0.0.2", "dport": 38590, "tcp_state": 1, "family": 2}
    trace.waking(20, 0, "idle", "a:11", "softirq", 3)
    trace.rows[-1] |= {"fd": 42, "socket": -99, **ends}
    trace.waking(21, 0, "idle", "b:12", "softirq", 3)
    trace.event(22, 0, "sys_exit_epoll_wait", "a:11", ret=1)
    trace.event(23, 0, "sys_exit_epoll_wait", "b:12", ret=1)
    capture = capture_of(trace)
    for place in ("fd 42", "port 15006", "port 38590", "socket 0xffffffffffffff9d"):
        for noun in ("wakeups", "epolls"):
            found = ask(capture, f"{noun} on {place} | select tid, fd, tcp_state, saddr, sport").rows()
            assert found == [(11, 42, "ESTABLISHED", "10.0.0.1", 15006)]
    assert ask(capture, "wakeups where fd is null | select tid").rows() == [(12,)]


@pytest.mark.parametrize("kinds", (["sched_waking", "sys_exit_epoll_wait"], ALL_KINDS), ids=("few", "all"))
def test_what_it_came_through_was_not_recorded(trace: Any, capture_of: Any, kinds: list[str]) -> None:
    """Not even where callbacks were: the columns are filled or not, whatever else there is."""
    trace.waking(20, 0, "idle", "a:11", "softirq", 3)
    trace.event(22, 0, "sys_exit_epoll_wait", "a:11", ret=1)
    trace.options["kinds"] = kinds
    capture = capture_of(trace)
    for question in ("on fd 42", "on port 1", "on socket 3", "where fd = 3", "| count by sport", "| select saddr"):
        for noun in ("wakeups", "epolls"):
            with pytest.raises(NotRecordedError, match="record -e sched_waking,ep_poll_callback"):
                ask(capture, f"{noun} {question}")
    assert "fd" not in ask(capture, "wakeups").columns


def test_the_grammar_is_the_one_on_file() -> None:
    """After a change on purpose: write ``assemble()`` to grammar.lark."""
    assert assemble() == (HERE / "grammar.lark").read_text("utf-8")


WRONG = [line for line in (HERE / "wrong.txt").read_text("utf-8").split("\n\n") if line.strip()]


@pytest.mark.parametrize("case", WRONG, ids=[case.splitlines()[0][2:] or "nothing" for case in WRONG])
def test_what_is_said_of_a_wrong_question(case: str) -> None:
    asked, _, said = case.partition("\n")
    with pytest.raises(QueryError) as caught:
        plan(parse(asked.removeprefix("? ").removeprefix("?")), Scene(end_ts=10**12))
    assert str(caught.value) == said.rstrip("\n")


POOR = [line for line in (HERE / "poor.txt").read_text("utf-8").split("\n\n")[1:] if line.strip()]


@pytest.mark.parametrize("case", POOR, ids=[case.splitlines()[0][2:] for case in POOR])
def test_what_is_not_said_yet_of_a_wrong_question(case: str) -> None:
    asked, _, wanted = case.strip().partition("\n")
    with pytest.raises(QueryError) as caught:
        plan(parse(asked.removeprefix("? ")), Scene(end_ts=10**12))
    assert wanted not in caught.value.remedy, "well said by now: move it to wrong.txt"


@pytest.mark.parametrize(
    "name",
    [
        "x' OR 1=1 --",
        "'; DROP TABLE capture; --",
        "$p2",
        "%",
        "_",
        "\\",
        "a\\%b",
        "é\u202e\x1b[31m",
        "*",
        "[a-z]",
        "''",
    ],
)
def test_names_are_values_and_nothing_else(trace: Any, capture_of: Any, name: str) -> None:
    for n, comm in enumerate([name, "bystander"]):
        trace.waking(10 + n, 0, "idle", f"{comm}:{5 + n}")
    capture = capture_of(trace)
    for question in (f'wakeups of comm "{name}"', f'wakeups where comm = "{name}"'):
        answer = ask(capture, f"{question} | select comm")
        expected = [(name,), ("bystander",)] if name == "*" and " of " in question else [(name,)]
        assert answer.rows() == expected
        assert in_plain_duckdb(answer) == expected
        assert name not in answer.sql or name in ("$p2", "%", "_", "\\", "*")


def test_wildcards_are_star_and_question_mark_only(trace: Any, rows: Any) -> None:
    for n, comm in enumerate(["wrk:a", "wrk:b", "wrk_a", "a%c", "abc", "[x]", "x"]):
        trace.waking(n, 0, "idle", f"{comm}:{n + 1}")

    def found(pattern: str) -> list[str]:
        return [comm for (comm,) in rows(trace, f'wakeups of comm "{pattern}" | select comm')]

    assert found("wrk:*") == ["wrk:a", "wrk:b"]
    assert found("wrk?a") == ["wrk:a", "wrk_a"]
    assert found("a%*") == ["a%c"]
    assert found("[x]") == ["[x]"]
    assert found("[x*") == ["[x]"]


def test_paths_are_values_too(trace: Any, tmp_path: Path) -> None:
    trace.waking(10, 0, "idle", "a:1")
    path = tmp_path / 'it\'s [a-z]*? $p1 "x".parquet'
    answer = ask(Capture.open(write_rows(path, trace.rows)), "wakeups of tid 1 | count")
    assert answer.rows() == [(1,)]
    assert in_plain_duckdb(answer) == [(1,)]


def test_a_noun_without_its_events_is_unknowable(trace: Any, capture_of: Any) -> None:
    capture = capture_of(trace.switch(10, 0, "a:1", "S", "idle"))
    with pytest.raises(NotRecordedError, match="wakeups cannot be told") as caught:
        ask(capture, "wakeups of tid 1")
    assert caught.value.remedy == "record again with: tracectl record -e sched_waking"
    assert (caught.value.start, caught.value.end) == (0, 7)
    with pytest.raises(NotRecordedError, match="softirq_entry and softirq_exit"):
        ask(capture, "softirqs")
    with pytest.raises(NotRecordedError, match="events softirq_raise"):
        ask(capture, "events softirq_raise")


def test_a_context_that_nobody_recorded_is_unknowable(trace: Any, capture_of: Any) -> None:
    capture = capture_of(trace.waking(10, 0, "idle", "a:1", None))
    assert len(ask(capture, "wakeups by idle").rows()) == 1
    with pytest.raises(NotRecordedError, match="the waker's context cannot be told"):
        ask(capture, "wakeups by softirq")


def test_recorded_but_silent_is_an_answer(trace: Any, answer: Any) -> None:
    trace.options["kinds"] = ["sched_waking"]
    found = answer(trace, "wakeups by softirq")
    assert found.rows() == []
    assert found.qualification.exact


@pytest.mark.parametrize(
    ("question", "kind", "at_most"),
    [
        ("wakeups", "missing", 7),
        ("wakeups on cpu 0", "missing", 3),
        ("wakeups on cpu 2", "exact", 0),
        ("wakeups after 60ns", "exact", 0),
        ("wakeups before 25ns", "missing", 3),
        ("wakeups before 15ns", "exact", 0),
        ("wakeups between 31ns and 35ns", "exact", 0),
        ("delays on cpu 0", "missing", 8),  # a wait depends on every CPU, and the waking at 10 may have begun one
        ("delays after 60ns", "missing", 7),  # and on what came before it
        ("delays of tid 2", "missing", 7),
        ("switches before 15ns", "missing", 7),  # the next switch tells who came in
        ("runs on cpu 0 after 35ns", "exact", 0),
        ("softirqs", "missing", None),
        ("lost", "exact", 0),
        ("tasks", "missing", None),  # any event names threads
        ("tasks on cpu 0", "missing", None),
        ("events sched_waking on cpu 1", "missing", 4),
        ("accepts", "exact", 0),
    ],
)
def test_what_was_lost_qualifies_the_answer(
    trace: Any, answer: Any, question: str, kind: str, at_most: int | None
) -> None:
    trace.waking(10, 0, "idle", "a:1")
    trace.lost(20, 30, 0, "sched", 3)
    trace.lost(40, 50, 1, "sched", 4)
    trace.lost(40, 50, 1, "irq", None)
    trace.options["kinds"] = ALL_KINDS
    found = answer(trace, question).qualification
    assert (found.kind, found.at_most) == (kind, at_most)


def test_strict_refuses_what_is_not_exact(trace: Any, capture_of: Any) -> None:
    trace.waking(10, 0, "idle", "a:1")
    trace.lost(20, 30, 0, "sched", 3)
    capture = capture_of(trace)
    assert ask(capture, "wakeups on cpu 1", strict=True).rows() == []
    with pytest.raises(StrictError, match=r"at most 3 missing \(1 gap\)"):
        ask(capture, "wakeups", strict=True)


def test_nobody_of_that_name(busy: Any) -> None:
    for question, note in {
        "wakeups of tid 4448": "no event of the capture names tid 4448; nearest: 4449 (wrk:worker_0), ",
        'wakeups of comm "wrk:workr_0"': 'no event of the capture names comm "wrk:workr_0"; nearest: wrk:worker_0',
        "wakeups of pid 99": "no event of the capture names pid 99; nearest: ",
        'delays of comm "wk:*"': 'no event of the capture names comm "wk:*"',
    }.items():
        answer = ask(busy, question)
        assert answer.rows() == []
        assert [line for line in answer.notes if line.startswith(note)], (question, answer.notes)
    there = ask(busy, "wakeups of tid 4449 by comm wrk:*")
    assert there.rows() == []
    assert there.notes == []


def test_a_filtered_recording_says_so(trace: Any, capture_of: Any) -> None:
    trace.options["filter"] = "pid 4182 or comm wrk:*"
    for n, tid in enumerate((1, 2, 1), 1):
        trace.switch(10 * n, 0, f"wrk:{tid}/4182" if tid == 1 else "b:2/2", "S", "b:2/2" if tid == 1 else "wrk:1/4182")
    capture = capture_of(trace.waking(5, 0, "idle", "wrk:1/4182"))
    for question in ("wakeups", "wakeups of tid 1", "wakeups of pid 4182 or tid 1", "runs of comm *"):
        found = ask(capture, question)
        assert not found.qualification.exact
        assert str(found.qualification).endswith("the recording was filtered: pid 4182 or comm wrk:*)")
        with pytest.raises(StrictError, match="the recording was filtered"):
            ask(capture, question, strict=True)
    for question in ("wakeups of pid 4182", "runs of pid 4182 or comm wrk:1", 'delays of comm "wrk:*"', "lost"):
        assert ask(capture, question).qualification.exact, question
    note = "the recording was filtered (pid 4182 or comm wrk:*): other threads' events are not in it"
    assert ask(capture, "wakeups of pid 4182").notes == [note]
    # Thread 2 is outside: between its two switches it may have left the CPU and come back.
    assert ask(capture, "runs | select tid, dur, certain").rows() == [(2, None, False), (1, 10, True)]
    assert ask(capture, "switches | select next_tid, next_pid, certain").rows() == [
        (2, None, False), (1, 4182, True), (2, None, False),
    ]  # fmt: skip


def test_times_count_from_the_start_of_the_capture(trace: Any, rows: Any) -> None:
    for ts in (1000, 1500, 2000):
        trace.waking(ts, 0, "idle", "a:1")
    trace.options |= {"start_ts": 1000, "end_ts": 2100}
    assert rows(trace, "wakeups after 0.5us | select ts") == [(1500,), (2000,)]
    assert rows(trace, "wakeups before 500ns | select ts") == [(1000,), (1500,)]
    assert rows(trace, "wakeups between 1ns and 1us | select ts") == [(1500,), (2000,)]
    assert rows(trace, "wakeups in last 100ns | select ts") == [(2000,)]
    assert rows(trace, "wakeups where ts > 500ns | select ts") == [(2000,)]


def test_stages(trace: Any, rows: Any) -> None:
    for n, dur in enumerate([5, 1, 3, 4, 2, 100]):
        trace.softirq(1000 * n, 1000 * n + dur, 0, 3 if n % 2 else 7)
    ask_for = {
        "count": [(6,)],
        "count by name": [("NET_RX", 3), ("SCHED", 3)],
        "sum dur by name": [("NET_RX", 105), ("SCHED", 10)],
        "min dur": [(1,)],
        "max dur, ts": [(100, 5000)],
        "avg dur by name": [("NET_RX", 35), ("SCHED", 3)],
        "p50,p100 dur": [(3, 100)],
        "p50 dur by name | sort name | limit 1": [("NET_RX", 4)],
        "top 2 by dur | select dur": [(100,), (5,)],
        "top 3 by dur | count by name": [("NET_RX", 2), ("SCHED", 1)],
        "top 2 | select dur": [(100,), (5,)],
        "sum dur, ts by name | sort name | top 1": [("NET_RX", 105, 9000)],
        "count by name, cpu | select count, name | sort name | top 1 | select count": [(3,)],
        "sort dur | select dur | limit 2": [(1,), (2,)],
        "sort -dur | limit 3 | sort dur | select dur": [(4,), (5,), (100,)],
        "limit 3 | limit 5 | count": [(3,)],
        "count by name | count": [(2,)],
        "count by cpu, name | sum count by cpu": [(0, 6)],
        "select dur, name | sort name | limit 1": [(1, "NET_RX")],
        "limit 0": [],
    }
    assert {stages: rows(trace, f"softirqs | {stages}") for stages in ask_for} == ask_for


def test_units_follow_the_columns(busy: Any) -> None:
    assert ask(busy, "delays | select ts, dur, tid").units == {"ts": "clock", "dur": "ns"}
    assert ask(busy, "delays | max dur, end_ts by tid").units == {"max_dur": "ns", "max_end_ts": "clock"}
    assert ask(busy, "delays | count").units == {}


def test_keywords_in_any_case_nouns_in_any_number(busy: Any) -> None:
    assert ask(busy, "WAKEUP OF TID 4449 BY SOFTIRQ Net_Rx | COUNT").rows() == [(1,)]
    assert ask(busy, "Runq  Latencies of Comm wrk:worker_0|count").rows() == [(2,)]
    assert ask(busy, "runq latency of comm 'wrk:worker_0'\n|\tcount").rows() == [(2,)]


def test_the_statement_is_one_and_values_are_not_in_it(busy: Any) -> None:
    answer = ask(busy, 'wakeups of tid 123456789 or comm "needle" on cpu 77 after 9.87654321s where prio = 4711')
    for value in ("123456789", "needle", "77", "9876543210", "4711"):
        assert value not in answer.sql.replace(str(busy.path), "")
    assert ";" not in answer.sql
    assert sorted(answer.parameters.values(), key=str) == [123456789, 4711, 77, 9876543210, "needle"]


def test_a_qualified_answer_is_read_in_batches_and_beside_others(trace: Any, capture_of: Any) -> None:
    trace.waking(10, 0, "idle", "a:1", "softirq", 3)
    trace.waking(11, 0, "idle", "b:2", "unknown", None)
    trace.waking(12, 0, "idle", "c:3", "softirq", 1)
    capture = capture_of(trace)
    with capture.database() as database:
        first, second = (
            ask(capture, f"wakeups by softirq of comm {comm} | select tid", database=database) for comm in ("a", "c")
        )
        assert list(first.batches(1)) == [[(1,)]]
        assert list(second.batches(1)) == [[(3,)]]
        assert second.qualification.exact
        assert ask(capture, "wakeups by softirq", database=database).qualification.undetermined == 1
