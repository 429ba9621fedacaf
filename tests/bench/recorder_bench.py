"""The recorder beside its peers, in one run on one machine: cost, loss, rate, slow-down, bytes, memory, first answer.

sudo PYTHONPATH=. python tests/bench/recorder_bench.py [--rounds N] [--calls N] [--json FILE]

Writes tests/bench/results/recorder.json and the table in docs/performance.md. Everything else on the machine disturbs
all tools alike: figures are medians, to be read as ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.performance_page import write_page
from tests.bench.recorder_answers import answers, asked
from tests.bench.recorder_peers import Peer, peers, start

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results" / "recorder.json"
Figures = dict[str, Any]

# Bursts of getppid() at the start of each millisecond, so many a second; prints how many in all.
PACED = """
import os, sys, time
rate, seconds = float(sys.argv[1]), float(sys.argv[2])
call, clock = os.getppid, time.perf_counter
begin = clock(); done = 0
while (gone := clock() - begin) < seconds:
    for _ in range(int(gone * rate) - done): call()
    done = max(done, int(gone * rate))
    time.sleep(0.001)
print(done)
"""


def say(text: str) -> None:
    """Tell how it goes."""
    print(text, flush=True)  # noqa: T201


def storm(calls: int) -> float:
    """Two writers of single bytes, each ``calls`` reads and writes; returns seconds."""
    begin = time.monotonic()
    command = ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", f"count={calls}"]
    both = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(2)]
    for one in both:
        one.wait()
    return time.monotonic() - begin


def idle_cpu(peer: Peer, folder: Path) -> float:
    """CPU seconds of stopping a tool that had nothing to do."""
    started = start(peer, folder)
    time.sleep(0.5)
    cpu, _, _ = started.stop()
    return cpu


def measure(peer: Peer, folder: Path, calls: int, idle: float) -> Figures:
    """One storm under one tool."""
    started = start(peer, folder)
    seconds = storm(calls)
    cpu, stop_seconds, said = started.stop()
    events = 4 * calls  # two writers, a read and a write each; what dd calls besides is some dozens
    seen = min(peer.count(started.out, said), events)
    size = started.out.stat().st_size if started.out.exists() else 0
    return {
        "seconds": seconds, "cpu": max(cpu - idle, 0.0), "events": events, "seen": seen, "lost": 1 - seen / events,
        "bytes": size, "bytes_per_event": size / max(seen, 1),
        "cpu_ns_per_event": max(cpu - idle, 0.0) * 1e9 / max(seen, 1),
        "stop_seconds": stop_seconds, "reading_ns_per_event": _reading(said) / max(seen, 1), "rate": events / seconds,
    }  # fmt: skip


def _reading(said: str) -> float:
    """Nanoseconds of CPU that tracectl says its reading process used; 0 for other tools."""
    found = re.search(r"\(([0-9.]+)(us|ms|s) of it reading\)", said)
    return float(found[1]) * {"us": 1e3, "ms": 1e6, "s": 1e9}[found[2]] if found else 0.0


def storms(tools: list[Peer], folder: Path, rounds: int, calls: int) -> dict[str, Figures]:
    """Each tool in each round, in turn; medians."""
    idle = {tool.name: median(idle_cpu(tool, folder) for _ in range(2)) for tool in tools}
    runs: dict[str, list[Figures]] = {tool.name: [] for tool in tools}
    plain = []
    for number in range(rounds):
        plain.append(storm(calls))
        for tool in tools:
            runs[tool.name].append(measure(tool, folder, calls, idle[tool.name]))
            latest = runs[tool.name][-1]
            say(f"round {number}: {tool.name}: {latest['seconds']:.2f}s lost {latest['lost']:.2%}")
    figures = {name: {key: median(run[key] for run in of) for key in of[0]} for name, of in runs.items()}
    for name, own in figures.items():
        own["slowdown"] = own["seconds"] / median(plain)
        own["worst_lost"] = max(run["lost"] for run in runs[name])
    return figures | {"none": {"seconds": median(plain), "slowdown": 1.0}}


def ramp(tool: Peer, folder: Path) -> list[Figures]:
    """Rates of system calls and what was lost, until two rates in a row lose something."""
    found: list[Figures] = []
    for rate in (25_000, 50_000, 100_000, 200_000, 400_000, 800_000, 1_200_000, 1_600_000, 2_400_000, 3_200_000):
        started = start(tool, folder)
        command = [sys.executable, "-c", PACED, str(rate / 2), "3"]
        begin = time.monotonic()
        both = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
        calls = sum(int(one.communicate()[0]) for one in both)
        seconds = time.monotonic() - begin
        _, _, said = started.stop()
        seen = _getppids(tool.name, started.out)
        found.append({"asked": rate, "rate": calls / seconds, "lost": max(1 - seen / calls, 0.0)})
        say(f"{tool.name}: {found[-1]} {said[-200:] if seen < calls else ''}")
        if len(found) > 1 and min(found[-1]["lost"], found[-2]["lost"]) > 0:
            break
        if found[-1]["rate"] < 0.6 * rate:
            break  # the machine cannot call faster
    return found


def _getppids(name: str, out: Path) -> int:
    if name == "tracectl":
        return int(asked(out, "events sys_enter where id = 110 | count").splitlines()[1].split(",")[0])
    done = subprocess.run(["perf", "script", "-F", "trace", "-i", str(out)], capture_output=True, check=False)
    return done.stdout.count(b"NR 110 ")


def memory_and_first_answer(tool: Peer, folder: Path, calls: int) -> Figures:
    """The largest memory of both processes in a storm of ``4 * calls`` events, and how long until it can be asked."""
    started = start(tool, folder)
    command = ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", f"count={calls}"]
    both = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(2)]
    rss = pss = 0
    while any(one.poll() is None for one in both):
        sizes = [_memory(pid) for pid in (started.process.pid, *_children(started.process.pid))]
        rss, pss = max(rss, sum(size[0] for size in sizes)), max(pss, sum(size[1] for size in sizes))
        time.sleep(0.1)
    _, stop_seconds, _ = started.stop()
    begin = time.monotonic()
    seen = int(asked(started.out, "events sys_enter of comm dd | count").splitlines()[1].split(",")[0])
    return {
        "events": seen, "rss_mib": rss / 1024, "pss_mib": pss / 1024, "stop_seconds": stop_seconds,
        "query_seconds": time.monotonic() - begin,
    }  # fmt: skip


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _memory(pid: int) -> tuple[int, int]:
    """(RSS, PSS) in KiB; PSS counts what both processes share once."""
    found = {"Rss:": 0, "Pss:": 0}
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, value, *_ = line.split()
            if name in found:
                found[name] = int(value)
    return found["Rss:"], found["Pss:"]


def main() -> None:
    """Measure, keep, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=500_000, help="reads and writes of each of two writers")
    parser.add_argument(
        "--loops", type=int, nargs="+", default=[2_400_000, 24_000_000], help="times that two tasks wake each other"
    )
    parser.add_argument("--large", type=int, default=2_500_000, help="the same, for memory and the first answer")
    parser.add_argument("--json", type=Path, default=RESULTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tracectl-bench-") as place:
        folder = Path(place)
        tools = peers(folder)
        by_name = {tool.name: tool for tool in tools}
        found: Figures = {
            "machine": {"kernel": platform.release(), "cpus": os.cpu_count(), "load": os.getloadavg()[0]},
            "rounds": given.rounds,
            "storm": storms(tools, folder, given.rounds, given.calls),
            "answers": [answers(folder, loops) for loops in given.loops],
            "large": memory_and_first_answer(by_name["tracectl"], folder, given.large),
            "ramp": {name: ramp(by_name[name], folder) for name in ("tracectl", "perf")},
        }
    given.json.parent.mkdir(exist_ok=True)
    given.json.write_text(json.dumps(found, indent=1) + "\n")
    write_page(found)
    say(f"kept in {given.json}; the table is in docs/performance.md")


if __name__ == "__main__":
    main()
