"""The log of the bpftrace script ep_poll_interact: who woke an epoll worker, through which socket, what it did then.

https://github.com/labilezhu/pub-diy. Its times are whole milliseconds since the script began; lines without a time of
their own (accept, close) get that of the line before, and no thread. Nothing in it tells the context of a wakeup.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tracectl.recorder.import_spool import LONGEST_UNPARSED
from tracectl.store.events import TCP_STATES

_MS = 1_000_000
_IPV4 = 2
_LINE = re.compile(
    r"\*\*\*waker: elapsed=(?P<waker>\d{1,12}) +tid=(?P<tid>\d{1,9}),comm=(?P<comm>.{0,15}): ep_poll_callback: "
    r"fd=(?P<fd>\d{1,9}), +(?P<saddr>[\d.]+):(?P<sport>\d+) +(?P<daddr>[\d.]+):(?P<dport>\d+) +(?P<state>\w+) "
    r"socket=(?P<socket>0x[0-9a-f]{1,16})"
    r"|try_to_wake_up: wakeupedPID=(?P<target_pid>\d{1,9}), wakeupedTID=(?P<target_tid>\d{1,9}), "
    r"wakeupedTIDComm=(?P<target_comm>.{0,15})"
    r"|\*\*\*sleeper-wakeup: elapsed=(?P<sleeper>\d{1,12}) *, pid=(?P<spid>\d{1,9}), tid=(?P<stid>\d{1,9}),"
    r"comm=(?P<scomm>.{0,15}), event_count=(?P<events>\d{1,9})"
    r"|\*{5} elapsed=(?P<fired>\d{1,12}) *: tid=(?P<ftid>\d{1,9}),comm=(?P<fcomm>.{0,15}): BEGIN:EventFired:.*"
    r"|FileEventImpl\*=(?P<object>0x[0-9a-f]+), fd=(?P<ffd>\d{1,9}), events=(?P<bits>0x[0-9a-f]+)"
    r"|(?:inet_csk_accept: (?P<peer>[\d.]+) +(?P<peer_port>\d+) +(?P<local>[\d.]+) +(?P<local_port>\d+) *)?"
    r"(?:sys_exit_accept4 fd=(?P<accepted>\d{1,9}))?"
    r"|close fd=(?P<closed>\d{1,9})"
)
_NOT_EVENTS = re.compile(r"-+|libevent: \w+|Attaching \d+ probes\.\.\.|Tracing .*|DEBUG: .*|@.*")
_MARKS = re.compile(rb"^\s*\*\*\*(?:waker|sleeper-wakeup): elapsed=\d+ ", re.MULTILINE)


def is_epoll_log(head: bytes) -> bool:
    """Whether a text is such a log."""
    return _MARKS.search(head) is not None


class EpollLog:
    """Reads the lines of one log."""

    def __init__(self) -> None:
        self._ts = 0
        self._line = 0
        self._began = False
        self._waker: dict[str, Any] = {}
        self._through: dict[str, Any] = {}
        self._fired: dict[str, Any] = {}

    def rows(self, block: bytes) -> Iterator[dict[str, Any]]:
        """Rows of the next lines; a line that cannot be read is one of kind ``unparsed``."""
        for raw in block.decode("utf-8", "backslashreplace").split("\n"):
            self._line += 1
            text = raw.strip()
            found = _LINE.fullmatch(text) if text and len(text) < 1000 else None
            if found:
                self._began = True
                yield from self._row({name: value for name, value in found.groupdict().items() if value is not None})
            elif text and self._began and not _NOT_EVENTS.fullmatch(text):
                yield {"kind": "unparsed", "ts": self._ts, "line": self._line, "text": text[:LONGEST_UNPARSED]}
        self._line -= 1  # a block ends with a line end, behind which nothing stands

    def rest(self) -> Iterator[dict[str, Any]]:
        """Nothing: each line is complete."""
        yield from ()

    def _row(self, found: dict[str, str]) -> Iterator[dict[str, Any]]:
        if moment := found.get("waker") or found.get("sleeper") or found.get("fired"):
            self._ts = int(moment) * _MS
        base = {"ts": self._ts, "cpu": None}
        if "waker" in found:
            self._waker = {**base, "tid": int(found["tid"]), "comm": found["comm"]}
            self._through = _socket(found)
            yield {**self._waker, "kind": "ep_poll_callback", **self._through}
        elif "target_tid" in found:
            yield {
                **base, **self._waker, "kind": "sched_waking", "target_tid": int(found["target_tid"]),
                "target_pid": int(found["target_pid"]), "target_comm": found["target_comm"], **self._through,
            }  # fmt: skip
        elif "sleeper" in found:
            own = {"pid": int(found["spid"]), "tid": int(found["stid"]), "comm": found["scomm"]}
            yield {**base, **own, "kind": "sys_exit_epoll_wait", "ret": int(found["events"])}
        elif "fired" in found:
            self._fired = {"tid": int(found["ftid"]), "comm": found["fcomm"]}
        elif "object" in found:
            event = {"fd": found["ffd"], "events": found["bits"], "object": found["object"]}
            yield {**base, **self._fired, "kind": "assign_events", **event}
        elif "closed" in found:
            yield {**base, "kind": "sys_enter_close", "fd": int(found["closed"])}
        if "peer" in found:
            ends = {"saddr": found["local"], "sport": int(found["local_port"]), "daddr": found["peer"]}
            yield {**base, "kind": "inet_csk_accept", **ends, "dport": int(found["peer_port"]), "family": _IPV4}
        if "accepted" in found:
            yield {**base, "kind": "sys_exit_accept4", "ret": int(found["accepted"])}


def _socket(found: dict[str, str]) -> dict[str, Any]:
    """The socket that a line of ep_poll_callback names, in the catalogue's columns."""
    numbers = {name: int(found[name]) for name in ("fd", "sport", "dport")}
    address = int(found["socket"], 16)
    state = TCP_STATES.index(found["state"]) if found["state"] in TCP_STATES else None
    return {
        **numbers, "saddr": found["saddr"], "daddr": found["daddr"], "family": _IPV4, "tcp_state": state,
        "socket": address - (1 << 64) if address >= 1 << 63 else address,
    }  # fmt: skip
