"""What a question reads: only the kinds, the columns and the threads that it needs, and the rows are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tracectl.query import ask
from tracectl.query.answer import Answer
from tracectl.store.capture import Capture

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
