"""An overloaded recording and a roomy one of the same moment: what the first calls certain, the second saw as well."""

from __future__ import annotations

import os
import signal
import statistics
import sys

import pytest

from tests.kernel.conftest import Recorded, Running, record_to
from tracectl.recorder.ring import PAGE_SIZE
from tracectl.store.capture import Capture

pytestmark = pytest.mark.kernel

# Two pairs of threads that hand a byte to and fro: a switch and a waking each time.
PING_PONG = """
import os, threading
def pair(count):
    (a, b), (c, d) = os.pipe(), os.pipe()
    if os.fork() == 0:
        for _ in range(count):
            os.write(d, os.read(a, 1))
        os._exit(0)
    for _ in range(count):
        os.write(b, b"x"); os.read(c, 1)
threads = [threading.Thread(target=pair, args=(20000,)) for _ in range(2)]
[t.start() for t in threads]; [t.join() for t in threads]
"""
# Relation -> what must be equal, and what may differ by the time between two programs at one tracepoint.
KEYS = {
    "runs": ("cpu, tid, end_state", "end_ts"),
    "delays": ("tid, cause, cpu, prev_tid", "end_ts"),
    "sleeps": ("tid, cpu, state, waker_tid, context, end_cpu", "end_ts"),
    "softirqs": ("cpu, vec, tid", "end_ts"),
    "wakeups": ("cpu, tid, waker_tid, context", "ts"),
}
NEAR = 2_000  # ns
FAR = 1_000_000  # a machine that stands still between the two programs, as virtual ones do


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recorded, Recorded]:
    """(overloaded, roomy), the second covering the first."""
    folder = tmp_path_factory.mktemp("live")
    with Running(folder / "roomy.parquet", "-e", "sched,irq", "--buffer", "64MiB") as roomy:
        roomy.started()
        roomy.first_segment()
        outcome = record_to(
            folder / "small.parquet",
            sys.executable,
            "-c",
            PING_PONG,
            events=("sched", "irq"),
            buffer_bytes=8 * PAGE_SIZE,
        )
        os.kill(roomy.process.pid, signal.SIGINT)
        code, said = roomy.end()
    assert outcome.lost > 0
    assert (folder / "roomy.parquet").exists(), (code, said)
    return Recorded(outcome.path), Recorded(folder / "roomy.parquet")


@pytest.mark.parametrize("relation", KEYS)
def test_certain_rows_were_seen_by_the_other(both: tuple[Recorded, Recorded], relation: str) -> None:
    small, roomy = both
    keys, end = KEYS[relation]
    assert not [line for line in Capture.open(roomy.path).ledger() if line.lost], "the roomy one lost something too"
    sql = f"SELECT ts, {end} AS end_ts, tid AS thread, certain, {keys} FROM {relation}"
    roomy.database.connection.register("mine", small.database.execute(f"{sql} WHERE certain").arrow())
    roomy.database.connection.register("theirs", roomy.database.execute(sql).arrow())
    same = " AND ".join(f"mine.{key} IS NOT DISTINCT FROM theirs.{key}" for key in keys.split(", "))
    # What the machine hides (Recorded.hidden) the other may have missed earlier: it has the row, and is not certain.
    distances = roomy.rows(
        "SELECT mine.ts, MIN(GREATEST(ABS(mine.ts - theirs.ts), COALESCE(ABS(mine.end_ts - theirs.end_ts), 0))) "
        "FROM mine LEFT JOIN theirs ON mine.thread = theirs.thread "
        f"AND theirs.ts BETWEEN mine.ts - {FAR} AND mine.ts + {FAR} "
        f"AND (NOT theirs.certain OR ({same})) GROUP BY ALL"
    )
    assert len(distances) > 100
    absent = [ts for ts, distance in distances if distance is None or distance > FAR]
    assert absent == []
    assert statistics.median(distance for _, distance in distances if distance is not None) <= NEAR


def test_something_was_uncertain(both: tuple[Recorded, Recorded]) -> None:
    small, _ = both
    assert small.rows("SELECT COUNT(*) FILTER (NOT certain) > 0 FROM runs") == [(True,)]
