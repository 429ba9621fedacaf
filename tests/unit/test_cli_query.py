"""`tracectl query`: the question the language is named after, what an answer says of loss, `--sql`, `--explain`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

Run = Callable[..., Any]
QUESTION = "wakeups of tid 4449 by softirq"


@pytest.mark.parametrize(
    ("question", "wakers"),
    [
        ("wakeups of tid 4449 by softirq", ["swapper/0", "ksoftirqd/0", "kubelet"]),
        ("wakeups of tid 4449 by comm kubelet", ["kubelet"]),
        ("wakeups of tid 4449 by task", []),
    ],
)
def test_one_cause_under_three_bystanders(run: Run, capture: Path, question: str, wakers: list[str]) -> None:
    rows = json.loads(run("query", capture, question, "--format", "json").out)["rows"]
    assert [row["waker_comm"] for row in rows] == wakers


def test_quotes_may_be_left_out(run: Run, capture: Path) -> None:
    quoted = run("query", capture, QUESTION)
    assert quoted.code == 0
    assert run("query", capture, *QUESTION.split()) == quoted
    assert run("query", capture, *QUESTION.split(), "--format", "table") == quoted


def test_a_table_ends_with_what_the_answer_is_worth(run: Run, capture: Path, lossy_capture: Path) -> None:
    assert run("query", capture, QUESTION).out.splitlines()[-1] == "3 rows, exact"
    assert run("query", lossy_capture, QUESTION).out.splitlines()[-1] == "3 rows, at most 12 missing (1 gap)"


def test_none_is_claimed_only_when_exact(run: Run, capture: Path, lossy_capture: Path) -> None:
    none = "wakeups of tid 4449 by task"
    assert "none, exact" in run("query", capture, none).out.splitlines()
    assert "none seen, at most 12 missing (1 gap)" in run("query", lossy_capture, none).out.splitlines()


def test_json_has_the_qualification_beside_the_rows(run: Run, lossy_capture: Path) -> None:
    answer = json.loads(run("query", lossy_capture, QUESTION, "--format", "json").out)
    assert list(answer) == ["rows", "qualification", "notes"]
    assert answer["qualification"] == {
        "kind": "missing", "at_most": 12, "gaps": 1, "undetermined": 0, "filter": "", "bounds": {},
        "unrecorded": "",
    }  # fmt: skip


def test_parquet_has_the_qualification_in_its_metadata(run: Run, lossy_capture: Path, tmp_path: Path) -> None:
    target = tmp_path / "answer.parquet"
    done = run("query", lossy_capture, QUESTION, "-o", target)
    assert (done.code, done.out) == (0, "")
    assert "at most 12 missing" in done.err
    assert json.loads(pq.read_schema(target).metadata[b"tracectl.answer"])["qualification"]["at_most"] == 12


def test_csv_is_rows_only_and_the_rest_goes_to_stderr(run: Run, lossy_capture: Path) -> None:
    done = run("query", lossy_capture, QUESTION, "--format", "csv")
    assert len(done.out.splitlines()) == 4
    assert done.err == "tracectl: 3 rows, at most 12 missing (1 gap)\n"


def test_strict(run: Run, capture: Path, lossy_capture: Path) -> None:
    assert run("query", capture, QUESTION, "--strict").code == 0
    refused = run("query", lossy_capture, QUESTION, "--strict")
    assert (refused.code, refused.out) == (4, "")
    assert "at most 12 missing" in refused.err and "--strict" in refused.err


def test_sql_is_a_statement_that_plain_duckdb_runs(run: Run, capture: Path) -> None:
    statement = run("query", capture, QUESTION, "--sql").out
    rows = json.loads(run("query", capture, QUESTION, "--format", "json").out)["rows"]
    with duckdb.connect() as plain:
        assert plain.execute(statement).fetchall() == [tuple(row.values()) for row in rows]


def test_a_value_stays_a_value(run: Run, capture: Path) -> None:
    question = """wakeups of comm "x' OR 1=1 --" """
    done = run("query", capture, question)
    assert done.code == 0 and "none, exact" in done.out
    with duckdb.connect() as plain:
        assert plain.execute(run("query", capture, question, "--sql").out).fetchall() == []


def test_explain(run: Run, capture: Path) -> None:
    code, out, err = run("query", capture, QUESTION, "--explain")
    assert (code, err) == (0, "")
    assert "4449" in out and "sched" in out


def test_the_error_points_into_the_question(run: Run, capture: Path) -> None:
    done = run("query", capture, "wakeups", "off", "tid", "4449")
    assert done.code == 1
    lines = done.err.splitlines()
    assert lines[1] == "  wakeups off tid 4449"
    assert lines[2].rstrip() == "          ^^^"
