"""What a capture says about itself: the JSON in the Parquet footer, under one key."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

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


@dataclass
class Footer:
    """The capture's statement about itself. Times are ns on the monotonic clock.

    Attributes:
        kinds: kinds whose probes were attached, whether or not they fired.
        missing: kinds asked for that this kernel does not have, with the reason.
        extra_events: kinds made at run time from tracefs, so that a reader needs no kernel.
        names: number-to-name tables of the recorded machine (``irq``).
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
    names: dict[str, dict[str, str]] = field(default_factory=dict)
    clocks: list[dict[str, int]] = field(default_factory=list)
    ledger: list[LedgerLine] = field(default_factory=list)
    complete: bool = True
    late: bool = False

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
        except (ValueError, KeyError, TypeError) as error:
            raise CaptureError(f"{where}: the capture's footer is damaged ({error})", _DAMAGED) from error
        if major > events.FORMAT_MAJOR:
            raise CaptureError(
                f"{where} has capture format {major} (written by tracectl {version}); "
                f"this tracectl reads up to format {events.FORMAT_MAJOR}",
                "a newer tracectl reads it: pip install --upgrade tracectl",
            )
        try:
            known = {name: value for name, value in data.items() if name in cls.__dataclass_fields__}
            known["ledger"] = [LedgerLine(**line) for line in data.get("ledger", [])]
            return cls(**known)
        except TypeError as error:
            raise CaptureError(f"{where}: the capture's footer is damaged ({error})", _DAMAGED) from error


_DAMAGED = "copy it again from where it was recorded, or record again"


def event_to_json(event: Event) -> dict[str, Any]:
    """A run-time kind as the footer keeps it."""
    columns = [{"name": c.name, "type": c.type.arrow, "doc": c.doc} for c in event.fields]
    return {
        "kind": event.kind,
        "stream": event.stream,
        "doc": event.doc,
        "probes": list(event.probes),
        "fields": columns,
    }


def _event_from_json(entry: dict[str, Any]) -> Event:
    columns = tuple(Field(c["name"], _TYPES[c["type"]], c["doc"]) for c in entry["fields"])
    return Event(entry["kind"], entry["stream"], entry["doc"], tuple(entry["probes"]), columns)
