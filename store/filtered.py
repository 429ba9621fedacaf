"""What a task filter of a recording does to rows that pair events: only those about threads inside it can be certain.

An event is recorded when one of the threads it is about is inside. Of a thread outside only the events are there that
it shares with one inside, so that what stands next to each other need not belong together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracectl.store.containers import container_id, path_pattern
from tracectl.store.database import quote_string

if TYPE_CHECKING:
    from tracectl.store.relations import View

_MOUNT = "/sys/fs/cgroup"
_NUMBER = re.compile(r"(pid|tid) (\d+)(?: or |$)")
_NAME = re.compile(r" or (?=(?:comm|cgroup) )")
# Relation -> the columns of the thread whose events it pairs. Others have rows of threads inside the filter only.
_PAIRED = {
    "runs": ("tid", "pid", "comm"),
    "delays": ("tid", "pid", "comm"),
    "sleeps": ("tid", "pid", "comm"),
    "switches": ("next_tid", "next_pid", "next_comm"),
    "chains": ("tid", "NULL", "comm"),
    "critical_path": ("tid", "NULL", "comm"),
    "wakeups_by_spans": ("waker_tid", "waker_pid", "waker_comm"),
}


@dataclass(frozen=True)
class Inside:
    """A task filter, read from the words that the recorder put into the capture (``TaskFilter.describe``)."""

    numbers: frozenset[tuple[str, int]]
    comms: tuple[str, ...]
    cgroups: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Inside:
        """Read it. Numbers come first: what looks like one behind a name is part of the name."""
        numbers = set()
        while found := _NUMBER.match(text):
            numbers.add((found[1], int(found[2])))
            text = text[found.end() :]
        parts = [part.partition(" ") for part in _NAME.split(text)]
        comms = tuple(rest for word, _, rest in parts if word == "comm")
        cgroups = tuple(rest.removeprefix(_MOUNT).rstrip("/") for word, _, rest in parts if word == "cgroup")
        return cls(frozenset(numbers), comms, cgroups)

    @property
    def by_change(self) -> bool:
        """Whether it depends on what a living thread can change."""
        return bool(self.comms or self.cgroups)

    def sql(self, tid: str, pid: str, comm: str) -> str:
        """A condition on a thread that is true for those inside, and false where that is not known."""
        tests = [f"{tid if what == 'tid' else pid} = {number}" for what, number in sorted(self.numbers)]
        for name in self.comms:
            fixed = quote_string(name.removesuffix("*"))
            tests.append(f"STARTS_WITH({comm}, {fixed})" if name.endswith("*") else f"{comm} = {fixed}")
        for path in self.cgroups:
            below = f"cgroup = {quote_string(path)} OR STARTS_WITH(cgroup, {quote_string(path + '/')})"
            tests.append(f"{tid} IN (SELECT tid FROM thread_cgroups WHERE {below})")
        return f"COALESCE({' OR '.join(tests) or 'FALSE'}, FALSE)"

    def holds(self, what: str, value: int | str) -> bool:
        """Whether all threads that a question names are inside.

        Args:
            what: ``tid``, ``pid``, ``comm``, ``cgroup`` or ``container``.
            value: a number, or a name where ``*`` and ``?`` stand for anything.
        """
        if isinstance(value, int):
            return (what, value) in self.numbers
        if what == "container":
            found = (re.search(path_pattern(container_id(value)), path) for path in self.cgroups)
            return any(match is not None and match.end() == len(match.string) for match in found)
        fixed = re.split(r"[*?]", value, maxsplit=1)[0]
        if what == "comm":
            return any(fixed.startswith(name[:-1]) if name.endswith("*") else value == name for name in self.comms)
        return any(value == path or fixed.startswith(path + "/") for path in self.cgroups)


# Calls by which a thread can go out of a filter by name or cgroup and into it again: the recorded return may be that of
# a later call. A call without a name may be any.
_LEAVING = (
    "(name IN ('prctl', 'execve', 'execveat', 'write', 'writev', 'pwrite64', 'pwritev', 'pwritev2', 'io_uring_enter')"
    " OR name LIKE 'compat:%' OR TRY_CAST(name AS BIGINT) IS NOT NULL)"
)


def only_inside(view: View, text: str) -> str:
    """The SELECT of a relation in a filtered recording."""
    filter_ = Inside.of(text)
    if view.name == "syscalls":
        numbers = Inside(filter_.numbers, (), ()).sql("tid", "pid", "comm")
        return _judged(view, f"certain AND ({numbers} OR NOT {_LEAVING})") if filter_.by_change else view.sql
    if view.name not in _PAIRED:
        return view.sql
    # Other threads than the one asked about, and who had a CPU meanwhile, need not be in the recording.
    own = "depth = 0 AND what <> 'runnable' AND " if view.walked else ""
    return _judged(view, f"certain AND {own}{filter_.sql(*_PAIRED[view.name])}")


def _judged(view: View, inside: str) -> str:
    columns = [
        f"CASE WHEN {inside} THEN {name} END AS {name}" if column.derived else name
        for name, column in view.columns.items()
        if name != "certain"
    ]
    return f"SELECT {', '.join(columns)}, {inside} AS certain\nFROM (\n{view.sql}\n) AS paired"
