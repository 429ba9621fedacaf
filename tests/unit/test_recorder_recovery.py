"""Captures made of segments: of killed recordings, with damaged or missing segments, of running ones."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tracectl.recorder import recovery
from tracectl.recorder.recovery import recover, snapshot, tail
from tracectl.store import compaction
from tracectl.store.capture import Capture, tail_path
from tracectl.store.errors import CaptureError, UserError
from tracectl.store.events import KINDS, Catalogue
from tracectl.store.footer import Footer, LedgerLine
from tracectl.store.integrity import check
from tracectl.store.schema import capture_schema
from tracectl.store.writer import SegmentWriter, compact, table_of_rows

KIND = "sched_process_exit"
SCHEMA = capture_schema(Catalogue(), [KIND])
SECOND = 1_000_000_000


def footer(begin: int, end: int, *ledger: LedgerLine, complete: bool = True) -> Footer:
    clock = {"ts": end + 5, "boottime": end, "realtime": end}
    return Footer([KIND], [0], begin, end, ledger=list(ledger), complete=complete, clocks=[clock])


def rows(begin: int, count: int, seq: int) -> dict[str, pa.Table]:
    own = [{"ts": begin + 10 * i, "cpu": 0, "seq": seq + i, "tid": i, "comm": "x", "kind": KIND} for i in range(count)]
    return {KIND: table_of_rows(SCHEMA, KINDS[KIND], own)}


def recording(folder: Path, segments: int = 3, *, lost: int = 7, cut: bool = True) -> Path:
    """A directory of segments of one second and ten rows each; killed unless ``cut`` is false."""
    made = SegmentWriter(folder / "c.parquet", SCHEMA)
    for n in range(segments):
        line = LedgerLine("task", 0, 10, 10, 0)
        gaps, end = tail(footer(0, (n + 1) * SECOND - 1), ["task"], [LedgerLine("task", 0, lost, 0, lost)])
        made.write(
            rows(n * SECOND, 10, 10 * n + 1),
            footer(n * SECOND, (n + 1) * SECOND - 1, line),
            ({"lost": table_of_rows(SCHEMA, KINDS["lost"], gaps)}, end) if cut else None,
        )
    return made.directory


def consistent(path: Path) -> Capture:
    capture = Capture.open(path)
    with capture.database() as database:
        assert [finding for finding in check(capture, database) if not finding.ok] == []
    return capture


def kept(
    path: Path, columns: str = "ts, cpu, stream, from_ts, lost_count", kind: str = "lost"
) -> list[tuple[Any, ...]]:
    table = pq.read_table(path).to_pylist()
    names = columns.split(", ")
    return [tuple(row[name] for name in names) for row in sorted(table, key=lambda r: r["seq"]) if row["kind"] == kind]


def test_a_killed_recording_becomes_a_capture_that_says_so(tmp_path: Path) -> None:
    directory = recording(tmp_path)
    before = consistent(directory)
    made = recover(directory)
    assert made.path == tmp_path / "c.parquet"
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.parquet"]
    capture = consistent(made.path)
    assert (capture.complete, capture.start_ts, capture.end_ts) == (False, 0, 3 * SECOND - 1)
    assert capture.ledger() == before.ledger() == [LedgerLine("task", 0, 37, 30, 7)]
    end = 3 * SECOND - 1
    assert sorted(kept(made.path), key=str) == [(end + 5, 0, "task", end, 7), (end + 5, None, "task", end, None)]
    assert kept(made.path, "covered_kind, from_ts, ts", "coverage") == [(KIND, 0, end)]
    assert sorted(pq.read_table(made.path)["seq"].to_pylist()) == list(range(1, 34))


def test_the_name_of_the_capture_is_enough(tmp_path: Path) -> None:
    recording(tmp_path)
    assert recover(tmp_path / "c.parquet", tmp_path / "other.parquet").path == tmp_path / "other.parquet"
    assert consistent(tmp_path / "other.parquet").rows == 33


def test_killed_while_compacting_nothing_is_missing(tmp_path: Path) -> None:
    directory = recording(tmp_path, cut=False)
    (directory / ".tracectl-x.tmp").write_bytes(b"half a capture")
    capture = consistent(recover(directory).path)
    assert capture.complete
    assert kept(capture.path) == []
    assert not directory.exists()


@pytest.mark.parametrize("moment", ("before the segment", "before the old tail goes"))
def test_killed_between_a_tail_and_its_segment(tmp_path: Path, moment: str) -> None:
    directory = recording(tmp_path, 2)
    shutil.copy(tail_path(directory, 2), tmp_path / "old")
    (tmp_path / "other").mkdir()
    later = recording(tmp_path / "other", 3)
    (later / "000003.tail").rename(directory / "000003.tail")
    if moment == "before the old tail goes":
        (later / "000003.parquet").rename(directory / "000003.parquet")
    shutil.rmtree(tmp_path / "other")
    end = (3 if (directory / "000003.parquet").exists() else 2) * SECOND - 1
    assert consistent(directory).end_ts == end
    made = recover(directory)
    assert consistent(made.path).ledger() == [
        LedgerLine("task", 0, end // SECOND * 10 + 17, end // SECOND * 10 + 10, 7)
    ]
    assert {from_ts for (from_ts,) in kept(made.path, "from_ts")} == {end}


def test_a_damaged_last_segment_is_a_gap(tmp_path: Path) -> None:
    directory = recording(tmp_path)
    (directory / "000003.parquet").write_bytes(b"PAR1")
    made = recover(directory)
    assert kept(made.path, "from_ts, ts, lost_count")[0] == (2 * SECOND - 1, 3 * SECOND - 1, None)
    assert not consistent(made.path).complete


def test_damaged_and_missing_segments_are_gaps(tmp_path: Path) -> None:
    directory = recording(tmp_path, 5)
    (directory / "000002.parquet").unlink()
    (directory / "000004.parquet").write_bytes(b"PAR1 and nothing more")
    made = recover(directory)
    assert made.damaged == (directory / "000004.parquet",)
    assert directory.is_dir()
    holes = [(a, b) for a, b in kept(made.path, "from_ts, ts") if b < 5 * SECOND - 1]
    assert holes == [(SECOND - 1, 2 * SECOND), (3 * SECOND - 1, 4 * SECOND)]
    assert consistent(made.path).ledger() == [LedgerLine("task", 0, 37, 30, 7)]


def test_a_damaged_tail_is_declared_anew(tmp_path: Path) -> None:
    directory = recording(tmp_path)
    tail_path(directory, 3).write_bytes(b"PAR1")
    capture = consistent(recover(directory).path)
    assert not capture.complete
    assert kept(capture.path, "from_ts, lost_count") == [(3 * SECOND - 1, None)]


def test_what_cannot_be_recovered_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such directory"):
        recover(tmp_path / "nothing")
    (tmp_path / "c.parquet.recording").mkdir()
    with pytest.raises(CaptureError, match="no finished segment"):
        recover(tmp_path / "c.parquet")
    (tmp_path / "c.parquet.recording").rmdir()
    directory = recording(tmp_path)
    (tmp_path / "c.parquet").write_text("mine")
    with pytest.raises(UserError, match="exists") as refused:
        recover(directory)
    assert "--force" in refused.value.remedy
    assert (tmp_path / "c.parquet").read_text() == "mine"
    assert recover(directory, force=True).capture.rows == 33
    with pytest.raises(UserError, match="is a capture, not a directory"):
        recover(tmp_path / "c.parquet")


def test_a_running_recording_is_not_recovered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "_LAST_WORDS_SECONDS", 0.1)
    made = SegmentWriter(tmp_path / "c.parquet", SCHEMA)
    made.write(rows(0, 10, 1), footer(0, SECOND))
    with pytest.raises(UserError, match="still being recorded") as refused:
        recover(made.directory)
    assert "snapshot" in refused.value.remedy
    with pytest.raises(UserError, match="another recording is running"):
        SegmentWriter(tmp_path / "c.parquet", SCHEMA)
    del made
    with pytest.raises(UserError, match="was cut short") as refused:
        SegmentWriter(tmp_path / "c.parquet", SCHEMA)
    assert "tracectl recover" in refused.value.remedy
    assert recover(tmp_path / "c.parquet").capture.rows == 10


def test_a_snapshot_takes_the_newest_segments(tmp_path: Path) -> None:
    directory = recording(tmp_path, 5)
    capture = consistent(snapshot(directory, tmp_path / "all.parquet").path)
    assert (capture.start_ts, capture.end_ts, capture.complete) == (0, 5 * SECOND - 1, True)
    last = consistent(snapshot(directory, tmp_path / "last.parquet", last_ns=2 * SECOND).path)
    assert (last.start_ts, last.end_ts) == (3 * SECOND, 5 * SECOND - 1)
    assert last.ledger() == [LedgerLine("task", 0, 20, 20, 0)]
    assert kept(last.path, "from_ts, ts", "coverage") == [(3 * SECOND, 5 * SECOND - 1)]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["all.parquet", "c.parquet.recording", "last.parquet"]
    assert len(list(directory.iterdir())) == 6
    with pytest.raises(UserError, match="exists"):
        snapshot(directory, tmp_path / "last.parquet")


def test_a_snapshot_of_nothing(tmp_path: Path) -> None:
    made = SegmentWriter(tmp_path / "c.parquet", SCHEMA)
    with pytest.raises(CaptureError, match="no finished segment"):
        snapshot(made.directory, tmp_path / "x.parquet")


@pytest.mark.parametrize("seed", range(5))
def test_putting_in_order_holds_no_more_than_what_overlaps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    pieces: list[Any] = []
    given = []
    for n in range(60):
        own = [n * 100 + rng.randrange(150) for _ in range(20)]  # reaches into the next, and only into that
        given += own
        table = table_of_rows(
            SCHEMA, KINDS[KIND], [{"ts": ts, "cpu": 0, "seq": i, "kind": KIND} for i, ts in enumerate(sorted(own))]
        )
        made = SegmentWriter(tmp_path / f"{n}", SCHEMA)
        made.write({KIND: table}, footer(0, 1))
        pieces += made.segments if n % 2 else [{KIND: table}]
    held: list[int] = []
    plain: Callable[..., Any] = compaction._joined

    def watched(*parts: Any) -> Any:
        joined = plain(*parts)
        held.append(sum(table.num_rows for table in joined.values()))
        return joined

    monkeypatch.setattr(compaction, "_joined", watched)
    compact(tmp_path / "c.parquet", SCHEMA, pieces, footer(0, 1), renumber=True)
    made_rows = pq.read_table(tmp_path / "c.parquet").sort_by("seq")
    assert made_rows["ts"].to_pylist() == sorted(given)
    assert made_rows["seq"].to_pylist() == list(range(1, len(given) + 1))
    assert max(held) <= 60
