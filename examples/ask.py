"""Asking from Python: how unevenly two workers share the connections, and what each one cost to wake.

python examples/ask.py [CAPTURE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import tracectl

SAMPLE = Path(__file__).parent / "sample.parquet"


def main(path: Path) -> None:
    """Print the share of each thread that accepts connections."""
    with tracectl.open(path) as capture:
        accepts = capture.query("accepts | count by tid, comm")
        total = sum(count for _, _, count in accepts)
        print(f"{total} connections, {accepts.qualification}")  # noqa: T201 - a program for a terminal
        for tid, comm, count in accepts:
            woken = capture.query(f"wakeups of tid {tid} by softirq net_rx | count")
            wakeups = woken.rows()[0][0]
            print(f"  {comm}: {count / total:.0%} of them, {wakeups / count:.2f} wakeups each")  # noqa: T201
            if not woken.qualification.exact:
                print(f"    its wakeups: {woken.qualification}")  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE)
