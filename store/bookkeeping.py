"""The kinds of rows that tell about the recording instead of the kernel."""

from __future__ import annotations

from tracectl.store.entry import BOOKKEEPING, CAUSES, Event
from tracectl.store.fields import NAME, PATH, S32, S64, Field

_STREAM = Field("stream", NAME, "which ring")
_FROM_TS = Field("from_ts", S64, "begin of the interval that ends at ts", unit="ns")
_LOST_COUNT = Field("lost_count", S64, "events lost", unit="count")
ENTRIES = (
    Event(
        "lost",
        BOOKKEEPING,
        "a gap: events of one stream and CPU that are not in the capture, after from_ts and before ts",
        fields=(_STREAM, _FROM_TS, _LOST_COUNT, Field("cause", NAME, "why: " + ", ".join(CAUSES))),
        example="lost | sum lost_count by stream, cpu",
    ),
    Event(
        "coverage",
        BOOKKEEPING,
        "one kind was recorded on one CPU (null: all) from from_ts to ts",
        fields=(
            _STREAM,
            _FROM_TS,
            Field("covered_kind", NAME, "event kind"),
            Field("filter", PATH, "the filter in force; null: none"),
        ),
    ),
    Event(
        "task",
        BOOKKEEPING,
        "a thread that existed when the recording began, from /proc",
        fields=(
            Field("start_ts", S64, "when it was created, on the clock of ts (negative: before boot's zero)", unit="ns"),
            Field("cgroup", PATH, "cgroup v2 path"),
            Field("pid_ns", S64, "inode of its PID namespace"),
            Field("ns_tid", S32, "its tid inside that namespace"),
        ),
        example='tasks of comm "wrk:*"',
    ),
    Event(
        "clock",
        BOOKKEEPING,
        "the clocks read at one moment, ts being the monotonic one",
        fields=(
            Field("boottime", S64, "CLOCK_BOOTTIME", unit="ns"),
            Field("realtime", S64, "CLOCK_REALTIME, since 1970 UTC", unit="ns"),
        ),
    ),
    Event(
        "recorder",
        BOOKKEEPING,
        "once a second: the recorder observes itself, totals since the start",
        fields=(
            Field("events_in", S64, "events taken from the rings", unit="count"),
            Field("events_out", S64, "rows written", unit="count"),
            _LOST_COUNT,
            Field("drain_delay", S64, "longest time between two drains in that second", unit="ns"),
            Field("cpu_time", S64, "CPU time the recorder has used", unit="ns"),
        ),
    ),
    Event(
        "stack",
        BOOKKEEPING,
        "a call stack, once however many events have it",
        fields=(
            Field("stack_id", S64, "what kstack and ustack of events refer to; unique in the capture"),
            Field("folded", PATH, "functions from the outermost to the innermost, joined by ;"),
            Field("frames", PATH, "the same frames as JSON: name, offset, address, module, build_id, as far as known"),
        ),
    ),
    Event(
        "unparsed",
        BOOKKEEPING,
        "a line of an imported text that could not be read; ts is that of the event before it",
        fields=(
            Field("line", S64, "number of the line in its file"),
            Field("text", PATH, "its first 200 characters"),
        ),
    ),
)
