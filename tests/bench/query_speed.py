"""How fast questions are on millions of scheduler events, beside SQL written by hand on the same file.

``query_speed.py [MILLIONS [ROUNDS]]`` makes a capture (eight CPUs, 400 threads, each woken by a softirq, run, asleep)
and prints a table for docs/performance.md: medians of wall and CPU time, warm, in 4 GiB and two threads.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracectl.query import ask
from tracectl.store.capture import Capture
from tracectl.store.database import Database, source_sql
from tracectl.store.events import KINDS, Catalogue
from tracectl.store.footer import Footer
from tracectl.store.schema import capture_schema, table_of
from tracectl.store.writer import write_file

CPUS, THREADS = 8, 50  # threads of each CPU
WINDOW = 1_200_000
SPACING = 1_000  # ns between two events
START = 1_000_000_000_000
TID, PID = 1017, 1000
Ints = npt.NDArray[np.int64]
WAKEUPS = f"wakeups of tid {TID} by softirq"
DELAYS = f"delays of pid {PID} | p99 dur"
# What somebody who knows the capture would type: no loss, no certainty, each wait begins at a waking here.
BY_HAND = {
    WAKEUPS: f"""
        SELECT seq, ts, target_tid, target_comm, tid, pid, comm, context, context_vec, cpu, target_prio, target_cpu
        FROM {{source}} WHERE kind = 'sched_waking' AND target_tid = {TID} AND context = 'softirq' ORDER BY seq""",
    DELAYS: f"""
        WITH waits AS (
            SELECT seq, ts, target_tid AS tid, target_pid AS pid FROM {{source}}
            WHERE kind = 'sched_waking' AND target_pid = {PID}
        ), ins AS (SELECT seq, ts, next_tid AS tid FROM {{source}} WHERE kind = 'sched_switch' AND next_tid <> 0)
        SELECT PERCENTILE_DISC(0.99) WITHIN GROUP (ORDER BY ins.ts - waits.ts)
        FROM waits ASOF JOIN ins ON ins.tid = waits.tid AND waits.seq <= ins.seq""",
}


def windows(events: int) -> Iterator[dict[str, pa.Table]]:
    """The capture's rows: on every CPU in turn a thread is woken, gets the CPU, and sleeps again."""
    schema = capture_schema(Catalogue(), ("sched_switch", "sched_waking"))
    chance = np.random.default_rng(1)
    for first in range(0, events, WINDOW):
        number = np.arange(first, min(first + WINDOW, events), dtype=np.int64)
        cpu, phase = number % CPUS, number // CPUS % 3
        mixed = (number // (CPUS * 3) * CPUS + cpu) * 2_654_435_761
        tid = 1_000 + cpu * THREADS + (mixed >> 13 ^ mixed >> 31) % THREADS
        ts = START + number * SPACING + chance.integers(0, SPACING, len(number))
        yield {
            "sched_waking": _table(schema, "sched_waking", number, ts, cpu, tid, phase == 0),
            "sched_switch": _table(schema, "sched_switch", number, ts, cpu, tid, phase > 0),
        }


def _table(  # noqa: PLR0917
    schema: pa.Schema, kind: str, number: Ints, ts: Ints, cpu: Ints, tid: Ints, chosen: Ints
) -> pa.Table:  # fmt: skip
    number, ts, cpu, tid = number[chosen], ts[chosen], cpu[chosen], tid[chosen]
    into = number // CPUS % 3 == 1
    idle = into | (kind == "sched_waking")
    none = np.zeros(len(tid), dtype=np.int64)
    values = {
        "seq": number + 1, "ts": ts, "cpu": cpu,
        "tid": np.where(idle, 0, tid), "pid": np.where(idle, 0, _pid(tid)), "comm": _name(np.where(idle, 0, tid)),
    }  # fmt: skip
    if kind == "sched_waking":
        values |= {
            "target_tid": tid, "target_pid": _pid(tid), "target_comm": _name(tid), "target_prio": none + 120,
            "target_cpu": cpu, "context_vec": none + 3,
            "context": pa.DictionaryArray.from_arrays(pa.array(none, pa.int32()), pa.array(["softirq"])),
        }  # fmt: skip
    else:
        states = pa.array(["R", "S"])
        values |= {
            "prev_state": pa.DictionaryArray.from_arrays(pa.array(np.where(into, 0, 1), pa.int32()), states),
            "next_tid": np.where(into, tid, 0), "next_comm": _name(np.where(into, tid, 0)),
            "prev_prio": none + 120, "next_prio": none + 120,
        }  # fmt: skip
    known = {column.name for column in KINDS[kind].columns}
    arrays = {
        name: value if isinstance(value, pa.DictionaryArray) else pa.array(value, schema.field(name).type)
        for name, value in values.items()
        if name in known and name in schema.names
    }
    return table_of(schema, kind, arrays, len(number))


def _pid(tid: Ints) -> Ints:
    return tid - tid % THREADS


def _name(tid: Ints) -> pa.DictionaryArray:
    names = ["swapper", *(f"worker/{n}" for n in range(THREADS))]
    return pa.DictionaryArray.from_arrays(
        pa.array(np.where(tid == 0, 0, tid % THREADS + 1), pa.int32()), pa.array(names)
    )


def make(path: Path, events: int) -> None:
    """Write the capture."""
    kinds = ["sched_switch", "sched_waking"]
    footer = Footer(kinds, list(range(CPUS)), START, START + events * SPACING, breaks_declared=True)
    write_file(path, capture_schema(Catalogue(), kinds), windows(events), footer)


def measured(rounds: int, run: Callable[[], object]) -> tuple[float, float]:
    """Medians of wall and CPU seconds, after one round to warm up."""
    walls, cpus = [], []
    for _ in range(rounds + 1):
        wall, cpu = time.monotonic(), time.process_time()
        run()
        walls.append(time.monotonic() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls[1:]), statistics.median(cpus[1:])


def main(millions: str = "10", rounds: str = "3") -> int:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.parquet"
        make(path, int(float(millions) * 1_000_000))
        lines = [f"{millions} million events, {path.stat().st_size / 1e6:.0f} MB", ""]
        lines += [
            "| question | wall s | CPU s | by hand, wall s | CPU s | CPU, ratio |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        opening = measured(int(rounds), lambda: Capture.open(path))
        capture = Capture.open(path)
        with Database(capture.files, "4GiB", 2) as database:
            for question, sql in BY_HAND.items():
                text = sql.format(source=source_sql(capture.files))
                answer = measured(int(rounds), lambda q=question: ask(capture, q, database=database).rows())
                hand = measured(int(rounds), lambda t=text: database.execute(t).rows())
                lines.append(
                    f"| `{question.replace('|', chr(92) + '|')}` | {answer[0]:.2f} | {answer[1]:.2f} | {hand[0]:.2f} "
                    f"| {hand[1]:.2f} | {answer[1] / hand[1]:.2f} |"
                )
        lines.append(f"| open (with the checksum) | {opening[0]:.2f} | {opening[1]:.2f} | | | |")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
