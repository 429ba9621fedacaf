"""Late waits for a CPU as the kernel picks them out, beside all scheduling of the same time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from common import TRACECTL, say, tracectl

# Two threads that never sleep and one that does, on one CPU.
BUSY = """
import os, time
os.sched_setaffinity(0, {0})
end = time.monotonic() + 4
for _ in range(2):
    if os.fork() == 0:
        while time.monotonic() < end: pass
        os._exit(0)
while time.monotonic() < end:
    time.sleep(0.02)
    for _ in range(2000): pass
"""

with Path("full.log").open("w") as log:
    full = subprocess.Popen([*TRACECTL, "record", "-o", "full.parquet", "-e", "sched"], stdout=log, stderr=log)
    while not list(Path("full.parquet.recording").glob("*.tail")):
        time.sleep(0.1)
    late = tracectl("record", "-o", "late.parquet", "--min-delay", "2ms", "--", sys.executable, "-c", BUSY)
    full.terminate()
    full.wait()
say(Path("full.log").read_text())
say("exit codes", full.returncode, late.returncode)
sys.exit(full.returncode or late.returncode)
