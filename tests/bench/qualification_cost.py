"""What qualification costs: questions of a capture of ten million events, without loss and with 1,000 gaps.

``python tests/bench/qualification_cost.py [EVENTS [GAPS [TIMES]]]``; the target is a ratio of at most 1.3.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracectl.query import ask
from tracectl.store.capture import Capture
from tracectl.store.events import Catalogue
from tracectl.store.footer import Footer
from tracectl.store.schema import capture_schema, table_of
from tracectl.store.writer import write_file

CPUS, THREADS, STEP = 4, 500, 2_000  # ns between the events of one CPU
KINDS = ("sched_switch", "sched_waking")
QUESTIONS = ("delays | p99 dur", "runs | sum dur by comm", "wakeups by softirq | count")
_WINDOW = 300_000  # cycles
Ints = npt.NDArray[np.int64]


def windows(cycles: int, schema: pa.Schema, gaps: int) -> Iterator[dict[str, pa.Table]]:
    """Cycles of waking, switch-in and switch-out on CPUs in turn; in the first window also the gaps."""
    for first in range(0, cycles, _WINDOW):
        n = np.arange(first, min(first + _WINDOW, cycles))
        tables = {
            "sched_waking": _waking(n, schema),
            "sched_switch": _switches(n, schema),
        }
        if first == 0 and gaps:
            tables["lost"] = _lost(cycles, gaps, schema)
        yield tables


def _times(cycle: Ints, phase: int) -> tuple[Ints, Ints]:
    """(ts, seq) of a cycle's event: all CPUs have their n-th cycle at about the same time."""
    ts = 1_000_000 + (cycle // CPUS) * 3 * STEP + phase * STEP + cycle % CPUS
    return ts, (cycle // CPUS) * 3 * CPUS + phase * CPUS + cycle % CPUS + 1


def _names(tid: Ints) -> pa.Array:
    return pa.array([f"worker_{t % 50}" if t else "swapper" for t in range(THREADS + 1)]).take(pa.array(tid))


def _thread(cycle: Ints) -> Ints:
    return 1 + (cycle * 7) % THREADS


def _waking(n: Ints, schema: pa.Schema) -> pa.Table:
    ts, seq = _times(n, 0)
    tid = _thread(n)
    softirq = n % 3 == 0
    columns = {
        "ts": ts, "seq": seq, "cpu": n % CPUS, "tid": 0 * n, "pid": 0 * n, "comm": _names(0 * n), "target_tid": tid,
        "target_pid": tid, "target_comm": _names(tid), "target_prio": 0 * n + 120, "target_cpu": n % CPUS,
        "context": pa.array(np.where(softirq, "softirq", "task")), "context_vec": pa.array(np.where(softirq, 3, 0)),
    }  # fmt: skip
    return _table(schema, "sched_waking", columns, len(n))


def _switches(n: Ints, schema: pa.Schema) -> pa.Table:
    tid = _thread(n)
    (in_ts, in_seq), (out_ts, out_seq) = _times(n, 1), _times(n, 2)
    order = np.argsort(np.concatenate([in_seq, out_seq]), kind="stable")

    def both(one: Ints, other: Ints) -> Ints:
        return np.concatenate([one, other])[order]

    left, came = both(0 * tid, tid), both(tid, 0 * tid)
    columns = {
        "ts": both(in_ts, out_ts), "seq": both(in_seq, out_seq), "cpu": both(n % CPUS, n % CPUS), "tid": left,
        "pid": left, "comm": _names(left), "prev_prio": 0 * left + 120,
        "prev_state": pa.array(np.where(left > 0, "S", "R")),
        "next_tid": came, "next_prio": 0 * came + 120, "next_comm": _names(came),
    }  # fmt: skip
    return _table(schema, "sched_switch", columns, len(order))


def _lost(cycles: int, gaps: int, schema: pa.Schema) -> pa.Table:
    at = np.sort(np.random.default_rng(1).choice(cycles // CPUS - 2, gaps, replace=False)) * CPUS
    cpu = np.arange(gaps) % CPUS
    begin, _ = _times(at + cpu, 0)
    columns = {
        "ts": begin + STEP, "seq": 10**12 + np.arange(gaps), "cpu": cpu, "from_ts": begin, "lost_count": 0 * at + 3,
        "stream": pa.array(["sched"] * gaps), "cause": pa.array(["ring_full"] * gaps),
    }  # fmt: skip
    return _table(schema, "lost", columns, gaps)


def _table(schema: pa.Schema, kind: str, columns: dict[str, pa.Array | Ints], rows: int) -> pa.Table:
    made = {name: pa.array(values).cast(_plain(schema.field(name).type)) for name, values in columns.items()}
    return table_of(schema, kind, made, rows)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def write(path: Path, events: int, gaps: int) -> Capture:
    """A capture of about so many events."""
    cycles = events // 3
    schema = capture_schema(Catalogue(), KINDS)
    end, _ = _times(np.array([cycles]), 2)
    footer = Footer(list(KINDS), list(range(CPUS)), 0, int(end[0]), breaks_declared=True)
    write_file(path, schema, windows(cycles, schema, gaps), footer)
    return Capture.open(path)


def seconds(capture: Capture, question: str, times: int) -> float:
    """Median time of an answer."""
    taken = []
    for _ in range(times):
        with capture.database() as database:
            begin = time.perf_counter()
            ask(capture, question, database=database).rows()
            taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def main(events: str = "10000000", gaps: str = "1000", times: str = "5") -> None:
    """Print a line per question."""
    with tempfile.TemporaryDirectory() as folder:
        whole = write(Path(folder) / "whole.parquet", int(events), 0)
        lossy = write(Path(folder) / "lossy.parquet", int(events), int(gaps))
        sys.stdout.write(f"{whole.rows:,} events; {gaps} gaps; median of {times}\n")
        for question in QUESTIONS:
            without, with_gaps = (seconds(capture, question, int(times)) for capture in (whole, lossy))
            line = (
                f"{question:28} {without:6.2f} s without, {with_gaps:6.2f} s with gaps: ratio {with_gaps / without:.2f}"
            )
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
