"""BCC's own runqslower and offwaketime at the same time as a recording, while threads compete for two CPUs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from common import TRACECTL, keep, say

AT_LEAST_US = 5000
# Four that compute, in slices with sleeps between them, for longer than a CPU is theirs alone.
LOAD = """
import time, sys
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    sum(range(30000))
    time.sleep(0.001)
"""
SECONDS = 5


def wait_for(what: str, path: Path, seconds: float = 150) -> None:
    """Until a file has content."""
    end = time.monotonic() + seconds
    while not (path.exists() and path.stat().st_size):
        if time.monotonic() > end:
            sys.exit(f"{what} did not begin")
        time.sleep(0.2)
    say(what, "begins")


def begun(name: str, *command: str | Path) -> subprocess.Popen[bytes]:
    """A tool of BCC whose output goes to NAME.txt."""
    with Path(f"{name}.txt").open("wb") as out, Path(f"{name}.err").open("wb") as error:
        return subprocess.Popen([str(word) for word in command], stdout=out, stderr=error)


slower = begun("runqslower", "/usr/sbin/runqslower-bpfcc", str(AT_LEAST_US), "-P")
wait_for("runqslower", Path("runqslower.txt"))
recorder = subprocess.Popen([*TRACECTL, "record", "-o", "peers.parquet", "-e", "sched", "--buffer", "4M"])
segments = Path("peers.parquet.recording")
while not segments.is_dir() and recorder.poll() is None:
    time.sleep(0.2)
time.sleep(1)
keep("begun", {"ns": time.monotonic_ns(), "lines": len(Path("runqslower.txt").read_text().splitlines())})
load = [subprocess.Popen([sys.executable, "-c", LOAD, str(SECONDS)]) for _ in range(4)]
codes = [process.wait() for process in load]
say("load ended", codes)
slower.terminate()  # its own handling of Ctrl-C may be lost in a callback
slower.wait(60)
time.sleep(1)
os.kill(recorder.pid, 2)
say("recorder ended with", recorder.wait(120))
for name in ("runqslower.txt", "runqslower.err"):
    say(name, Path(name).read_text()[:1500])
sys.exit(recorder.returncode)
