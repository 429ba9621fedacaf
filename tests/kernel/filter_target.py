"""What the filter tests record: FIFO_IN FIFO_OUT; says its threads as JSON, works when told to, says them again, ends.

Not a test. Threads ``flt:old`` are there before the recording, ``flt:new`` and a child process come during it, and
``other`` calls itself ``flt:late`` in the middle of it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

threads: dict[str, list[int]] = {}
go = threading.Event()
ready = threading.Barrier(4)


def call_myself(name: str) -> None:
    """Set the name of this thread and note its id."""
    tid = threading.get_native_id()
    Path(f"/proc/self/task/{tid}/comm").write_text(name)
    threads.setdefault(name, []).append(tid)


def work() -> None:
    """Sleep and be woken, often."""
    for _ in range(20):
        time.sleep(0.001)


def old() -> None:
    """A thread that exists before the recording."""
    call_myself("flt:old")
    ready.wait()
    go.wait()
    work()


def new() -> None:
    """A thread that begins and ends during the recording."""
    call_myself("flt:new")
    work()


def late() -> None:
    """A thread that takes a matching name during the recording."""
    call_myself("other")
    ready.wait()
    go.wait()
    work()
    call_myself("flt:late")
    work()


def main() -> None:
    """Two rounds: say who is there, wait, work."""
    call_myself("flt:main")
    running = [threading.Thread(target=target) for target in (old, old, late)]
    for thread in running:
        thread.start()
    ready.wait()
    sys.stdout.write(json.dumps(threads) + "\n")
    sys.stdout.flush()
    Path(sys.argv[1]).read_text()
    go.set()
    running += [threading.Thread(target=new) for _ in range(3)]
    for thread in running[3:]:
        thread.start()
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    threads["child"] = [child]
    work()
    for thread in running:
        thread.join()
    os.waitpid(child, 0)
    Path(sys.argv[2]).write_text(json.dumps(threads))


main()
