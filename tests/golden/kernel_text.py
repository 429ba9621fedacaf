"""Kernel text (ftrace, ``perf script --ns``) to rows of a capture, for tests only; shares no code with the product."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEAD = re.compile(
    r"^\s*(?P<comm>.*?)(?:\s+|-)(?P<tid>-1|\d+)(?:\s+\(\s*(?P<pid>[-\d]+)\))?\s+\[(?P<cpu>\d+)\]\s+(?:(?P<flags>[.\w#]{4,6})\s+)?"
    r"(?P<s>\d+)\.(?P<f>\d+):\s+(?:\w+:)?(?P<event>\w+):\s?(?P<rest>.*)$"
)
SWITCH = re.compile(
    r"prev_comm=(.*?) prev_pid=(\d+) prev_prio=(-?\d+) prev_state=(\S+) ==> "
    r"next_comm=(.*?) next_pid=(\d+) next_prio=(-?\d+)"
)
TARGET = re.compile(r"comm=(.*?) pid=(\d+) prio=(-?\d+) target_cpu=(\d+)")
FORK = re.compile(r"child_comm=(.*?) child_pid=(\d+)")
VEC = re.compile(r"vec=(\d+)")
IRQ = re.compile(r"irq=(\d+)(?: name=(\S+))?")


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a gzipped text, in the file's order, with ``flag`` as the text's own word for the context."""
    with gzip.open(path, "rt", errors="replace") as file:
        for line in file:
            head = HEAD.match(line)
            if head:
                row = _row(head)
                if row:
                    yield row


def _row(head: re.Match[str]) -> dict[str, Any] | None:
    kind, rest = head["event"], head["rest"]
    tid = int(head["tid"])
    row: dict[str, Any] = {
        "ts": int(head["s"]) * 10**9 + int(head["f"].ljust(9, "0")),
        "kind": kind, "cpu": int(head["cpu"]), "tid": tid, "comm": head["comm"].strip(),
        "pid": int(head["pid"]) if (head["pid"] or "-").isdigit() else None,
    }  # fmt: skip
    if kind == "sched_switch":
        m = SWITCH.search(rest)
        assert m, rest
        row |= {"comm": m[1], "tid": int(m[2]), "prev_prio": int(m[3]), "prev_state": m[4]}
        row |= {"next_comm": m[5], "next_tid": int(m[6]), "next_prio": int(m[7])}
    elif kind in ("sched_waking", "sched_wakeup", "sched_wakeup_new"):
        m = TARGET.search(rest)
        assert m, rest
        row |= {"target_comm": m[1], "target_tid": int(m[2]), "target_prio": int(m[3]), "target_cpu": int(m[4])}
        if kind == "sched_waking" and head["flags"]:
            row["flag"] = head["flags"][2]
    elif kind == "sched_process_fork":
        m = FORK.search(rest)
        assert m, rest
        row |= {"child_comm": m[1], "child_tid": int(m[2])}
    elif kind in ("softirq_entry", "softirq_exit", "softirq_raise"):
        row["vec"] = int(VEC.findall(rest)[0])
    elif kind in ("irq_handler_entry", "irq_handler_exit"):
        m = IRQ.search(rest)
        assert m, rest
        row |= {"irq": int(m[1])} | ({"irq_name": m[2]} if kind.endswith("entry") else {})
    elif kind != "sched_process_exit":
        return None
    return row
