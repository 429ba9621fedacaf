"""The demonstration: a workload with known causes is recorded live, or a sample taken, and asked three questions.

python examples/demo.py             live as root with BCC, else on the sample capture
python examples/demo.py --sample    on the sample capture
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from tracectl.recorder.doctor import examine

HERE = Path(os.path.relpath(Path(__file__).parent))
SAMPLE = HERE / "sample.parquet"
LIVE = Path("demo.parquet")
WORKLOAD = HERE / "demo_workload.py"

# What the workload makes happen, and how it is asked for.
QUESTIONS = (
    (
        "Who was woken by the network, and in which interrupt?",
        'wakeups of comm "demo:worker_*" by softirq | count by comm, vec_name',
    ),
    ("Who wakes demo:pong?", 'wakeups of comm "demo:pong" by task | count by waker_comm'),
    ("How long did threads wait for a CPU?", 'delays of comm "demo:*" | p50, p99 dur by comm'),
)


def tracectl(*arguments: str) -> int:
    """Run a tracectl command line, showing it first; its exit code."""
    print(f"\n$ tracectl {shlex.join(arguments)}", flush=True)  # noqa: T201 - this is a program for a terminal
    return subprocess.run([sys.executable, "-m", "tracectl", *arguments], check=False).returncode


def record(target: Path) -> int:
    """Record the workload."""
    return tracectl("record", "--force", "-o", str(target), "--", "python3", str(WORKLOAD))


def can_record() -> bool:
    """Whether live recording works here; says in a line why not."""
    for check in examine():
        if check.verdict == "missing":
            why = f"{check.name}: {check.detail}"
            print(f"tracectl: no live recording here ({why}): asking the sample capture", flush=True)  # noqa: T201
            return False
    return True


def ask(capture: Path) -> int:
    """Ask the three questions; the first exit code that is not zero."""
    for why, question in QUESTIONS:
        print(f"\n# {why}", end="", flush=True)  # noqa: T201
        if code := tracectl("query", str(capture), question):
            return code
    return 0


def main(arguments: list[str]) -> int:
    """Run the demonstration; exit code 0 when all of it worked."""
    match arguments:
        case ["--sample"]:
            capture = SAMPLE
        case _ if can_record():
            if code := record(LIVE):
                return code
            capture = LIVE
        case _:
            capture = SAMPLE
    code = ask(capture)
    print("\ntracectl: the demo failed" if code else f"\ntracectl: demo done; ask more of {capture}")  # noqa: T201
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
