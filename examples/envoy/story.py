"""Who wakes Envoy's workers? A log that somebody took long ago with bpftrace becomes a capture, and answers.

python examples/envoy/story.py LOG     a log of the script ep_poll_interact (https://github.com/labilezhu/pub-diy)
python examples/envoy/story.py         the one in ../shared/traces, or one made up in the same layout
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from log import lines

ROOT = Path(os.path.relpath(Path(__file__).parents[2]))
KNOWN = ROOT / ".." / "shared" / "traces" / "pubdiy" / "ep_poll_interact.bt.log"
# What one wants to know, the question, and whether the capture can tell.
QUESTIONS = (
    ("Through which sockets were the workers woken?", "wakeups | count by tcp_state, sport", True),
    ("Who was current when they were woken?", "wakeups | count by waker_comm", True),
    (
        "Was that the cause? A packet is processed in softirq, on top of whoever runs there. The log does not tell the "
        "context, so nobody can say:",
        "wakeups by softirq",
        False,
    ),
    (
        "What it does tell: idle and ksoftirqd have no work of their own with a socket. So these came from packets, at "
        "least:",
        'wakeups by comm "swapper/*" or comm "ksoftirqd/*" | count by comm',
        True,
    ),
    (
        "The thundering herd: wakeups through one listening socket in one millisecond. Two: both workers, for one "
        "connection.",
        "wakeups where tcp_state = LISTEN | count by ts, socket, sport | top 5 by count",
        True,
    ),
    ("So many wakeups through listening sockets …", "wakeups where tcp_state = LISTEN | count by comm", True),
    ("… for so many connections:", "accepts | count", True),
    ("Who came back from epoll_wait, and how often?", "epolls | count by comm", True),
)


def tracectl(*arguments: str, fails: bool = False, most: int | None = None) -> None:
    """Run a tracectl command line, showing it first, and the first lines of what it prints.

    Raises:
        SystemExit: it did not end as it should.
    """
    say(f"\n$ tracectl {shlex.join(arguments)}")
    done = subprocess.run(
        [sys.executable, "-m", "tracectl", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )  # fmt: skip
    say("\n".join(done.stdout.splitlines()[:most]))
    if (done.returncode != 0) != fails:
        raise SystemExit(f"story: this was to {'be refused' if fails else 'work'}")


def say(text: str) -> None:
    """Print it now: child processes print too."""
    print(text, flush=True)  # noqa: T201 - this is a program for a terminal


def main(arguments: list[str]) -> int:
    """Tell the story."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(arguments[0]) if arguments else KNOWN
        if not arguments and not log.exists():
            log = Path(folder) / "made-up.log"
            log.write_text("".join(f"{line}\n" for line in lines()))
            say(f"There is no {KNOWN}: a log of the same layout is made up.")
        capture = str(Path(folder) / "envoy.parquet")
        tracectl("import", str(log), "-o", capture)
        for why, question, known in QUESTIONS:
            say(f"\n# {why}")
            tracectl("query", capture, question, fails=not known)
        woken = re.search(r"wakeupedPID=(\d+),", log.read_text(errors="replace"))
        if woken is None:
            raise SystemExit("story: nobody was woken in this log")
        say("\n# And the log again, from the capture:")
        tracectl("replay", capture, "--as", "epoll", "--", woken[1], most=12)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
