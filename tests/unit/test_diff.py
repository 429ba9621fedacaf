"""``tracectl diff``: what two captures say side by side, and what loss forbids to claim."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tracectl.difference import EQUAL, LARGER, SMALLER, UNKNOWN, Value
from tracectl.store.writer import write_rows

Run = Callable[..., Any]
GAP = {"kind": "lost", "ts": 900, "cpu": 1, "stream": "sched", "from_ts": 800, "lost_count": 2, "cause": "ring_full"}


def written(path: Path, wakings: dict[str, int], extra: Iterable[dict[str, Any]] = (), end: int = 1_000) -> Path:
    """A capture with so many wakings of threads of these names."""
    comms = [comm for comm, count in wakings.items() for _ in range(count)]
    rows = [
        {"kind": "sched_waking", "ts": 10 + n, "cpu": 0, "pid": 1, "tid": 1, "comm": "w", "target_comm": comm,
         "target_tid": 5, "target_pid": 5, "context": "task"}
        for n, comm in enumerate(comms)
    ]  # fmt: skip
    options = {"kinds": ("sched_waking",), "cpus": (0, 1), "start_ts": 0, "end_ts": end, "breaks_declared": True}
    return write_rows(path, [*rows, *extra], **options)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """a: exact; b: exact; c: two events lost."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "a.parquet", {"nginx": 4, "redis": 5, "cron": 2})
    written(tmp_path / "b.parquet", {"nginx": 8, "redis": 5, "sshd": 1}, end=2_000)
    written(tmp_path / "c.parquet", {"nginx": 8, "redis": 4, "sshd": 3}, [GAP])
    return tmp_path


def test_two_exact_answers(run: Run, folder: Path) -> None:
    code, out, err = run("diff", "a.parquet", "b.parquet", "wakeups | count by comm", "--format", "csv")
    assert code == 0
    assert out.splitlines() == [
        "comm,count_a,count_b,count_diff,count_ratio,count_is",
        "nginx,4,8,4,2.0,larger",
        "cron,2,0,-2,0.0,smaller",
        "sshd,0,1,1,,larger",
        "redis,5,5,0,1.0,equal",
    ]
    assert "recorded for different times" in err


def test_no_claim_where_loss_may_have_made_the_difference(run: Run, folder: Path) -> None:
    """At most two are missing from c, so that sshd has 3 to 5 there, redis 4 to 6, cron none to 2."""
    answer = json.loads(run("diff", "a.parquet", "c.parquet", "wakeups | count by comm", "--format", "json").out)
    rows = {row.pop("comm"): tuple(row.values()) for row in answer["rows"]}
    assert rows == {
        "nginx": (4, 8, 4, 4, 6, 2.0, "larger"),
        "redis": (5, 4, None, -1, 1, None, "not known"),
        "cron": (2, 0, None, -2, 0, None, "not known"),
        "sshd": (0, 3, 3, 3, 5, None, "larger"),
    }
    assert answer["a"]["qualification"]["kind"] == "exact" and answer["b"]["qualification"]["at_most"] == 2
    table = run("diff", "a.parquet", "c.parquet", "wakeups | count by comm").out
    assert "b: c.parquet, 1us: at most 2 missing (1 gap)" in table and "no difference where the loss" in table


@pytest.mark.parametrize(("one", "other"), list(product(((1, 3), (2, 2), (4, 4), (None, 2), (5, None)), repeat=2)))
def test_a_claim_holds_for_all_that_may_be_true(one: tuple[int | None, ...], other: tuple[int | None, ...]) -> None:
    """Against all values that either may have."""

    def possible(low: int | None, high: int | None) -> range:
        return range(-9 if low is None else low, (19 if high is None else high) + 1)

    signs = {(y > x) - (y < x) for x in possible(*one) for y in possible(*other)}
    expected = {1: LARGER, -1: SMALLER, 0: EQUAL}[signs.pop()] if len(signs) == 1 else UNKNOWN
    assert Value(None, *one).compared(Value(None, *other)) == expected


def test_groups_that_a_limit_left_out_are_not_none(run: Run, folder: Path) -> None:
    out = run("diff", "a.parquet", "b.parquet", "wakeups | count by comm | top 1 by count", "--format", "csv").out
    assert out.splitlines()[1:] == ["redis,5,,,,not known", "nginx,,8,,,not known"]


def test_totals_percentiles_and_formats(run: Run, folder: Path, tmp_path: Path) -> None:
    code, out, _ = run("diff", "a.parquet", "b.parquet", "wakeups", "|", "count", "--format", "csv")
    assert (code, out.splitlines()[1]) == (0, "11,14,3,1.2727272727272727,larger")
    question = "wakeups | p50 ts by comm"
    assert run("diff", "a.parquet", "b.parquet", question, "-o", tmp_path / "d.parquet").code == 0
    table = pq.read_table(tmp_path / "d.parquet")
    assert table.column_names[:3] == ["comm", "p50_ts_a", "p50_ts_b"]
    by_comm = {row["comm"]: row for row in table.to_pylist()}
    assert (by_comm["nginx"]["p50_ts_a"], by_comm["nginx"]["p50_ts_b"]) == (11, 13)
    assert by_comm["sshd"]["p50_ts_a"] is None and by_comm["sshd"]["p50_ts_is"] == "not known"


def test_what_cannot_be_compared(run: Run, folder: Path) -> None:
    code, _, err = run("diff", "a.parquet", "b.parquet", "wakeups")
    assert (code, err.splitlines()[0]) == (1, "tracectl: two captures are compared by groups or totals, not row by row")
    assert "no such capture" in run("diff", "a.parquet", "x.parquet", "wakeups | count").err
    assert run("diff", "a.parquet", "b.parquet", "@wakeup_matrix").code == 0
    assert run("diff", ".", "a.parquet", "wakeups | count by comm").code == 0
