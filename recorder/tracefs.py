"""Tracepoints as the running kernel declares them in tracefs: which exist, their fields, how task states print."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from tracectl.store.errors import RecordError
from tracectl.store.events import EXTRA, Event
from tracectl.store.fields import COMM, IP, NAME, PATH, S16, S32, S64, Field, FieldType

_PLACES = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")


@dataclass(frozen=True)
class FormatField:
    """One ``field:`` line of a format file; ``offset`` and ``size`` in bytes."""

    declaration: str
    name: str
    offset: int
    size: int
    signed: bool

    @property
    def form(self) -> str:
        """``data_loc`` or ``rel_loc`` (where an array behind the record is), ``array`` (in place) or ``number``."""
        if self.declaration.startswith(("__data_loc", "__rel_loc")):
            return self.declaration[2:].partition(" ")[0]
        return "array" if "[" in self.declaration else "number"

    @property
    def array(self) -> bool:
        """Whether it is an array in place."""
        return self.form == "array"


@dataclass(frozen=True)
class Format:
    """A parsed format file, without the common fields."""

    fields: tuple[FormatField, ...]
    print_format: str


@cache
def root() -> Path:
    """Where tracefs is mounted.

    Raises:
        RecordError: not mounted, or not readable for this user.
    """
    for place in map(Path, _PLACES):
        try:
            if (place / "events").is_dir():
                return place
        except PermissionError as error:
            raise RecordError(f"{place} cannot be read by this user", "record as root (sudo)") from error
    raise RecordError("tracefs is not mounted", f"mount -t tracefs tracefs {_PLACES[0]}")


@cache
def tracepoints() -> frozenset[str]:
    """All tracepoints of this kernel, as ``category:event``."""
    return frozenset(f"{path.parent.parent.name}:{path.parent.name}" for path in root().glob("events/*/*/format"))


_FIELD = re.compile(
    r"field:(?P<decl>.*?);\s*offset:(?P<offset>\d+);\s*size:(?P<size>\d+);(?:\s*signed:(?P<signed>\d);)?"
)


def parse_format(text: str) -> Format:
    """Parse the text of a tracefs format file."""
    fields = []
    for match in _FIELD.finditer(text):
        declaration = match["decl"].strip()
        name = re.sub(r"\[.*?\]$", "", declaration).split()[-1].lstrip("*")
        if not name.startswith("common_"):
            signed = match["signed"] == "1"
            fields.append(FormatField(declaration, name, int(match["offset"]), int(match["size"]), signed))
    print_format = text.partition("print fmt:")[2].strip()
    return Format(tuple(fields), print_format)


def read_format(tracepoint: str) -> Format:
    """Format of a tracepoint that exists."""
    category, _, event = tracepoint.partition(":")
    return parse_format((root() / "events" / category / event / "format").read_text())


def runtime_event(tracepoint: str) -> Event:
    """A catalogue entry for any tracepoint, made from its format file.

    Its columns are stored as ``<kind>__<field>``, since fields of one name differ in type between tracepoints.
    Arrays of numbers, ``__rel_loc`` fields and fields wider than 8 bytes that are no text are left out.
    """
    kind = tracepoint.partition(":")[2]
    columns = []
    for found in read_format(tracepoint).fields:
        kept = _column(found)
        if kept is not None:
            columns.append(replace(kept, name=f"{kind}__{found.name}"))
    return Event(kind, EXTRA, f"tracepoint {tracepoint}, as the kernel declares it", (tracepoint,), tuple(columns))


_INTEGERS: dict[tuple[int, bool], FieldType] = {
    (1, False): S16, (1, True): S16, (2, True): S16, (2, False): S32, (4, True): S32, (4, False): S64,
    (8, True): S64, (8, False): S64,
}  # fmt: skip


def _column(found: FormatField) -> Field | None:
    kind = _field_type(found)
    if kind is None:
        return None
    # Through s64: pointers and enumerations convert to the record's integer the same way.
    reads = {
        "data_loc": f"DATA_LOC({found.name})",
        "array": f"args->{found.name}",
        "number": f"(s64)args->{found.name}",
    }
    return Field(found.name, kind, found.declaration, reads[found.form])


def _field_type(found: FormatField) -> FieldType | None:
    words = set(re.findall(r"\w+", found.declaration.rpartition(found.name)[0]))
    text = "char" in words and "unsigned" not in words
    if found.form == "number":
        return _INTEGERS.get((found.size, found.signed))
    if found.form == "data_loc":
        return NAME if text else None
    if found.form == "array" and text:
        return COMM if found.size <= 16 else NAME if found.size <= 32 else PATH
    return IP if found.name.endswith("addr_v6") and found.size == 16 else None


def has_fields(event: Event, tracepoint: str) -> bool:
    """Whether a classic tracepoint of this kernel has all the fields the entry reads."""
    names = {found.name for found in read_format(tracepoint).fields}
    read = {name for column in event.fields for name in re.findall(r"args->(\w+)|DATA_LOC\((\w+)\)", column.c)}
    return {a or b for a, b in read} <= names


_FLAG = re.compile(r"\{\s*(0x[0-9a-fA-F]+|\d+)\s*,\s*\"(\w+)\"\s*\}")


def task_state_names(print_format: str) -> Callable[[int], str]:
    """How ``sched_switch`` prints prev_state (``S``, ``D``, ``R+``, …), from the format's own text.

    The preempted flag is a bit above the states, whose place differs between kernels; the print format holds the very
    expression.

    Raises:
        RecordError: the format is of a form not known.
    """
    flags = {int(value, 0): name for value, name in _FLAG.findall(print_format)}
    before_plus, found, _ = print_format.partition('? "+"')
    if not flags or not found:
        raise RecordError("the kernel's sched_switch format is of an unknown form", "report it with the kernel version")
    plus = _evaluate(before_plus.rpartition("REC->prev_state &")[2])

    def name(state: int) -> str:
        letters = [letter for bit, letter in flags.items() if state & bit]
        unnamed = state & (plus - 1) & ~sum(flags)
        text = "|".join([*letters, hex(unnamed)] if unnamed else letters) or "R"
        return text + "+" if state & plus else text

    return name


def _evaluate(expression: str) -> int:
    """Value of a constant C expression of numbers, ``| + - <<`` and parentheses."""
    tokens = re.findall(r"0[xX][0-9a-fA-F]+|\d+|<<|[|+\-()]", expression)
    try:
        if "".join(tokens) != re.sub(r"\s+", "", expression):
            raise ValueError("more than numbers and operators")
        # Only digits and these operators are left, which mean the same in Python.
        return int(eval(" ".join(str(int(t, 0)) if t[0].isdigit() else t for t in tokens), {"__builtins__": {}}))
    except (ValueError, SyntaxError, TypeError) as error:
        raise RecordError(
            f"cannot read the kernel's preempted flag: {expression.strip() or 'none'}",
            "report it with the kernel version",
        ) from error
