"""BCC's own offwaketime at the same time as a recording of the same waits, and what tracectl prints in its layout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from common import PROGRAMS, TRACECTL, keep, say, tracectl

ROUNDS = 25
BEGIN_S = 200
OPTIONS = ("-f", "-d")

waits = subprocess.Popen([PROGRAMS / "waits", str(ROUNDS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
assert waits.stdin and waits.stdout
pid = waits.stdout.readline().strip()
keep("pid", int(pid))
with Path("theirs.txt").open("wb") as out, Path("theirs.err").open("wb") as error:
    theirs = subprocess.Popen(["/usr/sbin/offwaketime-bpfcc", *OPTIONS, "-p", pid], stdout=out, stderr=error)


def attached() -> bool:
    """Its last probe is in: the one on try_to_wake_up comes second."""
    probes = Path("/sys/kernel/debug/kprobes/list").read_text()
    return "try_to_wake_up" in probes and "finish_task_switch" in probes


end = time.monotonic() + BEGIN_S
while not attached():
    if time.monotonic() > end or theirs.poll() is not None:
        sys.exit(f"offwaketime did not begin: {Path('theirs.err').read_text()}")
    time.sleep(0.5)
say("offwaketime began")
recorder = subprocess.Popen([*TRACECTL, "record", "-o", "ours.parquet", "--profile", "offwake", "-p", pid])
while not Path("ours.parquet.recording").is_dir() and recorder.poll() is None:
    time.sleep(0.2)
time.sleep(2)
waits.stdin.write("go\n")
waits.stdin.flush()
say("waits", waits.stdout.readline())
theirs.send_signal(signal.SIGINT)
os.kill(recorder.pid, signal.SIGINT)
say("ended with", theirs.wait(60), recorder.wait(120))
waits.stdin.close()
waits.wait(10)
ours = tracectl("replay", "ours.parquet", "--as", "offwaketime", "--", *OPTIONS, "-p", pid)
Path("ours.txt").write_text(ours.stdout)
say(Path("theirs.err").read_text()[-1000:])
sys.exit(theirs.returncode or recorder.returncode or ours.returncode)
