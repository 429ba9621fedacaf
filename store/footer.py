"""What a capture says about itself: the JSON in the Parquet footer, under one key."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from tracectl.store import events, fields
from tracectl.store.errors import CaptureError
from tracectl.store.events import Catalogue, Event
from tracectl.store.fields import Field

KEY = b"tracectl"
_TYPES = {"int16": fields.S16, "int32": fields.S32, "int64": fields.S64, "string": fields.PATH}


@dataclass(frozen=True)
class LedgerLine:
    """Events of one stream on one CPU, counted in the kernel and, apart from that, by the reader.

    Attributes:
        emitted: events the probes tried to write, counted in the kernel.
        recorded: rows in the capture.
        lost: events that the gaps in the capture declare (markers, tail, refused ones, the reader's own).
        skipped: events for which the kernel never ran the probe (``nested``); at most, since a filter would
            have left some of them out. Not part of ``emitted``.
    """

    stream: str
    cpu: int
    emitted: int
    recorded: int
    lost: int
    skipped: int = 0

    @property
    def residue(self) -> int:
        """``emitted - recorded - lost``: zero in an honest recording."""
        return self.emitted - self.recorded - self.lost

    def __add__(self, other: LedgerLine) -> LedgerLine:
        """The account of both together, which are of one stream and CPU."""
        counts = ("emitted", "recorded", "lost", "skipped")
        return LedgerLine(self.stream, self.cpu, *(getattr(self, name) + getattr(other, name) for name in counts))

    def __sub__(self, other: LedgerLine) -> LedgerLine:
        """This account without that of the other."""
        return self + LedgerLine(self.stream, self.cpu, -other.emitted, -other.recorded, -other.lost, -other.skipped)


@dataclass
class Footer:
    """The capture's statement about itself. Times are ns on the monotonic clock.

    Attributes:
        kinds: kinds whose probes were attached, whether or not they fired.
        missing: kinds asked for that this kernel does not have, with the reason.
        extra_events: kinds made at run time from tracefs, so that a reader needs no kernel.
        filled: kind -> its optional columns that this recording fills.
        names: number-to-name tables of the recorded machine (``irq``).
        breaks_declared: whether whoever wrote this compared each CPU's switches with each other, and declared a loss
            where they do not follow each other.
        min_delay_ns: ``runq_delay`` has only waits longer than this.
        late: whether rows came behind the watermark and seq is only right after compaction.
    """

    kinds: list[str]
    cpus: list[int]
    start_ts: int
    end_ts: int
    major: int = events.FORMAT_MAJOR
    minor: int = events.FORMAT_MINOR
    version: str = ""
    host: str = ""
    boot_id: str = ""
    kernel: str = ""
    machine: str = ""
    command_line: list[str] = field(default_factory=list)
    filter: str | None = None
    missing: dict[str, str] = field(default_factory=dict)
    extra_events: list[dict[str, Any]] = field(default_factory=list)
    filled: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, dict[str, str]] = field(default_factory=dict)
    clocks: list[dict[str, int]] = field(default_factory=list)
    ledger: list[LedgerLine] = field(default_factory=list)
    complete: bool = True
    breaks_declared: bool = False
    min_delay_ns: int = 0
    late: bool = False

    def filter_of(self, kind: str) -> str | None:
        """The filter in force for a kind, in words: that of tasks, and which waits there are; None: none."""
        if kind != "runq_delay":
            return self.filter
        waits = f"waits that began in the recording and lasted over {self.min_delay_ns} ns"
        return f"{waits}, of {self.filter}" if self.filter else waits

    def catalogue(self) -> Catalogue:
        """The kinds of this capture, built in and its own."""
        return Catalogue.of(_event_from_json(entry) for entry in self.extra_events)

    def to_json(self) -> bytes:
        """The footer's value."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, text: bytes, where: str) -> Footer:
        """Read a footer.

        Raises:
            CaptureError: damaged, or written by a later major version.
        """
        try:
            data = json.loads(text)
            major, version = int(data["major"]), str(data.get("version", "?"))
        except _MALFORMED as error:
            raise CaptureError(f"{where}: the capture's footer is damaged ({error})", _DAMAGED) from error
        if major > events.FORMAT_MAJOR:
            raise CaptureError(
                f"{where} has capture format {major} (written by tracectl {version}); "
                f"this tracectl reads up to format {events.FORMAT_MAJOR}",
                "a newer tracectl reads it: pip install --upgrade tracectl",
            )
        try:
            data["ledger"] = [_made(LedgerLine, line) for line in data.get("ledger", [])]
            footer = _made(cls, data)
            footer.catalogue().columns()
        except _MALFORMED as error:
            raise CaptureError(f"{where}: the capture's footer is damaged ({error})", _DAMAGED) from error
        return footer


_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
_Made = TypeVar("_Made")
_DAMAGED = "copy it again from where it was recorded, or record again"


def event_to_json(event: Event) -> dict[str, Any]:
    """A run-time kind as the footer keeps it."""
    columns = [
        {"name": c.name, "type": c.type.arrow, "doc": c.doc, **({"unit": c.unit} if c.unit else {})}
        for c in event.fields
    ]
    return {
        "kind": event.kind,
        "stream": event.stream,
        "doc": event.doc,
        "probes": list(event.probes),
        "fields": columns,
    }


def _event_from_json(entry: dict[str, Any]) -> Event:
    """A run-time kind; columns of a type that only a later minor version knows are left out."""
    if entry["kind"] in events.KINDS:
        raise ValueError(f"{entry['kind']} is declared anew")
    columns = tuple(
        Field(_name(c["name"]), _TYPES[c["type"]], str(c["doc"]), unit="ns" if c.get("unit") == "ns" else "")
        for c in entry["fields"]
        if c["type"] in _TYPES
    )
    return Event(_name(entry["kind"]), str(entry["stream"]), str(entry["doc"]), tuple(entry["probes"]), columns)


def _name(text: str) -> str:
    if not re.fullmatch(r"\w+", text, re.ASCII):
        raise ValueError(f"{text!r} is no name")
    return text


def _made(cls: type[_Made], data: dict[str, Any]) -> _Made:
    """A dataclass from JSON: names that only a later minor version knows are left out, types are checked."""
    hints = get_type_hints(cls)
    known = {name: value for name, value in data.items() if name in hints}
    for name, value in known.items():
        if not _fits(value, hints[name]):
            raise TypeError(f"{name} is {str(value)[:40]!r}")
    return cls(**known)


def _fits(value: object, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, inner[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(item, inner[1]) for item in value.values())
    if origin is UnionType:
        return any(_fits(value, one) for one in inner)
    if hint is int:
        return type(value) is int and -(2**63) <= value < 2**63
    return hint is Any or isinstance(value, hint)
