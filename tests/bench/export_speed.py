"""Rows per second of each export: a capture repeated to at least a million rows, each format in its own process.

PYTHONPATH=. python tests/bench/export_speed.py [CAPTURE] [--events N] [--formats perfetto,ftrace-text]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tracectl.command_export import FORMATS
from tracectl.store import checksum

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "examples" / "sample.parquet"
PER_WINDOW = 1_000_000


def repeated(source: Path, target: Path, events: int) -> int:
    """Write a capture's rows again and again, later each time, as the recorder lays them out; returns how many."""
    file = pq.ParquetFile(source)
    rows = file.read()
    # With the capture's footer, without the checksum: it is that of the other file.
    kept = {key: value for key, value in file.metadata.metadata.items() if key != checksum.KEY}
    schema = rows.schema.with_metadata(kept)
    span = pc.max(rows["ts"]).as_py() - pc.min(rows["ts"]).as_py() + 1_000
    kinds = pc.unique(rows["kind"].cast(pa.string())).to_pylist()
    copies = -(-events // rows.num_rows)
    per_window = max(1, PER_WINDOW // rows.num_rows)
    with pq.ParquetWriter(target, schema, compression="zstd", compression_level=1) as writer:
        for first in range(0, copies, per_window):
            window = pa.concat_tables(
                _moved(rows, copy * span, copy * rows.num_rows)
                for copy in range(first, min(first + per_window, copies))
            )
            for kind in kinds:
                writer.write_table(
                    window.filter(pc.equal(window["kind"].cast(pa.string()), kind)), row_group_size=122_880
                )
    return int(copies * rows.num_rows)


def _moved(rows: pa.Table, ns: int, seqs: int) -> pa.Table:
    for name, by in (("ts", ns), ("seq", seqs)):
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), pc.add(rows[name], by))
    return rows


def measure(capture: Path, form: str, target: Path) -> tuple[float, float, int]:
    """Seconds, CPU seconds and peak memory in bytes of one export."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "tracectl", "export", str(capture), "--to", form, "-o", str(target), "--force"]
    pid = os.posix_spawn(sys.executable, command, {**os.environ, "PYTHONPATH": str(ROOT)})
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{form}: exit status {status}")
    return time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("capture", nargs="?", type=Path, default=SAMPLE)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--formats", default=",".join(FORMATS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        capture, target = Path(folder) / "many.parquet", Path(folder) / "out"
        events = repeated(options.capture, capture, options.events)
        print(f"{events:,} rows\n{'format':<12} {'s':>6} {'CPU s':>6} {'rows/s':>10} {'bytes/row':>9} {'peak MB':>8}")  # noqa: T201
        for form in options.formats.split(","):
            seconds, cpu, memory = measure(capture, form, target)
            size = target.stat().st_size / events
            print(f"{form:<12} {seconds:6.2f} {cpu:6.2f} {events / seconds:10,.0f} {size:9.1f} {memory / 1e6:8.0f}")  # noqa: T201


if __name__ == "__main__":
    main()
