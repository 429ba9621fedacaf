"""Which kinds to record: ``-e`` names, groups and tracepoints resolved against what this kernel has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from tracectl.recorder import btf, tracefs
from tracectl.recorder.attach import USER_PROBES, category_of, is_tracepoint, short_name
from tracectl.recorder.functions import event_of
from tracectl.recorder.probe_spec import is_spec, parse_spec
from tracectl.recorder.syscall import try_tracing
from tracectl.store.columns import CALLBACK, STACKS
from tracectl.store.errors import RecordError, UserError
from tracectl.store.events import DEFAULT_GROUPS, GROUPS, KINDS, NEVER_EMITTED_PROBES, Event, probe_matches
from tracectl.store.fields import Field

_REALTIME = Path("/sys/kernel/realtime")


@dataclass(frozen=True)
class Selection:
    """Kinds to record.

    Attributes:
        tracepoints: for each kind the probes of this kernel that write it, never empty.
        missing: kinds asked for through a group (or by default) that this kernel cannot give, with the reason.
        every: of each kind one event of so many is recorded on each CPU, but all of the ``task`` group.
        min_delay_ns: ``runq_delay`` is recorded of waits longer than this.
    """

    events: tuple[Event, ...]
    tracepoints: dict[str, tuple[str, ...]]
    missing: dict[str, str]
    every: int = 1
    min_delay_ns: int = 0

    @property
    def filled(self) -> dict[str, list[str]]:
        """The catalogue's optional columns that are recorded, by kind."""
        found = {}
        for event in self.events:
            optional = {column.name for column in KINDS[event.kind].optional} if event.kind in KINDS else set()
            found[event.kind] = sorted(optional & {column.name for column in event.fields})
        return {kind: columns for kind, columns in found.items() if columns}


def select(names: Sequence[str], stacks: Sequence[str] = ()) -> Selection:
    """Resolve what ``record -e`` names; nothing named means every group but ``syscall``, ``profile`` and ``runq``.

    The ``task`` group is always recorded: it is cheap, and identifies threads.

    Args:
        stacks: kinds that get call stacks; they are recorded whether or not they are named.

    Raises:
        UserError: a name that is no kind, group or tracepoint of this kernel.
    """
    with_stacks = split_names(stacks)
    wanted = (split_names(names) or list(DEFAULT_GROUPS)) + with_stacks
    explicit: dict[str, Event] = {}
    by_group: dict[str, Event] = {}
    for name in wanted:
        if name in GROUPS:
            by_group |= {kind: KINDS[kind] for kind in GROUPS[name]}
        else:
            event = _event(name)
            explicit[event.kind] = _wider(explicit.get(event.kind, event), event, name)
    _check_places(explicit.values())
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
    stacked = {_event(name).kind for name in with_stacks}
    if "ep_poll_callback" in found and "sched_waking" in found:
        through = [column for column in KINDS["sched_waking"].optional if column in CALLBACK]
        by_group |= {"sched_waking": _with({**by_group, **explicit}["sched_waking"], through)}
        explicit.pop("sched_waking", None)
    events = tuple(
        _with(event, STACKS) if kind in stacked else event
        for kind, event in {**by_group, **explicit}.items()
        if kind in found
    )
    return Selection(events, found, missing)


def _wider(before: Event, event: Event, name: str) -> Event:
    """Of two entries of one kind, which were both asked for, the one that has the columns of both."""
    if before.probes != event.probes:
        raise UserError(f"-e {name}: its kind {event.kind} is also made by {before.probes[0]}")
    for one, other in ((before, event), (event, before)):
        if set(one.fields) >= set(other.fields):
            return one
    raise UserError(
        f"-e {name}: other fields of {event.kind} are kept already", "name it once, with the fields of both"
    )


def _check_places(events: Iterable[Event]) -> None:
    """A place in a program makes one kind of rows."""
    taken: dict[str, str] = {}
    for event in events:
        for probe in event.probes:
            if category_of(probe) in USER_PROBES and taken.setdefault(probe, event.kind) != event.kind:
                problem = f"-e: {short_name(probe)} would be of kind {taken[probe]} and of kind {event.kind}"
                raise UserError(problem, "name it once: a pattern takes in what else it fits")


def split_names(names: Iterable[str]) -> list[str]:
    """The names in texts separated by commas; those between parentheses separate nothing."""
    found = []
    for name in names:
        depth, begin = 0, 0
        for at, c in enumerate(name + ","):
            depth += (c == "(") - (c == ")")
            if (c == "," and depth <= 0) or at == len(name):
                found.append(name[begin:at].strip())
                begin = at + 1
    return [name for name in found if name]


def _with(event: Event, columns: Iterable[Field]) -> Event:
    """The kind with these optional columns recorded."""
    more = tuple(columns)
    rest = tuple(column for column in event.optional if column not in more)
    return replace(event, fields=event.fields + more, optional=rest)


def matching(event: Event) -> tuple[str, ...]:
    """The probes of this kernel that an entry's patterns cover, sorted."""
    if not all(is_tracepoint(probe) for probe in event.probes):
        return event.probes
    return tuple(sorted(t for t in tracefs.tracepoints() if any(probe_matches(p, t) for p in event.probes)))


def _reason_missing(event: Event) -> str:
    if category_of(event.probes[0]) in ("fentry", "fexit"):
        return untraceable(event.probes[0].partition(":")[2])
    found = matching(event)
    if not found:
        return f"this kernel has no tracepoint {event.probes[0]}"
    if (
        is_tracepoint(event.probes[0])
        and not event.raw
        and not all(tracefs.has_fields(event, tracepoint) for tracepoint in found)
    ):
        return f"the tracepoint {found[0]} of this kernel lacks a field that is read"
    return ""


@cache
def untraceable(function: str) -> str:
    """Why a kernel function that the catalogue knows cannot be traced here; empty: it can."""
    if _REALTIME.exists() and _REALTIME.read_text().strip() == "1":
        # There a callback can be preempted, and what is kept of it per CPU would be another's.
        return "this kernel is PREEMPT_RT: what a wakeup came through cannot be told"
    number = btf.kernel().func_id(function)
    if number is None:
        return f"this kernel has no function {function}, or gives it another name"
    try:
        for paths in re.findall(r"OFFSET\(([\w.|]+)\)", Path(__file__).with_name("epoll.c").read_text("utf-8")):
            btf.kernel().offset(*paths.split("|"))
        try_tracing(number, exit_too=True)
    except RecordError as error:
        return error.problem
    except OSError as error:
        return f"this kernel does not let functions be traced by BPF (fentry: {error.strerror})"
    return ""


def _event(name: str) -> Event:
    if name in KINDS and KINDS[name].imported:
        raise UserError(f"-e {name}: no probe records it, only imports of other tools' traces have it")
    if name in KINDS and not KINDS[name].bookkeeping:
        return KINDS[name]
    if is_spec(name):
        return event_of(parse_spec(name))
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
    full = list(dict.fromkeys(map(_full, near)))  # a kind may have its tracepoint's name
    choice = f"groups: {', '.join(GROUPS)}; any tracepoint as category:event; kprobe:, uprobe:, usdt: …"
    return f"nearest: {', '.join(full)}" if full else choice


def _short_names(tracepoints: Iterable[str]) -> list[str]:
    return [part for tracepoint in tracepoints for part in (tracepoint, tracepoint.partition(":")[2])]


def _full(name: str) -> str:
    if ":" in name or name in GROUPS or name in KINDS:
        return name
    return next(t for t in tracefs.tracepoints() if t.partition(":")[2] == name)
