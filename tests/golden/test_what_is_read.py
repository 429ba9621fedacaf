"""A question reads no row group and no column that it does not need: all others may be garbage.

Everything in a capture that a question should leave alone is overwritten, and the answer must stay the same. The test
does not depend on how DuckDB shows its plans; that garbage is noticed where it is read, wider questions show each time.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from tracectl.query import ask
from tracectl.store.capture import Capture
from tracectl.store.errors import CaptureError
from tracectl.store.events import KINDS, Catalogue
from tracectl.store.footer import Footer
from tracectl.store.schema import capture_schema
from tracectl.store.writer import table_of_rows, write_file

CHOSEN = ("sched_switch", "sched_waking", "softirq_entry", "softirq_exit")
MS = 1_000_000
WINDOWS, ROUNDS = 6, 40  # a window is 10 ms and a row group of each kind
Ranges = tuple[int, int]


def one_round(window: int, number: int) -> Iterator[dict[str, Any]]:
    """A softirq wakes a thread of process 10 or 20, which runs and sleeps again."""
    ts = window * 10 * MS + number * 200_000
    cpu, tid = number % 2, 11 + number % 3 * 10
    idle: dict[str, Any] = {"cpu": cpu, "tid": 0, "pid": 0, "comm": "swapper"}
    own = {**idle, "tid": tid, "pid": tid - 1, "comm": f"worker/{tid}"}
    woken = {"target_tid": tid, "target_pid": tid - 1, "target_comm": own["comm"], "target_prio": 120}
    yield {"kind": "softirq_entry", "ts": ts, "vec": 3, **idle}
    yield {"kind": "sched_waking", "ts": ts + 10, "context": "softirq", "context_vec": 3, **woken, **idle}
    yield {"kind": "softirq_exit", "ts": ts + 20, "vec": 3, **idle}
    yield {"kind": "sched_switch", "ts": ts + 5_000 + number, "prev_state": "R", "next_tid": tid, **idle}
    yield {"kind": "sched_switch", "ts": ts + 90_000, "prev_state": "S", "next_tid": 0, **own}


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    path = tmp_path_factory.mktemp("read") / "capture.parquet"
    schema = capture_schema(Catalogue(), CHOSEN)
    windows = []
    for window in range(WINDOWS):
        rows = [row for number in range(ROUNDS) for row in one_round(window, number)]
        for seq, row in enumerate(sorted(rows, key=lambda row: int(row["ts"])), window * 1_000 + 1):
            row["seq"] = seq
        rows.sort(key=lambda row: int(row["seq"]))
        windows.append(
            {kind: table_of_rows(schema, KINDS[kind], [row for row in rows if row["kind"] == kind]) for kind in CHOSEN}
        )
    write_file(path, schema, windows, Footer(list(CHOSEN), [0, 1], 0, WINDOWS * 10 * MS, breaks_declared=True))
    return Capture.open(path)


def damage(path: Path, kinds: set[str], columns: set[str], times: Ranges | None) -> tuple[int, int]:
    """Overwrite all column chunks but these; returns how many were left, and how many were not.

    The context of wakings is always left: the first one found tells where a waker's context comes from in this capture.
    """
    metadata = pq.ParquetFile(path).metadata
    left = spoiled = 0
    with path.open("r+b") as file:
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            chunks = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
            ts = chunks["ts"].statistics
            inside = times is None or (ts.min <= times[1] and ts.max >= times[0])
            for name, chunk in chunks.items():
                kind = chunks["kind"].statistics.min
                looked_up = kind == "sched_waking" and name in ("kind", "context")
                if looked_up or (inside and name in columns and kind in kinds):
                    left += 1
                    continue
                begin = chunk.dictionary_page_offset or chunk.data_page_offset
                file.seek(begin)
                file.write(b"\xff" * chunk.total_compressed_size)
                spoiled += 1
    return left, spoiled


# The names of softirqs and irqs are joined, whether or not a question asks for them.
NAMES = "kind context context_vec"
OLD = int(duckdb.__version__.split(".")[0]) < 2
STEPS = {"kind", "ts", "seq", "tid", "pid", "next_tid", "prev_state", "target_tid", "target_pid"}


@pytest.mark.skipif(OLD, reason="DuckDB before 2.0 computes windows and joins that no column of the answer needs")
@pytest.mark.parametrize(
    ("question", "kinds", "columns", "times"),
    [
        ("wakeups | count", "sched_waking", NAMES, None),
        ("wakeups of tid 21 | count", "sched_waking", NAMES + " target_tid", None),
        ("wakeups of tid 21 by softirq | count", "sched_waking", NAMES + " target_tid", None),
        ("wakeups on cpu 1 | count by tid", "sched_waking", NAMES + " cpu target_tid", None),
        ("wakeups between 21ms and 24ms | count", "sched_waking", NAMES + " ts", (21 * MS, 24 * MS)),
        ("wakeups at 33ms ± 1ms | select ts, tid", "sched_waking", NAMES + " ts seq target_tid", (32 * MS, 34 * MS)),
        ("wakeups in last 5ms | count", "sched_waking", NAMES + " ts", (55 * MS, 60 * MS)),
        ("events sched_switch after 41ms before 42ms | count", "sched_switch", "kind ts", (41 * MS, 42 * MS)),
        ("softirqs net_rx | sum dur", "softirq_entry softirq_exit", "kind ts seq cpu vec", None),
        ("runs on cpu 0 | sum dur", "sched_switch", "kind ts seq cpu tid next_tid", None),
        ("delays of tid 21 | p99 dur", "sched_switch sched_waking", " ".join(STEPS - {"pid", "target_pid"}), None),
        ("delays of pid 20 | p99 dur", "sched_switch sched_waking", " ".join(STEPS), None),
    ],
)  # fmt: skip
def test_the_rest_may_be_garbage(  # noqa: PLR0917
    capture: Capture, tmp_path: Path, question: str, kinds: str, columns: str, times: Ranges | None
) -> None:
    whole = ask(capture, question).rows()
    assert whole and whole[0][0]
    shutil.copy(capture.path, tmp_path / "capture.parquet")
    spoilt = Capture.open(tmp_path / "capture.parquet")  # checked before it is overwritten
    left, spoiled = damage(spoilt.path, set(kinds.split()), set(columns.split()), times)
    assert 0 < left < spoiled
    assert ask(spoilt, question).rows() == whole
    with pytest.raises(CaptureError):
        ask(spoilt, "wakeups").rows()
    with pytest.raises(CaptureError):
        ask(spoilt, "switches").rows()
