"""What a question reads: only the kinds, the columns and the threads that it needs, and the rows are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.property.machine import END, KINDS, START, Machine
from tracectl.query import ask
from tracectl.query.answer import Answer
from tracectl.store.capture import Capture
from tracectl.store.relations import Relations
from tracectl.store.writer import write_rows

SAMPLE = Path(__file__).parents[2] / "examples" / "sample.parquet"


@pytest.fixture(scope="module")
def sample() -> Capture:
    return Capture.open(SAMPLE)


def plan_text(capture: Capture, answer: Answer) -> str:
    """DuckDB's plan of an answer's statement."""
    with capture.database() as database:
        return "\n".join(str(row[1]) for row in database.execute(f"EXPLAIN {answer.sql_literal}").rows())


def rows_by(answer: Answer) -> list[tuple[Any, ...]]:
    return sorted(answer.rows(), key=str)


@pytest.mark.parametrize("noun", ["delays", "sleeps"])
@pytest.mark.parametrize(
    ("of", "where"),
    [
        ("pid 18810", "pid = 18810"),
        ('comm "demo:p*"', "comm like 'demo:p%'"),
        ("comm demo:ping", "comm = demo:ping"),
        ("pid 18810 or comm demo:pong", "pid = 18810 or comm = demo:pong"),
    ],
)
def test_threads_left_out_early_change_no_row(sample: Capture, noun: str, of: str, where: str) -> None:
    early = ask(sample, f"{noun} of {of}")
    late = ask(sample, f"{noun} where {where}")
    assert early.plan.given and not late.plan.given
    found = rows_by(early)
    assert found and found == rows_by(late)


def test_a_question_inside_keeps_its_own_threads(sample: Capture) -> None:
    answer = ask(sample, "delays of comm demo:pong followed by (sleeps of comm demo:pong) within 1ms anywhere")
    assert not answer.plan.given


def test_a_tid_reaches_the_scan_and_kinds_prune(sample: Capture) -> None:
    text = plan_text(sample, ask(sample, "wakeups of tid 18809 by softirq"))
    assert "target_tid=18809" in text.replace(" ", "")
    assert "kind='sched_waking'" in text.replace(" ", "")


def test_only_the_columns_of_the_question_are_read(sample: Capture) -> None:
    text = plan_text(sample, ask(sample, "wakeups of tid 18809 | count"))
    for column in ("next_comm", "prev_state", "saddr", "target_prio"):
        assert column not in text


def test_steps_of_other_threads_are_not_kept(sample: Capture) -> None:
    text = plan_text(sample, ask(sample, "delays of pid 18810 | p99 dur"))
    assert "MATERIALIZED" not in text and "CTE" not in text


def test_rows_that_may_match_are_counted_without_a_window(sample: Capture) -> None:
    answer = ask(sample, "wakeups of tid 18809 by softirq")
    assert answer.plan.select.qualified and "OVER" not in answer.plan.select.sql()


# Views that look at gaps for nothing but their rows' certainty.
LOOKING = ("delays", "irqs", "runs", "sleeps", "softirqs", "switches", "calls", "syscalls")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    """A capture that lost nothing."""
    path = tmp_path_factory.mktemp("whole") / "x.parquet"
    rows = Machine(3, steps=400).rows
    return Capture.open(
        write_rows(path, rows, kinds=KINDS, cpus=(0, 1), start_ts=START, end_ts=END, breaks_declared=True)
    )


@pytest.mark.parametrize("noun", LOOKING)
def test_where_nothing_was_lost_gaps_are_not_looked_at_and_the_rows_are_the_same(whole: Capture, noun: str) -> None:
    found = []
    for lossless in (False, True):
        relations = Relations(whole)
        relations.lossless = lossless
        sql = relations.with_clause([noun])
        assert ("gap_reach" in sql) is not lossless
        with whole.database() as database:
            found.append(database.execute(f"{sql}\nSELECT * FROM {noun} ORDER BY seq").rows())
    assert found[0] == found[1] and (found[0] or noun in ("calls", "syscalls"))
    if noun in LOOKING[:6]:
        assert "gap_reach" not in ask(whole, noun).sql


def test_where_something_was_lost_gaps_are_looked_at(sample: Capture, tmp_path: Path) -> None:
    assert "gap_reach" in ask(sample, "runs").sql
    rows = [*Machine(3, steps=400).rows, {"kind": "lost", "ts": END, "cpu": 0, "stream": "irq", "from_ts": END - 1}]
    made = write_rows(tmp_path / "x.parquet", rows, kinds=KINDS, cpus=(0, 1), start_ts=START, end_ts=END)
    assert "gap_reach" in ask(Capture.open(made), "runs").sql


def test_only_columns_that_can_be_meant_are_listed(sample: Capture) -> None:
    relations = Relations(sample)
    head = relations.with_clause(["runs"])
    capture = head[: head.index("read_parquet")]
    assert "next_tid" in capture and "saddr" not in capture and "lost_count" in capture
    for name in ("capture", "events", "sched_waking"):  # asked for themselves: all of them
        assert "saddr" in relations.with_clause([name])
