"""Marks of programs in kernel text (atrace): slices, counters, instants; ends without begins, and pairs over a gap."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracectl.query import ask
from tracectl.recorder import import_input
from tracectl.recorder.import_session import ImportOptions, import_traces
from tracectl.store.capture import Capture

Asked = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    """Asks a question of marks: (tid, CPU, second, text) each, or a whole line."""

    def ask_of(marks: list[tuple[int, int, int, str] | str], question: str, head: str = "tracing_mark_write: ") -> Any:
        lines = [
            mark if isinstance(mark, str) else f"a-{mark[0]} [00{mark[1]}] .... {mark[2]}.000000: {head}{mark[3]}"
            for mark in marks
        ]
        (tmp_path / "in").write_text("\n".join(lines))
        import_traces(ImportOptions((str(tmp_path / "in"),), tmp_path / "out.parquet", force=True))
        return ask(Capture.open(tmp_path / "out.parquet"), question).rows()

    return ask_of


SLICES = "events slice | select ts, dur, tid, pid, name"
S = 1_000_000_000


def test_begins_and_ends_nest_per_thread(asked: Asked) -> None:
    marks = [(5, 0, 1, "B|4|outer|x"), (6, 1, 2, "B|4|other"), (5, 1, 3, "B|4|in"), (5, 0, 4, "E|4"), (6, 0, 5, "E")]
    marks += [(5, 0, 6, "E|4")]
    expected = [
        (1 * S, 5 * S, 5, 4, "outer|x"), (2 * S, 3 * S, 6, 4, "other"), (3 * S, 1 * S, 5, 4, "in"),
    ]  # fmt: skip
    assert asked(marks, SLICES) == expected
    assert asked(marks, SLICES, "print: tracing_mark_write: ") == expected
    assert asked(marks, "events | count by kind") == [("slice", 3)]


def test_durations_of_slices_are_durations(asked: Asked) -> None:
    marks = [(5, 0, 1, "B|4|outer"), (5, 0, 2, "B|4|in"), (5, 0, 3, "E|4"), (5, 0, 6, "E|4")]
    assert asked(marks, "events slice where dur > 2s | select name, dur") == [("outer", 5 * S)]


def test_ends_without_a_begin_and_begins_without_an_end_are_kept(asked: Asked) -> None:
    marks = [(5, 0, 1, "E|4"), (5, 0, 2, "B|4|open"), (5, 0, 3, "hello"), (5, 0, 4, "F|4|x|9"), (5, 0, 5, "C|4|n|many")]
    assert asked(marks, SLICES) == [(2 * S, None, 5, 4, "open")]
    assert asked(marks, "events tracing_mark_write | select ts, text") == [
        (1 * S, "E|4"), (3 * S, "hello"), (4 * S, "F|4|x|9"), (5 * S, "C|4|n|many"),
    ]  # fmt: skip


def test_slices_with_a_cookie_end_on_any_thread(asked: Asked) -> None:
    marks = [(5, 0, 1, "S|4|a|b|7"), (5, 0, 2, "S|4|a|b|8"), (6, 1, 3, "F|4|a|b|7"), (5, 0, 4, "G|4|trk|n|1")]
    marks += [(9, 0, 5, "F|3|a|b|8"), (6, 0, 6, "H|4|trk|1")]
    assert asked(marks, "events slice | select ts, dur, tid, name, id, track") == [
        (1 * S, 2 * S, 5, "a|b", 7, None), (2 * S, None, 5, "a|b", 8, None), (4 * S, 2 * S, 5, "n", 1, "trk"),
    ]  # fmt: skip


def test_counters_and_instants(asked: Asked) -> None:
    marks = [(5, 0, 1, "C|4|queue|12"), (5, 0, 2, "C|4|queue|-3"), (5, 0, 3, "I|4|now"), (5, 0, 4, "N|4|trk|then")]
    assert asked(marks, "events counter | select ts, pid, name, value") == [
        (S, 4, "queue", 12),
        (2 * S, 4, "queue", -3),
    ]
    assert asked(marks, "events instant | select ts, name, track") == [(3 * S, "now", None), (4 * S, "then", "trk")]


def test_a_pair_over_a_gap_has_no_duration(asked: Asked) -> None:
    # The end may be that of another slice: its own end, and the other's begin, may be among what was lost.
    marks = [(5, 0, 1, "B|4|before"), (5, 0, 2, "E|4"), (5, 0, 3, "B|4|over"), (6, 1, 4, "B|4|else")]
    marks += ["CPU:1 [LOST EVENTS]", (5, 0, 5, "E|4"), (6, 1, 6, "E|4"), (6, 1, 7, "B|4|after"), (6, 1, 8, "E|4")]
    assert [(name, dur) for _, dur, _, _, name in asked(marks, SLICES)] == [
        ("before", S), ("over", None), ("else", None), ("after", S),
    ]  # fmt: skip


def test_a_gap_that_is_told_of_after_the_end_counts(asked: Asked) -> None:
    # CPU 1 lost something after second 1: the thread may have been there between its begin and its end.
    marks = [(9, 1, 1, "x"), (5, 0, 2, "B|4|over"), (5, 0, 3, "E|4"), "CPU:1 [LOST 2 EVENTS]", (9, 1, 5, "x")]
    assert [row[1] for row in asked(marks, SLICES)] == [None]


def test_pairs_go_from_block_to_block(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_input, "HEAD_BYTES", 60)  # every block a line
    monkeypatch.setattr(import_input, "BLOCK_BYTES", 60)
    marks = [(5, 0, 1, "B|4|outer"), (5, 0, 2, "B|4|inner"), (5, 0, 3, "E|4"), (5, 0, 4, "E|4"), (5, 0, 5, "C|4|n|1")]
    assert asked(marks, SLICES) == [(S, 3 * S, 5, 4, "outer"), (2 * S, S, 5, 4, "inner")]
    assert asked(marks, "events | select ts, kind") == [(S, "slice"), (2 * S, "slice"), (5 * S, "counter")]
