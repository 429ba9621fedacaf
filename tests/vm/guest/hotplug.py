"""A CPU that goes offline and comes back while tracectl records."""

from __future__ import annotations

import sys

from common import tracectl

SWITCH = "/sys/devices/system/cpu/cpu1/online"
# On CPU 1 before it goes and after it has come back.
HOTPLUG = f"""
for i in 1 2 3; do taskset -c 1 true; done
echo 0 > {SWITCH} && sleep 1 && echo 1 > {SWITCH} && for i in 1 2 3; do taskset -c 1 true; done
"""

sys.exit(tracectl("record", "-o", "gone.parquet", "-e", "sched,irq", "--", "sh", "-c", HOTPLUG).returncode)
