"""The order and layout of a capture made live: total order, one kind a row group, nothing outside its coverage."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.kernel.conftest import Recorded, need, record_to
from tracectl.recorder.drain import Outcome
from tracectl.store.schema import ROW_GROUP_ROWS

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Recorded]:
    """Some seconds of two tasks that wake each other as fast as they can: several segments."""
    need(shutil.which("perf") is not None, "perf is not installed")
    path = tmp_path_factory.mktemp("busy") / "busy.parquet"
    outcome = record_to(path, "sh", "-c", "perf bench sched pipe -l 60000 >/dev/null", buffer_bytes=8 << 20)
    return outcome, Recorded(path)


def test_a_load_of_wakeups_is_recorded_whole(busy: tuple[Outcome, Recorded]) -> None:
    outcome, recorded = busy
    assert outcome.command_exit == 0
    assert [line for line in outcome.ledger if line.residue] == []
    # Each of 60,000 rounds wakes both, unless one still runs when its byte arrives.
    assert recorded.rows("SELECT COUNT(*) FROM sched_waking")[0][0] > 30_000
    assert outcome.events == recorded.rows("SELECT COUNT(*) FROM events")[0][0]


def test_seq_is_unique_and_grows_with_time_and_cpu(busy: tuple[Outcome, Recorded]) -> None:
    table = pq.read_table(busy[1].path, columns=["seq", "ts", "cpu"]).sort_by("seq")
    seq, ts = (table[name].to_numpy() for name in ("seq", "ts"))
    cpu = table["cpu"].cast(pa.int64()).fill_null(-1).to_numpy()
    assert np.array_equal(seq, np.arange(1, len(seq) + 1))
    earlier = (np.diff(ts) > 0) | ((np.diff(ts) == 0) & (np.diff(cpu) >= 0))
    assert earlier.all()


def test_each_row_group_holds_one_kind_in_order(busy: tuple[Outcome, Recorded]) -> None:
    file = pq.ParquetFile(busy[1].path)
    names = file.schema_arrow.names
    last: dict[str, int] = {}
    assert file.metadata.num_row_groups > 20
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        assert group.num_rows <= ROW_GROUP_ROWS
        kinds, seqs = (group.column(names.index(name)).statistics for name in ("kind", "seq"))
        assert kinds.min == kinds.max
        assert seqs.min > last.get(kinds.min, 0)
        last[kinds.min] = seqs.max
        own = file.read_row_group(number, columns=["seq"])["seq"].to_numpy()
        assert (np.diff(own) > 0).all()


def test_every_event_lies_inside_the_coverage(busy: tuple[Outcome, Recorded]) -> None:
    _, recorded = busy
    capture = recorded.capture
    assert recorded.rows("SELECT COUNT(*) FROM events WHERE ts > $end", end=capture.end_ts) == [(0,)]
    assert recorded.rows("SELECT COUNT(*) FROM events WHERE ts < $start", start=capture.start_ts) == [(0,)]
    covered = recorded.rows("SELECT covered_kind, from_ts, ts FROM coverage")
    assert {kind for kind, *_ in covered} == set(capture.kinds)
    assert {(begin, end) for _, begin, end in covered} == {(capture.start_ts, capture.end_ts)}


def test_the_recorder_observes_itself(busy: tuple[Outcome, Recorded]) -> None:
    outcome, recorded = busy
    both = {}
    for comm in ("tracectl", "tracectl-writer"):
        rows = recorded.rows(
            "SELECT COALESCE(events_in, events_out), cpu_time, pid, tid FROM recorder WHERE comm = $comm ORDER BY seq",
            comm=comm,
        )
        assert rows == sorted(rows)
        assert rows[-1][1] > 0
        assert len({row[2:] for row in rows}) == 1
        both[comm] = rows[-1]
    assert both["tracectl"][0] == outcome.events
    assert both["tracectl"][2] == os.getpid() != both["tracectl-writer"][2]
    assert outcome.cpu_ns > outcome.reader_cpu_ns > 0
    # The recorder's own switches can be told from others.
    seen = recorded.rows("SELECT DISTINCT pid FROM sched_switch WHERE pid IN (SELECT pid FROM recorder)")
    assert sorted(seen) == sorted((row[2],) for row in both.values())
    assert recorded.rows("SELECT COUNT(*) FROM clock WHERE ABS(boottime - ts) < 1000000000000")[0][0] >= 2


def test_the_snapshot_knows_this_thread(busy: tuple[Outcome, Recorded]) -> None:
    own = Path("/proc/self/stat").read_text().split()
    rows = busy[1].rows("SELECT comm, start_ts FROM task WHERE tid = $pid AND pid = $pid", pid=int(own[0]))
    assert len(rows) == 1
    assert f"({rows[0][0]})" == own[1]
    assert 0 < rows[0][1] < busy[1].capture.start_ts
