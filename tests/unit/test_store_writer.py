"""Capture files appear whole or not at all, private, compacted into homogeneous row groups in one order."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tracectl.store import compaction, writer
from tracectl.store.capture import Capture
from tracectl.store.database import source_sql
from tracectl.store.errors import CaptureError, UserError
from tracectl.store.events import Catalogue
from tracectl.store.footer import KEY, Footer
from tracectl.store.schema import ROW_GROUP_ROWS, capture_schema, table_of
from tracectl.store.writer import SegmentWriter, write_file, write_rows

KINDS = ("sched_process_exit", "softirq_entry", "sched_waking")
SCHEMA = capture_schema(Catalogue(), KINDS)


def footer(**fields: Any) -> Footer:
    return Footer(list(KINDS), [0, 1], 0, 1, **fields)


def table(kind: str, ts: list[int], seq: list[int], cpus: list[int] | None = None, **columns: Any) -> pa.Table:
    given = {
        "ts": pa.array(ts, pa.int64()),
        "seq": pa.array(seq, pa.int64()),
        "cpu": pa.array(cpus or [0] * len(ts), pa.int16()),
        "comm": pa.array([f"{kind}{t % 7}" for t in ts]).dictionary_encode(),
    }
    return table_of(SCHEMA, kind, {**given, **columns}, len(ts))


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    capture = Capture.open(path)
    with capture.database() as database:
        return database.execute(f"SELECT seq, ts, cpu, kind, comm FROM {source_sql(capture.files)} ORDER BY seq").rows()


def groups_of(path: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        yield from (file.read_row_group(group) for group in range(file.num_row_groups))


class KilledError(BaseException):
    """Not an Exception: like a signal's."""


@pytest.mark.parametrize("moment", ("open", "rows", "sync", "rename"))
def test_nothing_is_left_of_a_file_that_was_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KilledError

    def windows() -> Iterator[dict[str, pa.Table]]:
        yield {"softirq_entry": table("softirq_entry", [1], [1])}
        if moment == "rows":
            killed()

    if moment == "open":
        monkeypatch.setattr(writer, "Assembly", killed)
    if moment == "sync":
        monkeypatch.setattr(os, "fsync", killed)
    if moment == "rename":
        monkeypatch.setattr(Path, "replace", killed)
    path = tmp_path / "c.parquet"
    path.write_bytes(b"the one before")
    with pytest.raises(KilledError):
        write_file(path, SCHEMA, windows(), footer())
    assert [p.name for p in tmp_path.iterdir()] == ["c.parquet"]
    assert path.read_bytes() == b"the one before"


def test_a_directory_in_the_way_keeps_the_segments(tmp_path: Path) -> None:
    output = tmp_path / "c.parquet"
    segments = SegmentWriter(output, SCHEMA)
    segments.write({"softirq_entry": table("softirq_entry", [1], [1])}, footer())
    output.mkdir()
    with pytest.raises(OSError, match=r"directory"):
        segments.finish(footer())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.parquet", "c.parquet.recording"]
    assert len(rows_of(segments.directory)) == 1


@pytest.mark.parametrize("mask", (0o000, 0o022, 0o077))
def test_files_are_private_from_the_first_byte(tmp_path: Path, mask: int) -> None:
    modes = []

    def windows() -> Iterator[dict[str, pa.Table]]:
        modes.extend(p.stat().st_mode & 0o777 for p in tmp_path.iterdir())
        yield {}

    before = os.umask(mask)
    try:
        write_file(tmp_path / "c.parquet", SCHEMA, windows(), footer())
        segments = SegmentWriter(tmp_path / "d.parquet", SCHEMA)
        segments.write({"softirq_entry": table("softirq_entry", [1], [1])}, footer())
    finally:
        os.umask(before)
    assert modes == [0o600]
    assert (tmp_path / "c.parquet").stat().st_mode & 0o777 == 0o600
    assert segments.directory.stat().st_mode & 0o777 == 0o700
    assert [p.stat().st_mode & 0o777 for p in segments.directory.iterdir()] == [0o600]
    assert segments.finish(footer()).stat().st_mode & 0o777 == 0o600


def test_links_are_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "c.parquet").symlink_to("precious")
    write_file(tmp_path / "c.parquet", SCHEMA, [], footer())
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "c.parquet").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_belong_to_whom_they_are_recorded_for(tmp_path: Path) -> None:
    segments = SegmentWriter(tmp_path / "c.parquet", SCHEMA, (1234, 2345))
    segments.write({"softirq_entry": table("softirq_entry", [1], [1])}, footer())
    paths = [segments.directory, *segments.directory.iterdir()]
    owners = [(path.stat().st_uid, path.stat().st_gid) for path in paths]
    output = segments.finish(footer()).stat()
    assert [*owners, (output.st_uid, output.st_gid)] == [(1234, 2345)] * 3


def test_a_second_recording_to_the_same_file_is_refused(tmp_path: Path) -> None:
    segments = SegmentWriter(tmp_path / "c.parquet", SCHEMA)
    segments.write({"softirq_entry": table("softirq_entry", [1], [1])}, footer())
    with pytest.raises(UserError, match="another recording"):
        SegmentWriter(tmp_path / "c.parquet", SCHEMA)
    segments.discard_if_empty()
    assert len(rows_of(segments.directory)) == 1


def test_an_empty_recording(tmp_path: Path) -> None:
    segments = SegmentWriter(tmp_path / "c.parquet", SCHEMA)
    with pytest.raises(CaptureError, match="no finished segment"):
        Capture.open(segments.directory)
    assert rows_of(segments.finish(footer())) == []
    assert not segments.directory.exists()
    other = SegmentWriter(tmp_path / "d.parquet", SCHEMA)
    other.discard_if_empty()
    assert not other.directory.exists()


def test_names_of_any_kind(tmp_path: Path) -> None:
    for name in ("it's [a] *.parquet", "größe\n.parquet", "x" * 240, "-o"):
        segments = SegmentWriter(tmp_path / name, SCHEMA)
        segments.write({"softirq_entry": table("softirq_entry", [1], [1])}, footer())
        assert len(rows_of(segments.directory)) == 1
        assert len(rows_of(segments.finish(footer()))) == 1


def test_compaction_keeps_every_row_in_homogeneous_sorted_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "WINDOW_ROWS", 250_000)
    segments = SegmentWriter(tmp_path / "c.parquet", SCHEMA)
    seq = 0
    for _ in range(4):
        tables = {}
        for kind, count in (("softirq_entry", 90_000), ("sched_waking", 50_000), ("sched_process_exit", 3)):
            numbers = list(range(seq + 1, seq + count + 1))
            tables[kind] = table(kind, [10 * n for n in numbers], numbers)
            seq += count
        segments.write(tables, footer())
    total = segments.bytes_written
    path = segments.finish(footer())
    assert 0 < path.stat().st_size < total
    all_seq: list[int] = []
    last: dict[str, int] = {}
    counts = []
    for group in groups_of(path):
        (kind,) = set(group["kind"].to_pylist())
        numbers = group["seq"].to_pylist()
        assert numbers == sorted(numbers)
        assert numbers[0] > last.get(kind, 0)
        assert group["ts"].to_pylist() == [10 * n for n in numbers]
        assert group["comm"].to_pylist() == [f"{kind}{10 * n % 7}" for n in numbers]
        last[kind] = numbers[-1]
        counts.append(group.num_rows)
        all_seq += numbers
    assert ROW_GROUP_ROWS // 2 < max(counts) <= ROW_GROUP_ROWS
    assert counts.count(90_000) == 4  # large enough to be copied
    assert sorted(all_seq) == list(range(1, seq + 1))


def test_late_rows_get_their_place_at_compaction(tmp_path: Path) -> None:
    rng = random.Random(5)
    rows = [(rng.randrange(50), rng.randrange(3), rng.choice(KINDS)) for _ in range(600)]
    segments = SegmentWriter(tmp_path / "c.parquet", SCHEMA)
    given = []
    seq = 0
    for start in range(0, 600, 100):
        part = sorted(rows[start : start + 100], key=lambda row: row[:2])
        numbered = [(seq + i, *row) for i, row in enumerate(part, 1)]
        seq += 100
        given += numbered
        tables = {
            kind: table(
                kind,
                [ts for _, ts, _, k in numbered if k == kind],
                [n for n, _, _, k in numbered if k == kind],
                [cpu for _, _, cpu, k in numbered if k == kind],
            )
            for kind in {row[3] for row in numbered}
        }
        segments.write(tables, footer(late=start == 300))
    final = footer(late=True)
    found = rows_of(segments.finish(final))
    wanted = [(ts, cpu, kind) for _, ts, cpu, kind in sorted(given, key=lambda row: (row[1], row[2], row[0]))]
    assert [row[1:4] for row in found] == wanted
    assert [row[0] for row in found] == list(range(1, 601))
    assert all(comm == f"{kind}{ts % 7}" for _, ts, _, kind, comm in found)
    assert not Capture.open(tmp_path / "c.parquet").footer.late


def test_rows_without_a_cpu_are_ordered_too(tmp_path: Path) -> None:
    segments = SegmentWriter(tmp_path / "c.parquet", SCHEMA)
    nowhere = table("softirq_entry", [5], [2], cpu=pa.array([None], pa.int16()))
    segments.write({"sched_waking": table("sched_waking", [5, 9], [1, 3], [0, 0]), "softirq_entry": nowhere}, footer())
    segments.write({"sched_waking": table("sched_waking", [5], [4], [1])}, footer(late=True))
    found = rows_of(segments.finish(footer()))
    assert [row[:3] for row in found] == [(1, 5, None), (2, 5, 0), (3, 5, 1), (4, 9, 0)]


def test_encodings_and_compression(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    write_file(
        path, SCHEMA, [{"softirq_entry": table("softirq_entry", list(range(5000)), list(range(5000)))}], footer()
    )
    group = pq.ParquetFile(path).metadata.row_group(0)
    for index in range(group.num_columns):
        column = group.column(index)
        delta = column.path_in_schema in ("ts", "seq")
        assert ("DELTA_BINARY_PACKED" in column.encodings) == delta
        values = column.statistics.null_count < column.num_values
        assert column.has_dictionary_page == (values and not delta)
        varies = values and column.statistics.min != column.statistics.max
        assert column.compression == ("ZSTD" if varies else "UNCOMPRESSED")
        assert column.is_stats_set or column.path_in_schema not in ("ts", "seq", "kind")


def test_key_columns_are_required_and_the_footer_is_json(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "c.parquet", [{"kind": "sched_process_exit", "ts": 1, "cpu": 0}])
    schema = pq.read_schema(path)
    assert [field.name for field in schema if not field.nullable] == ["ts", "kind", "seq"]
    assert json.loads(pq.read_metadata(path).metadata[KEY])["kinds"] == ["sched_process_exit"]


def test_write_rows_orders_and_keeps_given_numbers(tmp_path: Path) -> None:
    base = {"kind": "sched_process_exit", "comm": "x"}
    rows = [{**base, "ts": ts, "cpu": cpu} for ts, cpu in ((3, 0), (1, 1), (1, 0), (2, None))]
    write_rows(tmp_path / "a.parquet", rows)
    assert [row[:3] for row in rows_of(tmp_path / "a.parquet")] == [(1, 1, 0), (2, 1, 1), (3, 2, None), (4, 3, 0)]
    write_rows(tmp_path / "b.parquet", [{**row, "seq": 10 - i} for i, row in enumerate(rows)])
    assert [row[:2] for row in rows_of(tmp_path / "b.parquet")] == [(7, 2), (8, 1), (9, 1), (10, 3)]


def test_only_what_overlaps_is_encoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segments = SegmentWriter(tmp_path / "c.parquet", SCHEMA)
    count = 70_000
    starts = (0, count, 2 * count - 5, 3 * count)  # the third begins before the second ends
    for number, start in enumerate(starts):
        ts = list(range(start, start + count))
        seq = list(range(number * count + 1, (number + 1) * count + 1))
        segments.write({"softirq_entry": table("softirq_entry", ts, seq)}, footer(late=number == 2))
    encoded = []
    plain = writer.encode
    monkeypatch.setattr(writer, "encode", lambda kind, rows: (encoded.append(rows.num_rows), plain(kind, rows))[1])
    found = rows_of(segments.finish(footer()))
    assert [row[1] for row in found] == sorted(ts for start in starts for ts in range(start, start + count))
    assert [row[0] for row in found] == list(range(1, 4 * count + 1))
    assert sum(encoded) == 2 * count
