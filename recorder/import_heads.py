"""What stands before an event's own text: who was current, on which CPU, when, which event. For all lines at once.

The forms (``kernel``: ftrace, trace-cmd, atrace; ``perf``: perf script)::

    comm-tid     (  pid) [cpu] flags seconds.fraction: event: …       kernel; pid and flags can be absent
    comm  pid/tid        [cpu]       seconds.fraction: n event: …     perf; pid, cpu and the period n can be absent

Heads that this does not find (a colon and a fraction in a name) are tried again with a regular expression.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from tracectl.recorder.import_bytes import SPACE, Block, Mask, Positions

_HEAD = re.compile(
    rb"\s*(?P<comm>.{1,64}?)(?:-|\s+(?:(?P<pid1>\d{1,9})/)?)(?P<tid>-1|\d{1,9})\s*(?:\(\s*(?P<pid2>\d{1,9}|-+)\))?"
    rb"(?:\s+\[(?P<cpu>\d{1,4})\])?(?:\s+(?P<flags>[.\w#]{4,8}?))?\s*(?P<s>\d{1,9})\.(?P<f>\d{6}|\d{9}):"
)
NONE = -1
_LONGEST_FLAGS = 8
_LATEST = 9_000_000_000  # seconds whose nanoseconds are still a number of 64 bits
_TOO_LARGE = 1_000_000_000  # the kernel's largest pid is 2^22
_TOO_MANY_CPUS = 10_000
_COLON, _DOT, _OPEN, _CLOSE, _PAREN, _PAREN_END, _MINUS, _SLASH = b":.[]()-/"


@dataclass
class Heads:
    """The heads of lines; one element per line, positions into the block.

    Attributes:
        line: index of the line in the block.
        ts: ns. cpu, tid, pid: -1 where the text does not tell.
        comm_start, comm_end, flags_start, flags_end: texts; flags are empty where there are none.
        body: first character behind the time.
    """

    line: Positions
    ts: Positions
    cpu: Positions
    tid: Positions
    pid: Positions
    comm_start: Positions
    comm_end: Positions
    flags_start: Positions
    flags_end: Positions
    body: Positions

    def take(self, which: Positions | Mask) -> Heads:
        """Some of the lines."""
        return Heads(**{name: value[which] for name, value in vars(self).items()})

    def merged(self, other: Heads) -> Heads:
        """Both, in the order of the lines."""
        both = Heads(**{name: np.concatenate([value, getattr(other, name)]) for name, value in vars(self).items()})
        return both.take(np.argsort(both.line, kind="stable"))


def read_heads(block: Block, lines: Positions) -> Heads:
    """The heads of those of the lines that have one."""
    colon = _first_time(block, block.starts[lines])
    some = colon < block.ends[lines]
    lines, colon = lines[some], colon[some]
    heads, ok = _fast(block, lines, colon)
    found = heads.take(ok)
    rest = [head for line in lines[~ok].tolist() if (head := _slow(block, line))]
    if not rest:
        return found
    names = vars(found)
    return found.merged(Heads(**{name: np.array([head[name] for head in rest], np.int64) for name in names}))


def _first_time(block: Block, starts: Positions) -> Positions:
    """The first colon of each line that ends a number with 6 or 9 decimals."""
    colons = block.positions(_COLON)[:-2]
    text = block.bytes
    digits = np.ones(len(colons), np.bool_)
    for back in range(1, 7):
        digits &= text[colons - back] - np.uint8(48) < 10
    colons = colons[digits]
    micro = text[colons - 7] == _DOT
    nano = text[colons - 10] == _DOT
    for back in range(7, 10):
        nano &= text[colons - back] - np.uint8(48) < 10
    times = np.concatenate([colons[micro | nano], [len(text)]])
    return times[np.searchsorted(times, starts)]


def _fast(block: Block, lines: Positions, colon: Positions) -> tuple[Heads, Mask]:
    text, start = block.bytes, block.starts[lines]
    dot = np.where(text[colon - 7] == _DOT, colon - 7, colon - 10)
    seconds, at = block.number_before(dot)
    ok = (at < dot) & (seconds <= _LATEST)
    fraction, digits = block.number(dot + 1)
    ts = seconds * 1_000_000_000 + np.where(digits == 6, fraction * 1000, fraction)

    open_ = block.previous(_OPEN, at)
    has_cpu = open_ > start
    cpu, count = block.number(np.where(has_cpu, open_ + 1, at))
    close = open_ + 1 + count
    has_cpu &= (count > 0) & (text[close] == _CLOSE) & (close < at)
    # The flags may touch the time: "d...316.196740".
    flags_start = np.where(has_cpu, block.skip(close + 1), at)
    flags_end = np.where(has_cpu, np.maximum(block.skip_back(at), flags_start), at)
    ok &= flags_end - flags_start <= _LONGEST_FLAGS
    ok &= block.word_end(flags_start) >= flags_end

    end = block.skip_back(np.where(has_cpu, open_, at))
    pid, end = _pid_column(block, end, start)
    tid, tid_start = block.number_before(end)
    ok &= tid_start < end
    slash = text[tid_start - 1] == _SLASH
    if slash.any():
        before, tid_start_2 = block.number_before(tid_start - 1)
        pid = np.where(slash, before, pid)
        tid_start = np.where(slash, tid_start_2, tid_start)
    minus = text[tid_start - 1] == _MINUS
    unknown = minus & (text[tid_start - 2] == SPACE) & (tid == 1)  # perf's -1; a name may end with a space
    comm_end = np.where(minus & ~unknown, tid_start - 1, block.skip_back(tid_start - unknown))
    ok &= minus | (text[tid_start - 1] == SPACE)
    comm_start = block.skip(start)
    ok &= (comm_start < comm_end) & (comm_end - comm_start <= 64)
    ok &= (tid < _TOO_LARGE) & (pid < _TOO_LARGE) & (~has_cpu | (cpu < _TOO_MANY_CPUS))
    heads = Heads(
        lines, ts, np.where(has_cpu, cpu, NONE), np.where(unknown, NONE, tid), pid,
        comm_start, comm_end, flags_start, flags_end, colon + 1,
    )  # fmt: skip
    return heads, ok


def _pid_column(block: Block, end: Positions, start: Positions) -> tuple[Positions, Positions]:
    """The column ``( 1234)`` or ``(-----)`` that ends at a position: (pid or -1, where what is before it ends)."""
    pid = np.full(len(end), NONE)
    some = np.flatnonzero(block.bytes[end - 1] == _PAREN_END)
    if not len(some):
        return pid, end
    opened = block.previous(_PAREN, end[some])
    good = opened > start[some]
    some, opened = some[good], opened[good]
    value, first = block.number_before(end[some] - 1)
    pid[some] = np.where(first < end[some] - 1, value, NONE)
    end = end.copy()
    end[some] = block.skip_back(opened)
    return pid, end


def _slow(block: Block, line: int) -> dict[str, int] | None:
    """One head by regular expression."""
    start, end = int(block.starts[line]), int(block.ends[line])
    match = _HEAD.match(block.bytes[start : min(end, start + 256)].tobytes())
    if match is None:
        return None
    pid = match["pid1"] or match["pid2"] or b""
    number = {name: int(match[name]) if match[name] else NONE for name in ("tid", "cpu")}
    flags = match.span("flags") if match["flags"] else (match.start("s"), match.start("s"))
    return {
        "line": line,
        "ts": int(match["s"]) * 1_000_000_000 + int(match["f"].ljust(9, b"0")),
        **number,
        "pid": int(pid) if pid.isdigit() else NONE,
        "comm_start": start + match.start("comm"),
        "comm_end": start + match.end("comm"),
        "flags_start": start + flags[0],
        "flags_end": start + flags[1],
        "body": start + match.end(),
    }


@dataclass
class Names:
    """The event's name behind the head.

    Attributes:
        start, end: the name as written, ``sched:sched_switch`` or ``sched_switch``; ``end`` is before its colon.
        text: first character of the event's own text.
        named: whether a name stands there at all; else ``text`` is where it would have begun.
    """

    start: Positions
    end: Positions
    text: Positions
    named: Mask


def read_names(block: Block, heads: Heads) -> Names:
    """The events' names: up to a colon that a space or the line's end follows, without a space inside."""
    line_end = block.ends[heads.line]
    start = np.minimum(block.skip(heads.body), line_end)
    _, digits = block.number(start)  # perf: the period
    period = (digits > 0) & (block.bytes[start + digits] == SPACE)
    start = np.where(period, np.minimum(block.skip(start + digits), line_end), start)
    colons = block.positions(_COLON)
    after = block.bytes[np.minimum(colons + 1, len(block.bytes) - 1)]
    ending = colons[(after == SPACE) | (after < 32) | (after == ord("\\"))]
    ending = np.concatenate([ending, [len(block.bytes)]])
    end = ending[np.searchsorted(ending, start)]
    named = (end < line_end) & (end > start) & (block.word_end(start) > end) & (block.next(_PAREN, start) > end)
    text = np.where(named, np.minimum(block.skip(end + 1), line_end), start)
    return Names(start, np.where(named, end, start), text, named)
