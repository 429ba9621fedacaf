"""How fast a big text is imported, beside the obvious reader: a regular expression per line, in one run.

    PYTHONPATH=. python tests/bench/import_speed.py [TEXT[.gz]] [--megabytes 127]

TEXT is a recorded ``perf script --ns`` or ftrace text; it is repeated with its times moved on. Printed are wall and CPU
seconds, MB/s, and the peak memory of each reader in a process of its own. The regular expressions are those of an
ordinary script: head, then one for each kind; ``rows`` stops at a list of dictionaries, ``capture`` writes them too.
"""

from __future__ import annotations

import argparse
import gzip
import multiprocessing
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tracectl.recorder.import_session import ImportOptions, import_traces
from tracectl.store.writer import write_rows

DEFAULT = Path(__file__).parents[3] / "shared" / "traces" / "local_B" / "perf.script.gz"
HEAD = re.compile(
    r"^\s*(.*?)(?:\s+|-)(-1|\d+)(?:\s+\(\s*[-\d]+\))?\s+\[(\d+)\]\s+(?:[.\w#]{4,6}\s+)?(\d+)\.(\d+):\s+(?:\w+:)?(\w+):\s?(.*)$"
)
BODIES = {
    "sched_switch": re.compile(
        r"prev_comm=(?P<comm>.*?) prev_pid=(?P<tid>\d+) prev_prio=(?P<prev_prio>-?\d+) prev_state=(?P<prev_state>\S+) "
        r"==> next_comm=(?P<next_comm>.*?) next_pid=(?P<next_tid>\d+) next_prio=(?P<next_prio>-?\d+)"
    ),
    **dict.fromkeys(
        ("sched_waking", "sched_wakeup", "sched_wakeup_new"),
        re.compile(
            r"comm=(?P<target_comm>.*?) pid=(?P<target_tid>\d+) prio=(?P<target_prio>-?\d+) "
            r"target_cpu=(?P<target_cpu>\d+)"
        ),
    ),
    **dict.fromkeys(("softirq_entry", "softirq_exit", "softirq_raise"), re.compile(r"vec=(?P<vec>\d+)")),
}


def repeated(source: Path, megabytes: int, target: Path) -> None:
    """Write the text again and again, each time some seconds later."""
    opened = gzip.open if source.suffix == ".gz" else open
    with opened(source, "rb") as file:
        text: bytes = file.read()
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith(b"#")]
    stamp = re.compile(rb"(\d+)(?=\.\d{6,9}: )")
    times = [int(found[1]) for line in (lines[0], lines[-1]) if (found := stamp.search(line))]
    step = times[-1] - times[0] + 1
    body = b"".join(lines)
    with target.open("wb") as file:
        for number in range(max(1, round(megabytes * 1e6 / len(body)))):
            file.write(stamp.sub(lambda m, shift=number * step: b"%d" % (int(m[1]) + shift), body))  # type: ignore[misc]


def rows_by_regex(path: Path) -> Iterator[dict[str, Any]]:
    """The obvious reader."""
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


def by_tracectl(source: Path, target: Path) -> int:
    """Import; returns the number of events."""
    imported = import_traces(ImportOptions((str(source),), target, force=True))
    return sum(imported.totals.events.values())


def by_regex_to_rows(source: Path, _: Path) -> int:
    """A list of dictionaries."""
    return len(list(rows_by_regex(source)))


def by_regex_to_capture(source: Path, target: Path) -> int:
    """The same as a capture."""
    rows = list(rows_by_regex(source))
    write_rows(target, rows)
    return len(rows)


def _measure(run: Callable[[Path, Path], int], source: Path, target: Path, results: Any) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    events = run(source, target)
    done = time.perf_counter() - wall, time.process_time() - cpu
    results.put((events, *done, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("text", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--megabytes", type=int, default=127)
    parser.add_argument("--folder", type=Path, help="where the big text is written; default: a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        source = Path(folder) / "big.txt"
        repeated(given.text, given.megabytes, source)
        size = source.stat().st_size / 1e6
        print(f"{given.text.name}: {size:.0f} MB")  # noqa: T201
        print(f"{'reader':<18} {'events':>9} {'wall s':>8} {'cpu s':>8} {'MB/s':>8} {'peak MB':>8} {'ratio':>6}")  # noqa: T201
        context = multiprocessing.get_context("spawn")
        first = 0.0
        for run in (by_tracectl, by_regex_to_rows, by_regex_to_capture):
            results = context.Queue()
            process = context.Process(target=_measure, args=(run, source, Path(folder) / "out.parquet", results))
            process.start()
            events, wall, cpu, peak = results.get()
            process.join()
            first = first or cpu
            print(  # noqa: T201
                f"{run.__name__:<18} {events:>9} {wall:>8.2f} {cpu:>8.2f} {size / wall:>8.1f} {peak:>8.0f} "
                f"{cpu / first:>6.1f}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
