"""Which kinds to record: ``-e`` names, groups and tracepoints resolved against what this kernel has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from tracectl.recorder import tracefs
from tracectl.store.errors import UserError
from tracectl.store.events import DEFAULT_GROUPS, GROUPS, KINDS, NEVER_EMITTED_PROBES, Event, probe_matches


@dataclass(frozen=True)
class Selection:
    """Kinds to record.

    Attributes:
        tracepoints: for each kind the tracepoints of this kernel that write it, never empty.
        missing: kinds asked for through a group (or by default) that this kernel cannot give, with the reason.
    """

    events: tuple[Event, ...]
    tracepoints: dict[str, tuple[str, ...]]
    missing: dict[str, str]


def select(names: Sequence[str]) -> Selection:
    """Resolve what ``record -e`` names; nothing named means every group.

    The ``task`` group is always recorded: it is cheap, and identifies threads.

    Raises:
        UserError: a name that is no kind, group or tracepoint of this kernel.
    """
    wanted = [part.strip() for name in names for part in name.split(",") if part.strip()] or list(DEFAULT_GROUPS)
    explicit: dict[str, Event] = {}
    by_group: dict[str, Event] = {}
    for name in wanted:
        if name in GROUPS:
            by_group |= {kind: KINDS[kind] for kind in GROUPS[name]}
        else:
            event = _event(name)
            if explicit.get(event.kind, event).probes != event.probes:
                raise UserError(f"-e {name}: its kind {event.kind} is also made by {explicit[event.kind].probes[0]}")
            explicit[event.kind] = event
    by_group |= {kind: KINDS[kind] for kind in GROUPS["task"]}
    found: dict[str, tuple[str, ...]] = {}
    missing: dict[str, str] = {}
    for kind, event in {**by_group, **explicit}.items():
        reason = _reason_missing(event)
        if not reason:
            found[kind] = matching(event)
        elif kind in explicit:
            raise UserError(f"-e {kind}: {reason}", "tracectl doctor shows what this kernel has")
        else:
            missing[kind] = reason
    events = tuple(event for kind, event in {**by_group, **explicit}.items() if kind in found)
    return Selection(events, found, missing)


def matching(event: Event) -> tuple[str, ...]:
    """The tracepoints of this kernel that an entry's probes cover, sorted."""
    return tuple(sorted(t for t in tracefs.tracepoints() if any(probe_matches(p, t) for p in event.probes)))


def _reason_missing(event: Event) -> str:
    found = matching(event)
    if not found:
        return f"this kernel has no tracepoint {event.probes[0]}"
    if not event.raw and not all(tracefs.has_fields(event, tracepoint) for tracepoint in found):
        return f"the tracepoint {found[0]} of this kernel lacks a field that is read"
    return ""


def _event(name: str) -> Event:
    if name in KINDS and not KINDS[name].bookkeeping:
        return KINDS[name]
    if name in tracefs.tracepoints():
        return _catalogued(name) or _made(name)
    raise UserError(f"-e {name}: no such event, group or tracepoint", _hint(name))


def _made(tracepoint: str) -> Event:
    event = tracefs.runtime_event(tracepoint)
    if event.kind in KINDS:
        raise UserError(f"-e {tracepoint}: there is another kind of that name", f"-e {event.kind} records that one")
    if any(probe_matches(pattern, tracepoint) for pattern in NEVER_EMITTED_PROBES):
        raise UserError(f"-e {tracepoint}: delivering this event would cause the next one, without end")
    return event


def _catalogued(tracepoint: str) -> Event | None:
    """The built-in kind that a tracepoint alone makes up."""
    return next((event for event in KINDS.values() if event.probes == (tracepoint,)), None)


def _hint(name: str) -> str:
    kinds = [kind for kind, event in KINDS.items() if not event.bookkeeping]
    near = get_close_matches(name, [*GROUPS, *kinds, *_short_names(tracefs.tracepoints())], 3, 0.75)
    full = [_full(n) for n in near]
    choice = f"groups: {', '.join(GROUPS)}; any tracepoint as category:event"
    return f"nearest: {', '.join(full)}" if full else choice


def _short_names(tracepoints: Iterable[str]) -> list[str]:
    return [part for tracepoint in tracepoints for part in (tracepoint, tracepoint.partition(":")[2])]


def _full(name: str) -> str:
    if ":" in name or name in GROUPS or name in KINDS:
        return name
    return next(t for t in tracefs.tracepoints() if t.partition(":")[2] == name)
