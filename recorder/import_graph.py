"""Text of the function_graph tracer: calls with their durations, from the lines where they begin and end.

The columns before the bar are options of the tracer (kernel/trace/trace_functions_graph.c): time, CPU, thread, flags,
mark of a long duration (``+ ! # * @ $``), duration. Behind it stand, indented by depth, ``f();``, ``f() {`` and ``}``,
with comments: ``/* f */``, ``/* = -22 */``, or another event. A ``}`` has the kernel's own duration, but not always the
function's name: that is the one that began at the same depth of the same thread, unless events were lost in between.
``trace-cmd report`` prints duration, bar and call as the text of its events ``funcgraph_entry`` and ``funcgraph_exit``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterator
from typing import Any

from tracectl.recorder.import_spool import LONGEST_UNPARSED

Row = dict[str, Any]
_LONGEST_LINE = 2048
_TIME = r"\s*(?:(?P<s>\d{1,9})\.(?P<f>\d{6}|\d{9}) *\|)?"
_CPU = r"(?:\s*(?P<cpu>\d{1,4})\))?"
_CALL = (
    r"(?:\s*[+!#*@$]?\s*(?:(?P<us>\d{1,15})(?:\.(?P<part>\d{1,3}))? us +)?\|)?  (?P<indent> *)"
    r"(?:(?P<call>[^\s(;{}/]+(?: \[[\w.-]+\])?)\(.*?\)(?P<leaf>;| \{)|(?P<end>\})|(?=/\*))"
    r"\s*(?:/\*\s*(?P<note>.*?)\s*\*/)?\s*"
)
_LINE = re.compile(
    _TIME + _CPU + r"(?:\s+(?P<comm>[^|]{1,16}?)-(?P<tid>\d{1,9}) *\|)?(?:\s+(?P<flags>[.\w#]{4,6}) *\|)?" + _CALL,
    re.DOTALL,
)
_CALL_ALONE = re.compile(_CALL, re.DOTALL)
_SWITCH = re.compile(
    _TIME + _CPU + r"\s+(?P<prev>\S.{0,15}?)-(?P<prev_tid>\d{1,9}) +=> +(?P<comm>\S.{0,15}?)-(?P<tid>\d{1,9})\s*"
)
_LOST = re.compile(r"\s*(?:CPU:(\d{1,4}) )?\[LOST (?:(\d{1,15}) )?EVENTS\]\s*")
_NOT_EVENTS = re.compile(r"\s*(?:-{8,}|#.*|.*(?:=+> \||<=+ \|)\s*)?", re.DOTALL)
_RETURNED = re.compile(r"(?:.*\s|)(?:=\s?|ret=)(-?(?:0x[0-9a-f]{1,16}|\d{1,18}))")
_NAME = re.compile(r"([A-Za-z_][\w.]*(?: \[[\w.-]+\])?)(?:\s.*)?")
_GRAPH = re.compile(
    rb"^# tracer: function_graph|^\s*(?:\d+\.\d{6} *\|)?\s*\d+\).{0,60}\|  +[^\s(;{}/]+\(.*\)(?:;| \{)", re.M
)


def is_graph(head: bytes) -> bool:
    """Whether a text is that tracer's."""
    return _GRAPH.search(head) is not None


class GraphText:
    """Reads the lines of one text, in order."""

    def __init__(self) -> None:
        self._line = 0
        self._losses = 0  # so far: what began before one does not end behind it
        self._last: dict[int | None, int] = {}  # CPU -> ts
        self._threads: dict[int | None, tuple[int, str]] = {}  # CPU -> who runs there
        self._calls = Calls()
        self._gaps: list[Row] = []  # that no event followed yet

    def rows(self, block: bytes) -> Iterator[Row]:
        """Rows of the next whole lines."""
        for text in block.decode("utf-8", "backslashreplace").removesuffix("\n").split("\n"):
            self._line += 1
            yield from self._read(text)

    def rest(self) -> Iterator[Row]:
        """Calls without an end, and losses that no event follows."""
        yield from self._calls.rest()
        for gap in self._gaps:
            yield {**gap, "ts": max(self._last.values(), default=0)}

    def _read(self, text: str) -> Iterator[Row]:
        found = _LINE.fullmatch(text) if len(text) <= _LONGEST_LINE else None
        if found is not None:
            yield from self._event(found)
        elif (switch := _SWITCH.fullmatch(text[:_LONGEST_LINE])) is not None:
            self._switch(switch)
        elif (lost := _LOST.fullmatch(text[:_LONGEST_LINE])) is not None:
            self._lose(int(lost[1]) if lost[1] else None, int(lost[2]) if lost[2] else None)
        elif not _NOT_EVENTS.fullmatch(text[:_LONGEST_LINE]):
            ts = max(self._last.values(), default=0)
            self._losses += 1  # it may have been a begin or an end
            yield {
                "kind": "unparsed",
                "ts": ts,
                "line": self._line,
                "text": text[:LONGEST_UNPARSED],
                "order": self._line,
            }

    def _switch(self, found: re.Match[str]) -> None:
        cpu = _number(found["cpu"])
        if cpu not in self._threads:  # what ran there from the begin on
            self._calls.belong(cpu, int(found["prev_tid"]), found["prev"])
        self._threads[cpu] = int(found["tid"]), found["comm"]

    def _lose(self, cpu: int | None, count: int | None) -> None:
        self._losses += 1
        since = min(self._last.values(), default=0) if cpu is None else self._last.get(cpu, 0)
        self._gaps.append(
            {"kind": "lost", "cpu": cpu, "from_ts": since or None, "lost_count": count, "cause": "ring_full"}
        )

    def _event(self, found: re.Match[str]) -> Iterator[Row]:
        cpu = _number(found["cpu"])
        ts = int(found["s"]) * 1_000_000_000 + int(found["f"].ljust(9, "0")) if found["s"] else 0
        yield from self._gaps_before(cpu, ts)
        self._last[cpu] = ts
        tid, comm = (int(found["tid"]), found["comm"]) if found["tid"] else self._threads.get(cpu, (None, None))
        if found["tid"]:
            self._threads[cpu] = int(found["tid"]), found["comm"]
        row: Row = {
            "ts": ts, "cpu": cpu, "tid": tid, "comm": f"swapper/{cpu}" if tid == 0 else comm,
            "pid": 0 if tid == 0 else None, "order": self._line,
        }  # fmt: skip
        yield from self._calls.take(row, found, self._losses)

    def _gaps_before(self, cpu: int | None, ts: int) -> Iterator[Row]:
        ended = [gap for gap in self._gaps if gap["cpu"] in (None, cpu)]
        if ended:
            self._gaps = [gap for gap in self._gaps if gap["cpu"] not in (None, cpu)]
            yield from ({**gap, "ts": ts, "order": self._line} for gap in ended)


class Calls:
    """Pairs the begins and ends of calls, which must come in the order of the text."""

    def __init__(self) -> None:
        self._open: dict[Hashable, list[Row]] = defaultdict(list)

    def of_text(self, row: Row, text: str, losses: int) -> list[Row] | None:
        """What the text of an event ``funcgraph_entry`` or ``funcgraph_exit`` completes; None where it has no call."""
        found = _CALL_ALONE.fullmatch(text) if len(text) <= _LONGEST_LINE else None
        return None if found is None else list(self.take(row, found, losses))

    def take(self, row: Row, found: re.Match[str], losses: int) -> Iterator[Row]:
        """The rows that a line completes.

        Args:
            row: ts, cpu, pid, tid, comm and order of the line.
            losses: how many there were so far: what began before one does not end behind it.
        """
        depth = len(found["indent"]) // 2
        row = {**row, "kind": "function_call", "depth": depth}
        key = _key(row["cpu"], row["tid"])
        note = found["note"] or ""
        if found["end"]:
            yield from self._end(self._open[key], row, found, losses)
        elif found["call"] is None:
            yield {**row, "kind": "graph_note", "text": note}
        elif found["leaf"] == ";":
            yield {**row, "function": found["call"], "dur": _duration(found), "ret": _returned(note)}
        else:
            yield from self._leave(self._open[key], depth)
            self._open[key].append({**row, "function": found["call"], "losses": losses})

    def _end(self, calls: list[Row], row: Row, found: re.Match[str], losses: int) -> Iterator[Row]:
        dur, note = _duration(found), found["note"] or ""
        yield from self._leave(calls, row["depth"] + 1)
        named = _NAME.fullmatch(note)
        name = named[1] if named and not note.startswith("ret=") else None
        if calls and calls[-1]["depth"] == row["depth"]:
            call = calls.pop()
            if call.pop("losses") == losses and name in (None, call["function"]):
                yield {**call, "dur": dur, "ret": _returned(note)}
                return
            yield call
        begin = row["ts"] - (dur or 0) if row["ts"] and dur is not None else row["ts"]
        yield {**row, "ts": begin, "function": name, "dur": dur, "ret": _returned(note)}

    @staticmethod
    def _leave(calls: list[Row], depth: int) -> Iterator[Row]:
        """The calls of that depth and deeper are over, though their ends were not seen."""
        while calls and calls[-1]["depth"] >= depth:
            yield _without_end(calls.pop())

    def belong(self, cpu: int | None, tid: int, comm: str) -> None:
        """The calls on a CPU of which no thread was known yet are this thread's."""
        began = self._open.pop(("cpu", cpu), [])
        for call in began:
            call |= {"tid": tid, "comm": comm}
        self._open[_key(cpu, tid)] += began

    def rest(self) -> Iterator[Row]:
        """Calls without an end."""
        for calls in self._open.values():
            yield from (_without_end(call) for call in calls)


def _key(cpu: int | None, tid: int | None) -> Hashable:
    """Whose calls nest in each other: a thread's, wherever it runs; each CPU has an idle thread of its own."""
    return tid or ("cpu", cpu)


def _without_end(call: Row) -> Row:
    return {name: value for name, value in call.items() if name != "losses"}


def _number(digits: str | None) -> int | None:
    return int(digits) if digits else None


def _duration(found: re.Match[str]) -> int | None:
    """The duration in ns; the kernel cuts digits off that do not fit."""
    return int(found["us"]) * 1000 + int((found["part"] or "").ljust(3, "0") or 0) if found["us"] else None


def _returned(note: str) -> int | None:
    found = _RETURNED.fullmatch(note)
    if found is None:
        return None
    value = int(found[1], 0) if "x" in found[1] else int(found[1])
    return value - (1 << 64) if value >= 1 << 63 else value
