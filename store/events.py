"""The event catalogue: every kind of row a capture can hold, declared once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from tracectl.store import bookkeeping, kinds, kinds_imported, kinds_io
from tracectl.store.entry import (
    BASE_FIELDS,
    BOOKKEEPING,
    CAUSES,
    CONTEXTS,
    EXTRA,
    LOST_STACK,
    NEVER_EMITTED_PROBES,
    SOFTIRQS,
    TCP_STATES,
    VECTOR_CONTEXTS,
    WAIT_CAUSES,
    Event,
)
from tracectl.store.fields import Field

__all__ = [
    "BASE_FIELDS",
    "BOOKKEEPING",
    "CATALOGUE",
    "CAUSES",
    "CONTEXTS",
    "DEFAULT_GROUPS",
    "EXTRA",
    "FORMAT_MAJOR",
    "FORMAT_MINOR",
    "GROUPS",
    "KINDS",
    "LOST_STACK",
    "NEVER_EMITTED_PROBES",
    "SOFTIRQS",
    "TCP_STATES",
    "VECTOR_CONTEXTS",
    "WAIT_CAUSES",
    "Catalogue",
    "Event",
    "probe_matches",
]

FORMAT_MAJOR = 1
FORMAT_MINOR = 0

_OF_THREADS = kinds.SCHED + kinds.TASK + kinds.IRQS + kinds.RUNQ
_RECORDED = _OF_THREADS + kinds_io.EPOLL + kinds_io.NET + kinds_io.SYSCALL + kinds_io.PROFILE
_IMPORTED = kinds_imported.FUNCTION + kinds_imported.TOTAL
CATALOGUE: tuple[Event, ...] = _RECORDED + _IMPORTED + bookkeeping.ENTRIES
KINDS: dict[str, Event] = {event.kind: event for event in CATALOGUE}
GROUPS: dict[str, tuple[str, ...]] = {
    stream: tuple(event.kind for event in CATALOGUE if event.stream == stream)
    for stream in ("sched", "task", "irq", "runq", "epoll", "net", "syscall", "profile")
}
# What is recorded when nothing is asked for by name.
DEFAULT_GROUPS = tuple(group for group in GROUPS if group not in ("syscall", "profile", "runq"))


@dataclass(frozen=True)
class Catalogue:
    """The kinds one capture uses: those built in and those made at run time from a tracefs format file."""

    events: dict[str, Event] = field(default_factory=lambda: dict(KINDS))

    @classmethod
    def of(cls, events: Iterable[Event]) -> Catalogue:
        """A catalogue of the built-in kinds and these (later ones win)."""
        return cls({**KINDS, **{event.kind: event for event in events}})

    def columns(self) -> dict[str, Field]:
        """Every column with its declaration, base columns first.

        Raises:
            ValueError: one name has two types.
        """
        found: dict[str, Field] = {}
        for event in self.events.values():
            for column in event.columns:
                known = found.setdefault(column.name, column)
                if known.type.arrow != column.type.arrow:
                    raise ValueError(
                        f"column {column.name} is {known.type.arrow} and, in {event.kind}, {column.type.arrow}"
                    )
        return found


def probe_matches(pattern: str, tracepoint: str) -> bool:
    """Whether a probe pattern of the catalogue (``category:event`` with globs) covers a tracepoint."""
    return fnmatchcase(tracepoint, pattern)
