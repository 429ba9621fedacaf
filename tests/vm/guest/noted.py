"""USDT probes at all their places, the semaphore of a process that runs already, ids as a PID namespace has them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from common import PROGRAMS, TRACECTL, keep, tracectl

NOTED = PROGRAMS / "noted"
FIELDS = "a=arg0,b=arg1,c=arg2,s=arg3,beside=arg4,text:str=arg5,high=arg6,u=arg7,d=arg8,character=arg10,nothing=arg9"
INSIDE = f"""
python3 -c 'import time
while True: time.sleep(0.01)' &
echo $! > inner
{" ".join(TRACECTL)} record -o inside.parquet -d 1s --stacks sched_switch -e sched_switch -p $!
kill $!
"""

values = tracectl("record", "-o", "values.parquet", "-e", f"usdt:{NOTED}:demo:values({FIELDS})", "--", NOTED, "printed")

process = subprocess.Popen([NOTED, "guarded", "wait"], stdin=subprocess.PIPE)
wake = f"echo > /proc/{process.pid}/fd/0; while [ ! -s guarded ]; do sleep 0.1; done"
probe = f"usdt:/proc/{process.pid}/root{NOTED}:demo:gu*(i=arg0)"
guarded = tracectl("record", "-o", "guarded.parquet", "-e", probe, "--", "sh", "-c", wake)

inside = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", INSIDE], check=False)
keep("ends", [values.returncode, guarded.returncode, process.wait(60), inside.returncode])
keep("inner", int(Path("inner").read_text()))
keep("ours", os.getpid())
sys.exit(any((values.returncode, guarded.returncode, inside.returncode)))
