"""The bpftrace script ep_poll_interact: who woke an epoll worker, through which socket, and what the worker did then.

https://github.com/labilezhu/pub-diy. Other than there, IPv6 sockets are shown too.
"""

from __future__ import annotations

import argparse
from typing import Any, ClassVar

from tracectl.replay import Lost
from tracectl.store.capture import Capture
from tracectl.store.errors import NotRecordedError
from tracectl.store.events import TCP_STATES
from tracectl.store.relations import kind_columns
from tracectl.text import visible
from tracectl.toolview import ToolView

_MS = 1_000_000
_BASE = ("kind", "ts", "pid", "tid", "comm")
_SOCKET = ("fd", "socket", "saddr", "sport", "daddr", "dport", "tcp_state")
_OWN = ("target_tid", "target_pid", "target_comm", *_SOCKET, "ret")
# Bits that libevent gives a callback, in the order in which the script names them.
_LIBEVENT = {0x01: "EV_TIMEOUT", 0x02: "EV_READ", 0x04: "EV_WRITE", 0x20: "EV_ET", 0x80: "EV_CLOSED"}
# A user-space callback is a kind made at run time, whose probe has this in its name.
_CALLBACK = ("assignevents", "assign_events")


class Epoll(ToolView):
    """``ep_poll_interact PID``: the log of one process.

    Each line stands for one event: a loss takes lines away and makes none wrong.
    """

    tool = "epoll"
    kinds: ClassVar[tuple[str, ...]] = (
        "sched_waking", "sys_exit_epoll_wait", "sys_exit_epoll_pwait", "sys_exit_epoll_pwait2", "inet_csk_accept",
        "sys_exit_accept", "sys_exit_accept4", "sys_enter_close",
    )  # fmt: skip
    record: ClassVar[tuple[str, ...]] = ("sched_waking", "epoll")
    needs: ClassVar[tuple[str, ...]] = ("ep_poll_callback",)
    # What the script itself traces, besides a function of user space.
    script: ClassVar[tuple[str, ...]] = (
        "sys_exit_epoll_wait", "inet_csk_accept", "sys_exit_accept4", "sys_enter_close",
    )  # fmt: skip

    def declare(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("pid", type=int, metavar="PID")

    def begin(self, capture: Capture) -> None:
        self.need(capture, "sched_waking")
        if "sched_waking.fd" not in capture.filled:
            raise NotRecordedError(
                "epoll cannot be told from this capture: what a wakeup came through was not recorded",
                f"record again with: tracectl record -e {','.join(self.record)}",
            )
        absent = [kind for kind in self.script if kind not in capture.kinds]
        if absent:
            self.note(f"not recorded, so that their lines are missing: {', '.join(absent)}")
        self._callbacks = _callbacks(capture)
        own = [column for found in self._callbacks.values() for column in found.values()]
        self.kinds = (*Epoll.kinds, *self._callbacks)  # type: ignore[misc]  # those of this capture
        self.columns = tuple(dict.fromkeys((*_BASE, *_OWN, *own)))
        self.write("Tracing nanosecond time in off-CPU stacks. Ctrl-C to end.\n")

    def event(self, row: tuple[Any, ...]) -> None:
        event = dict(zip(self.columns, row, strict=True))
        kind, pid = event["kind"], self.options.pid
        if kind == "sched_waking":
            if event["fd"] is not None and event["target_pid"] == pid:
                self._waking(event)
        elif event["pid"] not in (None, pid):  # a log tells no process where it only has lines of one
            return
        elif kind.startswith("sys_exit_epoll"):
            if event["ret"] > 0:
                self._lines(
                    "--------",
                    f"***sleeper-wakeup: elapsed={self._ms(event):<10}, pid={pid}, tid={event['tid']},"
                    f"comm={event['comm']}, event_count={event['ret']}",
                )
        elif kind == "inet_csk_accept":
            ends = (event[name] for name in ("daddr", "dport", "saddr", "sport"))
            self.write(visible("inet_csk_accept: {:39} {:<5} {:39} {:<5} ".format(*map(_known, ends))))
        elif kind.startswith("sys_exit_accept"):
            if event["ret"] >= 0:
                self._lines(f"{kind} fd={event['ret']}")
        elif kind == "sys_enter_close":
            self._lines(f"close fd={event['fd']}")
        else:
            self._callback(event, self._callbacks[kind])

    def lost(self, gap: Lost) -> None:
        self.tell_gap(gap, "their lines are missing")

    def _ms(self, event: dict[str, Any]) -> int:
        elapsed: int = (event["ts"] - self.start_ts) // _MS
        return elapsed

    def _lines(self, *lines: str) -> None:
        self.write("".join(f"{visible(line)}\n" for line in lines))

    def _waking(self, event: dict[str, Any]) -> None:
        state = event["tcp_state"]
        name = TCP_STATES[state] if state is not None and 0 <= state < len(TCP_STATES) else "?"
        socket = "?" if event["socket"] is None else f"{event['socket'] & (1 << 64) - 1:#x}"
        self._lines(
            "",
            f"***waker: elapsed={self._ms(event):<10} tid={event['tid']},comm={event['comm']}: ep_poll_callback: "
            f"fd={event['fd']}, {_known(event['saddr']):>14}:{_known(event['sport']):<6} "
            f"{_known(event['daddr']):>14}:{_known(event['dport']):<6} {name:>6} socket={socket}",
            f"try_to_wake_up: wakeupedPID={event['target_pid']}, wakeupedTID={event['target_tid']}, "
            f"wakeupedTIDComm={event['target_comm']}",
        )

    def _callback(self, event: dict[str, Any], columns: dict[str, str]) -> None:
        values = {name: event[column] for name, column in columns.items()}
        bits = _number(values.get("events"))
        self._lines(
            f"***** elapsed={self._ms(event):<10}: tid={event['tid']},comm={event['comm']}: "
            "BEGIN:EventFired:FileEventImpl::assignEvents::eventCallback()",
            f"FileEventImpl*={_pointer(values.get('object'))}, fd={_known(values.get('fd'))}, "
            f"events={'?' if bits is None else hex(bits)}",
            *(f"libevent: {name}" for bit, name in _LIBEVENT.items() if bits is not None and bits & bit),
        )


def _callbacks(capture: Capture) -> dict[str, dict[str, str]]:
    """Kinds that stand for the script's user-space callback: field -> column of the capture."""
    found: dict[str, dict[str, str]] = {}
    for kind, event in capture.catalogue.events.items():
        names = " ".join((kind, *event.probes)).lower()
        if kind in capture.kinds and any(word in names for word in _CALLBACK):
            fields = {name.removeprefix("arg_"): stored for name, (stored, _) in kind_columns(event).items()}
            found[kind] = {name: stored for name, stored in fields.items() if name in ("object", "fd", "events")}
    return found


def _known(value: object) -> Any:
    return "?" if value is None else value


def _number(value: object) -> int | None:
    return None if value is None else int(str(value), 0)


def _pointer(value: object) -> str:
    number = _number(value)
    return "?" if number is None else f"{number & (1 << 64) - 1:#x}"
