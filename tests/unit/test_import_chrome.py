"""Chrome's trace JSON: slices and their ends, counters, flows, numbers as texts, and files that are cut or hostile."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracectl.query import ask
from tracectl.recorder.import_chrome import ChromeTrace, is_chrome_json
from tracectl.recorder.import_session import ImportOptions, import_traces
from tracectl.store.capture import Capture

CASES = Path(__file__).parents[3] / "shared" / "traces" / "perfetto" / "inline_cases.json"
CATAPULT = Path(__file__).parents[3] / "shared" / "traces" / "catapult"


def rows(text: str, size: int = 1 << 20) -> list[dict[str, Any]]:
    """The rows of a text that comes in pieces of so many bytes."""
    data = text.encode()
    return list(ChromeTrace().rows(data[i : i + size] for i in range(0, len(data), size)))


def event(ph: str, ts: Any, name: str = "n", **more: Any) -> dict[str, Any]:
    """An event of thread 2 of process 1."""
    return {"ph": ph, "ts": ts, "name": name, "pid": 1, "tid": 2, **more}


def slices(events: list[dict[str, Any]]) -> list[tuple[str, int, int | None]]:
    found = [row for row in rows(json.dumps(events)) if row["kind"] == "slice"]
    return sorted(((row["name"], row["ts"], row.get("dur")) for row in found), key=lambda found: found[1])


def test_begins_and_ends_nest_per_thread() -> None:
    other = {"pid": 1, "tid": 3}
    events = [
        event("B", 1, "a"), event("B", 2, "b"), event("B", 2.5, "x") | other, event("E", 3, "b"), event("E", 4.001, ""),
        event("E", 5, "x") | other, event("B", 6, "open"), event("B", 7, "lost"), event("E", 8, "open"),
    ]  # fmt: skip
    assert slices(events) == [
        ("a", 1000, 3001),
        ("b", 2000, 1000),
        ("x", 2500, 2500),
        ("open", 6000, 2000),
        ("lost", 7000, None),
    ]


def test_asynchronous_ones_are_matched_by_id_and_name_over_threads() -> None:
    events = [
        event("b", 1, "a", id="1", cat="c"), event("b", 2, "a", id="2", cat="c"), event("b", 3, "in", id="1", cat="c"),
        event("e", 5, "a", id="1", cat="c", tid=9), event("e", 6, "a", id="2", cat="c"),
    ]  # fmt: skip
    assert slices(events) == [("a", 1000, 4000), ("a", 2000, 4000), ("in", 3000, None)]


def test_other_phases() -> None:
    events = [
        event("i", 1), event("C", 2, args={"x": "1.5", "y": 2, "no": "q"}), event("s", 3, id=7), event("f", 4, id=7),
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 2, "args": {"name": "worker"}}, event("X", 5, dur="0.5"),
        event("P", 6),
    ]  # fmt: skip
    found = rows(json.dumps({"other": [], "traceEvents": events, "displayTimeUnit": "ns"}))
    assert [row["kind"] for row in found] == [
        "instant", "counter", "counter", "flow", "flow", "task", "slice", "trace_event",
    ]  # fmt: skip
    assert [(row["series"], str(row["value"])) for row in found[1:3]] == [("x", "1.5"), ("y", "2")]
    assert [(row["step"], row["id"]) for row in found[3:5]] == [("start", 7), ("end", 7)]
    assert (found[6]["comm"], found[6]["dur"]) == ("worker", 500)


@pytest.mark.parametrize("size", [1, 7, 64, 4096])
@pytest.mark.parametrize(
    "form", ["[{}]", "[{},]", "[{}", "[{},", '{{"traceEvents": [{}]}}', '{{"a": 1, "traceEvents": [{},\n]}}']
)
def test_lists_that_come_in_pieces_or_end_early(form: str, size: int) -> None:
    texts = [json.dumps(event("X", i, f"é{i}", dur=1)) for i in range(20)]
    found = rows(form.format(",\n".join(texts)), size)
    assert [(row["name"], row["ts"]) for row in found] == [(f"é{i}", i * 1000) for i in range(20)]


@pytest.mark.parametrize(
    "bad",
    [
        event("E", 1), event("X", None), event("X", "invalid"), event("X", 1, dur="q"), event("X", 1e300),
        event("", 1), event("C", 1), event("C", 1, args={"x": "."}), 17, "text", [1], None,
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_with_its_line(bad: Any) -> None:
    text = f"[{json.dumps(event('i', 1))},\n{json.dumps(bad)},\n{json.dumps(event('i', 2))}]"
    assert [row["kind"] for row in rows(text)] == ["instant", "unparsed", "instant"]
    assert rows(text)[1]["line"] == 2


def test_a_broken_event_costs_no_more_than_its_line() -> None:
    lines = [json.dumps(event("i", i)) for i in range(5)]
    lines[2] = '}{"ph": }'
    assert [row["kind"] for row in rows("[" + ",\n".join(lines) + "]")].count("instant") >= 4


@pytest.mark.parametrize(
    "bomb", ["[" * 200_000, '[{"a":' * 50_000, "[" + "9" * 100_000, '[{"ph":"i","ts":' + "9" * 10_000 + "}"]
)
def test_bombs_are_no_more_than_unread(bomb: str) -> None:
    assert {row["kind"] for row in rows(bomb)} <= {"unparsed"}


@given(st.text(max_size=60), st.integers(0, 200), st.integers(1, 50))
def test_damaged_files_raise_nothing(junk: str, at: int, size: int) -> None:
    text = json.dumps([event("B", 1), event("E", 2), event("C", 3, args={"a": 1})])
    for row in rows(text[:at] + junk + text[at:], size):
        assert row["kind"] in ("slice", "counter", "unparsed", "instant", "flow", "trace_event", "task")


def test_half_a_character_can_be_stored(tmp_path: Path) -> None:
    (tmp_path / "in").write_text('[{"ph": "i", "ts": 1, "name": "\\ud800x", "pid": "foo", "tid": {"a": 1}}]')
    import_traces(ImportOptions((str(tmp_path / "in"),), tmp_path / "out.parquet"))
    assert ask(Capture.open(tmp_path / "out.parquet"), "events instant | select name, pid, tid").rows() == [
        ("\\ud800x", None, None)
    ]


def test_recognised_by_content() -> None:
    assert is_chrome_json(b' \n{"displayTimeUnit": "ns", "traceEvents": []}')
    assert is_chrome_json(b'[{"ph": "X"}]')
    assert not is_chrome_json(b"[LOST 3 EVENTS]\n")
    assert not is_chrome_json(b'{"nodes": [1]}')


def perfetto_cases() -> list[dict[str, Any]]:
    """Perfetto's own tests whose answer is a list of slices."""
    cases = json.loads(CASES.read_text()) if CASES.is_file() else []
    return [case for case in cases if case["kind"] == "Json" and '"dur"' in case["out"]]


@pytest.mark.skipif(not CASES.is_file(), reason=f"no {CASES}")
@pytest.mark.parametrize("case", perfetto_cases(), ids=lambda case: case["name"])
def test_perfetto_s_slices(case: dict[str, Any]) -> None:
    expected = [
        (row["name"], int(row["ts"]), int(row["dur"])) for row in csv.DictReader(io.StringIO(case["out"]))
    ]  # fmt: skip
    # An instant is a slice of no duration there.
    lengths = {"slice": -1, "instant": 0}
    got = {(r["name"], r["ts"], r.get("dur", lengths[r["kind"]])) for r in rows(case["trace"]) if r["kind"] in lengths}
    assert got >= set(expected)


@pytest.mark.skipif(not CATAPULT.is_dir(), reason=f"no traces in {CATAPULT}")
@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("flow_simple", {"slice": 5, "flow": 5}),
        ("nanoseconds", {"slice": 8}),
        ("nestable_async", {"slice": 9, "instant": 2}),
        ("simple_trace", {"slice": 12, "instant": 6, "counter": 5, "trace_event": 3}),
    ],
)
def test_catapult_s_traces(tmp_path: Path, name: str, kinds: dict[str, int]) -> None:
    imported = import_traces(ImportOptions((str(CATAPULT / f"{name}.json"),), tmp_path / "out.parquet"))
    assert dict(imported.totals.events) == kinds
    # An end whose begin is not there, or has another name.
    assert imported.totals.unparsed == (name in ("nestable_async", "simple_trace"))
