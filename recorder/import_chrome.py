"""Chrome's trace JSON (Trace Event Format): slices, instants, counters and flows as kinds of their own.

``slice`` (B with E, X, and nestable async b with e), ``instant`` (i, I, R, n), ``counter`` (C: a row for each series),
``flow`` (s, t, f), ``trace_event`` (the rest); the names of threads (M) become ``comm``, and rows of kind ``task``. The
file is read event by event: memory does not grow with its size, only with what is open. As in Chrome, the list may end
early or with a comma.
"""

from __future__ import annotations

import codecs
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from tracectl.recorder.import_spool import LONGEST_UNPARSED

_LONGEST_EVENT = 1 << 20
_TOO_LARGE = 1 << 62
_NS = 1000  # times are microseconds
_SPACE = " \t\r\n,"
_FLOWS = {"s": "start", "t": "step", "f": "end"}
Row = dict[str, Any]
_Track = tuple[str, ...]


def is_chrome_json(head: bytes) -> bool:
    """Whether a text is a trace of that format."""
    start = head.lstrip()[:1]
    return (start == b"{" and b'"traceEvents"' in head) or (start in (b"[", b"{") and b'"ph"' in head)


class ChromeTrace:
    """Reads one file."""

    def __init__(self) -> None:
        self._line = 1
        self._ts = 0
        self._names: dict[_Track, str] = {}
        self._open: dict[_Track, list[Row]] = defaultdict(list)

    def rows(self, chunks: Iterable[bytes]) -> Iterator[Row]:
        """All rows, a slice when it ends; what cannot be read is one of kind ``unparsed``."""
        for event, text in self._events(chunks):
            rows = self._rows(event) if isinstance(event, dict) else None
            if rows is None:
                yield {"kind": "unparsed", "ts": self._ts, "line": self._line, "text": text[:LONGEST_UNPARSED]}
            else:
                yield from rows
        for open_ in self._open.values():
            yield from open_  # they have no end, and no dur

    def _events(self, chunks: Iterable[bytes]) -> Iterator[tuple[Any, str]]:
        """(event, its text); the event is None where the text is none."""
        decode = json.JSONDecoder(parse_float=Decimal, parse_constant=lambda _: None).raw_decode
        utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        text, began = "", False
        for chunk in chunks:
            text += utf8.decode(chunk)
            at = 0 if began else _list_start(text)
            began = began or at > 0
            while began:
                start = at
                while at < len(text) and text[at] in _SPACE:
                    at += 1
                if at >= len(text) or text[at] == "]":
                    break
                try:
                    event, end = decode(text, at)
                except (ValueError, RecursionError):
                    if len(text) - at < _LONGEST_EVENT and text[at] == "{":
                        break  # the rest of it is in the next chunk
                    end = text.find("\n", at) + 1 or len(text)
                    event = None
                self._line += text.count("\n", start, at)
                yield event, text[at:end]
                self._line += text.count("\n", at, end)
                at = end
            text = text[at:] if began else text[-_LONGEST_EVENT:]
            if text[:1] == "]":
                return
        if began and text.strip(_SPACE):
            yield None, text.strip()

    def _rows(self, event: dict[str, Any]) -> list[Row] | None:
        """The rows that an event completes; None when it cannot be read."""
        phase = str(event.get("ph", ""))[:1]
        if phase == "M":
            return self._metadata(event)
        ts = _nanoseconds(event.get("ts"))
        if ts is None or not phase:
            return None
        self._ts = ts
        row = {
            "ts": ts, "cpu": None, "pid": _id(event.get("pid")), "tid": _id(event.get("tid")),
            "comm": self._names.get(_thread(event)), "name": event.get("name"), "cat": event.get("cat"),
        }  # fmt: skip
        args = event.get("args")
        if phase == "C":
            return self._counters(args, row)
        if args:
            row["args"] = json.dumps(args, default=str, separators=(",", ":"))
        if phase in "BEXbe":
            return self._slices(phase, event, {**row, "kind": "slice"})
        if phase in _FLOWS:
            return [{**row, "kind": "flow", "step": _FLOWS[phase], "id": event.get("id")}]
        return [{**row, "kind": "instant"} if phase in "iIRn" else {**row, "kind": "trace_event", "ph": phase}]

    def _slices(self, phase: str, event: dict[str, Any], row: Row) -> list[Row] | None:
        track = _thread(event)
        if phase in "be":
            track = str(event.get("cat")), str(event.get("id") or event.get("id2")), str(event.get("name"))
            row["id"] = track[1]
        if phase == "X":
            dur = _nanoseconds(event.get("dur", 0))
            return None if dur is None else [{**row, "dur": dur}]
        if phase in "Bb":
            self._open[track].append(row)
            return []
        begun = self._open.get(track, [])
        name = event.get("name")
        # An end with a name ends the innermost slice of that name; what was begun inside of it has no end.
        place = next((at for at in reversed(range(len(begun))) if name in (None, "", begun[at]["name"])), None)
        if place is None:
            return None
        ended, *inside = begun[place:]
        del begun[place:]
        return [{**ended, "dur": max(row["ts"] - ended["ts"], 0)}, *inside]

    @staticmethod
    def _counters(args: Any, row: Row) -> list[Row] | None:
        if not isinstance(args, dict):
            return None
        numbers = {series: _number(value) for series, value in args.items()}
        found = {series: number for series, number in numbers.items() if number is not None}
        return [{**row, "kind": "counter", "series": s, "value": number} for s, number in found.items()] or None

    def _metadata(self, event: dict[str, Any]) -> list[Row]:
        args = event.get("args")
        tid = _id(event.get("tid"))
        if event.get("name") != "thread_name" or not isinstance(args, dict) or tid is None:
            return []
        name = self._names[_thread(event)] = str(args.get("name"))[:255]
        return [{"kind": "task", "ts": self._ts, "cpu": None, "pid": _id(event.get("pid")), "tid": tid, "comm": name}]


def _thread(event: dict[str, Any]) -> _Track:
    return str(event.get("pid")), str(event.get("tid"))


def _list_start(text: str) -> int:
    """Behind the bracket that begins the list of events; 0 when it is not there yet."""
    stripped = text.lstrip("\ufeff \t\r\n")
    if stripped.startswith("["):
        return len(text) - len(stripped) + 1
    key = text.find('"traceEvents"')
    return text.find("[", key) + 1 if key >= 0 else 0


def _number(value: Any) -> Decimal | None:
    try:
        number = Decimal(value) if isinstance(value, int | str | Decimal) else None
    except InvalidOperation:
        return None
    return number if number is not None and number.is_finite() else None


def _nanoseconds(value: Any) -> int | None:
    number = _number(value)
    return round(number * _NS) if number is not None and abs(number) < _TOO_LARGE // _NS else None


def _id(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and abs(number) < 1 << 31 else None
