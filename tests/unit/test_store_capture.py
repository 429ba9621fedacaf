"""Opening captures: what is no capture is told from what is damaged, and later minor versions are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracectl.store.capture import Capture
from tracectl.store.database import source_sql
from tracectl.store.errors import CaptureError, UserError
from tracectl.store.events import EXTRA, FORMAT_MAJOR, KINDS, Catalogue, Event
from tracectl.store.fields import NAME, S32, S64, Field
from tracectl.store.footer import KEY, Footer, LedgerLine, event_to_json
from tracectl.store.schema import capture_schema
from tracectl.store.writer import SegmentWriter, write_rows

ROWS = [
    {"kind": "sched_process_exit", "ts": ts, "cpu": ts % 2, "pid": 1, "tid": 1, "comm": f"c{ts}"} for ts in range(9)
]
EXTRA_EVENT = Event(
    "9p_stat",
    EXTRA,
    "tracepoint 9p:9p_stat",
    ("9p:9p_stat",),
    (Field("9p_stat__a", S32, "int a", "args->a"), Field("9p_stat__s", NAME, "char s[32]", "args->s")),
)


def rewritten(
    path: Path,
    change: Callable[[dict[str, Any]], Any] = lambda footer: footer,
    columns: Callable[[pa.Table], pa.Table] = lambda table: table,
) -> Path:
    """The capture with another footer or other columns."""
    footer = json.loads(pq.read_metadata(path).metadata[KEY])
    changed = change(footer)
    text = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
    table = columns(pq.read_table(path))
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({KEY: text})
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ledger = [LedgerLine("task", 0, 6, 5, 1), LedgerLine("task", 1, 4, 4, 0), LedgerLine("task", -1, 0, 0, 0, 3)]
    return write_rows(
        tmp_path / "c.parquet", ROWS, ledger=ledger, host="web-1", filter="pid 7", names={"irq": {"1": "x"}}
    )


def test_what_a_capture_says(path: Path) -> None:
    capture = Capture.open(path)
    assert (capture.rows, capture.kinds, capture.streams, capture.cpus) == (
        9, {"sched_process_exit"}, {"task"}, (0, 1),
    )  # fmt: skip
    assert (capture.start_ts, capture.end_ts, capture.complete, capture.filter) == (0, 8, True, "pid 7")
    assert capture.footer.names == {"irq": {"1": "x"}}
    assert capture.ledger_by_stream() == {"task": LedgerLine("task", -1, 10, 9, 1, 3)}
    assert capture.ledger_by_stream()["task"].residue == 0
    assert Capture.open(str(path)).files == (path.absolute(),)


def test_nothing_there(tmp_path: Path, path: Path) -> None:
    with pytest.raises(UserError, match=r"no such capture.*\n.*c\.parquet"):
        Capture.open(tmp_path / "d.parquet")
    with pytest.raises(UserError, match="no such capture"):
        Capture.open(tmp_path / "no" / "where")
    with pytest.raises(UserError, match="no such capture"):
        Capture.open(path / "below a file")
    with pytest.raises(UserError, match="cannot be read: File name too long"):
        Capture.open(tmp_path / ("x" * 300))
    (tmp_path / "e.parquet.recording").mkdir()
    with pytest.raises(UserError, match="still being recorded"):
        Capture.open(tmp_path / "e.parquet")
    with pytest.raises(UserError, match="backslash"):
        Capture.open(write_rows(tmp_path / "a\\b*.parquet", ROWS))


def test_no_permission_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refused)
    with pytest.raises(UserError, match="cannot be read: Permission denied"):
        Capture.open(path)


def test_what_is_no_capture(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="no finished segment"):
        Capture.open(tmp_path)
    with pytest.raises(CaptureError, match="not a regular file"):
        Capture.open("/dev/null")
    text = tmp_path / "t.parquet"
    text.write_text("hello")
    with pytest.raises(CaptureError, match="not a Parquet file"):
        Capture.open(text)
    pq.write_table(pa.table({"a": [1]}), text)
    with pytest.raises(CaptureError, match="no tracectl footer"):
        Capture.open(text)


def test_truncated_anywhere(path: Path) -> None:
    whole = path.read_bytes()
    for size in [*range(0, len(whole), 97), len(whole) - 1, len(whole) - 4, len(whole) - 8]:
        path.write_bytes(whole[:size])
        with pytest.raises(CaptureError, match=r"not a Parquet file|truncated or damaged"):
            Capture.open(path)


GARBAGE: tuple[bytes, ...] = (
    b"", b"{", b"[]", b"5", b"null", b'"x"', b"\xff\xfe", b"{}", b'{"major": "x"}', b'{"major": Infinity}',
    b'{"major": 1}', b"[" * 100_000,
)  # fmt: skip


@pytest.mark.parametrize("text", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_for_a_footer(path: Path, text: bytes) -> None:
    with pytest.raises(CaptureError, match="footer is damaged"):
        Capture.open(rewritten(path, lambda _: text))


EXTRA_JSON = event_to_json(EXTRA_EVENT)


@pytest.mark.parametrize(
    "wrong",
    (
        {"kinds": 5},
        {"kinds": [["x"]]},
        {"kinds": "sched"},
        {"cpus": ["0"]},
        {"start_ts": "0"},
        {"end_ts": None},
        {"end_ts": 2**63},
        {"complete": 1},
        {"ledger": 5},
        {"ledger": ["x"]},
        {"ledger": [{"stream": "task", "cpu": 0}]},
        {"ledger": [{"stream": "task", "cpu": 0, "emitted": "1", "recorded": 1, "lost": 0}]},
        {"clocks": [{"ts": "x"}]},
        {"names": {"irq": [1]}},
        {"extra_events": [{}]},
        {"extra_events": [5]},
        {"extra_events": [{**EXTRA_JSON, "kind": "lost"}]},
        {"extra_events": [{**EXTRA_JSON, "kind": 'x"; DROP'}]},
        {"extra_events": [{**EXTRA_JSON, "fields": [{"name": "a b", "type": "int32", "doc": ""}]}]},
        {"extra_events": [{**EXTRA_JSON, "fields": [{"name": "ts", "type": "string", "doc": ""}]}]},
        {"extra_events": [{**EXTRA_JSON, "fields": 3}]},
    ),
    ids=str,
)
def test_a_footer_of_wrong_types(path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(CaptureError, match="footer is damaged"):
        Capture.open(rewritten(path, lambda footer: {**footer, **wrong}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
GOOD = json.loads(Footer(["sched_switch"], [0], 0, 1, extra_events=[EXTRA_JSON]).to_json())


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), JSON), JSON)
def test_no_footer_makes_the_reader_fall_over(wrong: dict[str, Any], extra: Any) -> None:
    for data in ({**GOOD, **wrong}, {**GOOD, "extra_events": [extra]}, extra):
        try:
            footer = Footer.from_json(json.dumps(data).encode(), "here")
        except CaptureError:
            continue
        assert footer.catalogue().columns()


def test_a_newer_major_version_is_named(path: Path) -> None:
    newer = {"major": FORMAT_MAJOR + 1, "version": "9.4", "kinds": {"all": "new"}}
    with pytest.raises(CaptureError, match=rf"format {FORMAT_MAJOR + 1} \(written by tracectl 9\.4\)[^\n]*\n.*upgrade"):
        Capture.open(rewritten(path, lambda footer: {**footer, **newer}))


def test_a_newer_minor_version_is_read(path: Path) -> None:
    def newer(footer: dict[str, Any]) -> dict[str, Any]:
        footer["ledger"] = [{**line, "delayed": 4} for line in footer["ledger"]]
        fields = [{"name": "x__f", "type": "double", "doc": "later"}, {"name": "x__i", "type": "int32", "doc": "i"}]
        extra = [{"kind": "x", "stream": "later", "doc": "", "probes": [], "fields": fields, "colour": "red"}]
        return {
            **footer,
            "minor": 7,
            "mood": "good",
            "kinds": [*footer["kinds"], "gpu_submit", "x"],
            "extra_events": extra,
        }

    def columns(table: pa.Table) -> pa.Table:
        numbers = pa.array(range(len(table)), pa.int32())
        return table.append_column("gpu", numbers).append_column("x__f", numbers).append_column("x__i", numbers)

    capture = Capture.open(rewritten(path, newer, columns))
    assert (capture.footer.minor, capture.rows) == (7, 9)
    assert "gpu_submit" in capture.kinds
    assert [c.name for c in capture.catalogue.events["x"].fields] == ["x__i"]
    assert capture.streams == {"task", "later"}
    assert capture.ledger_by_stream()["task"].emitted == 10


@pytest.mark.parametrize("column", ("ts", "seq", "comm"))
def test_a_missing_column_is_named(path: Path, column: str) -> None:
    with pytest.raises(CaptureError, match=f"promises: column {column}"):
        Capture.open(rewritten(path, columns=lambda table: table.drop_columns([column])))


def test_a_column_of_a_recorded_kind_is_missed(path: Path) -> None:
    with pytest.raises(CaptureError, match="column vec"):
        Capture.open(rewritten(path, lambda footer: {**footer, "kinds": ["softirq_entry"]}))


def test_a_column_of_another_type_is_named(path: Path) -> None:
    with pytest.raises(CaptureError, match="column ts is VARCHAR, not BIGINT"):
        Capture.open(
            rewritten(
                path, columns=lambda t: t.set_column(t.schema.get_field_index("ts"), "ts", t["ts"].cast("string"))
            )
        )


def test_run_time_kinds_come_back_from_the_footer(tmp_path: Path) -> None:
    row = {"kind": "9p_stat", "ts": 5, "cpu": 0, "9p_stat__a": -3, "9p_stat__s": "größe"}
    capture = Capture.open(write_rows(tmp_path / "c.parquet", [row], extra_events=[EXTRA_JSON]))
    event = capture.catalogue.events["9p_stat"]
    assert [(c.name, c.type.arrow, c.doc) for c in event.fields] == [
        (c.name, c.type.arrow, c.doc) for c in EXTRA_EVENT.fields
    ]
    assert (event.probes, event.stream, event.doc) == (EXTRA_EVENT.probes, EXTRA, EXTRA_EVENT.doc)
    assert capture.streams == {EXTRA}
    assert set(KINDS) < set(capture.catalogue.events)
    with capture.database() as database:
        sql = f'SELECT "9p_stat__a", "9p_stat__s" FROM {source_sql(capture.files)}'
        assert database.execute(sql).rows() == [(-3, "größe")]


def test_segments_are_one_capture_whose_ledger_is_their_sum(tmp_path: Path) -> None:
    segments = SegmentWriter(tmp_path / "c.parquet", capture_schema(Catalogue(), ["sched_process_exit"]))
    for number in (1, 2, 3):
        ledger = [LedgerLine("task", 0, 10 * number, 10 * number - 1, 1)]
        if number > 1:
            ledger.append(LedgerLine("irq", 1, number, number, 0))
        segments.write({}, Footer(["sched_process_exit"], [0], 100, 100 * number, ledger=ledger, complete=False))
    capture = Capture.open(segments.directory)
    assert capture.ledger() == [LedgerLine("irq", 1, 5, 5, 0), LedgerLine("task", 0, 60, 57, 3)]
    assert (capture.start_ts, capture.end_ts, capture.complete, len(capture.files)) == (100, 300, False, 3)
    (segments.directory / "000002.parquet").write_bytes(b"PAR1")
    with pytest.raises(CaptureError, match=r"000002\.parquet is a truncated"):
        Capture.open(segments.directory)


@given(
    st.builds(
        Footer,
        kinds=st.lists(st.text()),
        cpus=st.lists(st.integers(0, 4096)),
        start_ts=st.integers(-(2**63), 2**63 - 1),
        end_ts=st.integers(-(2**63), 2**63 - 1),
        filter=st.none() | st.text(),
        command_line=st.lists(st.text()),
        ledger=st.lists(st.builds(LedgerLine, st.text(), *[st.integers(0, 2**62)] * 4)),
        late=st.booleans(),
        extra_events=st.sampled_from([[], [EXTRA_JSON]]),
    )
)
def test_footers_read_back(footer: Footer) -> None:
    assert Footer.from_json(footer.to_json(), "here") == footer


def test_widest_field_of_a_run_time_kind_keeps_its_type() -> None:
    event = Event("x", EXTRA, "d", ("a:x",), (Field("x__wide", S64, "u64 wide"),))
    entry = json.loads(json.dumps(event_to_json(event)))
    assert Footer([], [], 0, 0, extra_events=[entry]).catalogue().columns()["x__wide"].type == S64
