"""A known workload recorded in full, and once more with rings far too small for it."""

from __future__ import annotations

import sys
from pathlib import Path

from common import say, tracectl

WORKLOAD = Path(__file__).with_name("workload.py")
# A switch and a waking for each byte, as fast as it goes, while nobody empties the rings.
FLOOD = """
import os
(a, b), (c, d) = os.pipe(), os.pipe()
if os.fork() == 0:
    for _ in range(6000): os.write(d, os.read(a, 1))
    os._exit(0)
for _ in range(6000): os.write(b, b"x"); os.read(c, 1)
"""

done = tracectl("doctor")
full = tracectl("record", "-o", "full.parquet", "--", sys.executable, WORKLOAD, "truth.json")
small = tracectl("record", "-o", "small.parquet", "-e", "sched", "--buffer", "32K", "--", sys.executable, "-c", FLOOD)
say("exit codes", done.returncode, full.returncode, small.returncode)
sys.exit(any(ran.returncode for ran in (done, full, small)))
