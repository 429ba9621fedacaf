"""A replay in the shape of BCC's Python: ``callback(cpu, data, size)`` with a ctypes struct, ``lost(cpu, count)``."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from tracectl.replay import Lost, Pace, Row, Tape
from tracectl.store.relations import kind_columns

if TYPE_CHECKING:
    from tracectl.store.capture import Capture
    from tracectl.store.database import Database
    from tracectl.store.events import Event as Kind

OnEvent = Callable[[int, Any, int], object]
OnLost = Callable[[int, int | None], object]
UNKNOWN = -1
_NUMBERS = {"int16": ctypes.c_int16, "int32": ctypes.c_int32, "int64": ctypes.c_int64}
_COMM, _TEXT = 16, 128  # bytes, as TASK_COMM_LEN and longer strings have them


@cache
def struct_of(kind: Kind) -> tuple[type[ctypes.Structure], list[str]]:
    """The struct of a kind's events, and the columns of the capture that fill its members, in order.

    Numbers are signed integers as wide as in the capture; texts are char arrays, names of threads of 16 bytes, others
    of 128.
    """
    members: list[tuple[str, Any]] = []
    columns = []
    for name, (stored, _) in kind_columns(kind).items():
        column = next(c for c in kind.columns if c.name == stored)
        size = _COMM if column.type.c == "char {}[16]" else _TEXT
        members.append((name, _NUMBERS.get(column.type.arrow, ctypes.c_char * size)))
        columns.append(stored)
    return type(f"{kind.kind}_t", (ctypes.Structure,), {"_fields_": members}), columns


def play(
    opened: Capture, database: Database, on_event: OnEvent, on_lost: OnLost | None = None, *,
    kinds: Sequence[str] = (), speed: float | None = None,
) -> None:  # fmt: skip
    """Call back for every event, and for every gap where it ends.

    Args:
        on_event: gets the CPU, a pointer to the event's struct (``data.contents``) and its size. What the capture does
            not know is -1, or an empty text.
        on_lost: gets the CPU (-1: any) and the number of lost events (None: nobody counted).
        kinds: only these; empty: all. The struct's member ``kind`` tells.
        speed: 1: as fast as they came; None: as fast as can be.
    """
    tape = Tape(opened, database, kinds)
    at = {name: place for place, name in enumerate(tape.columns)}
    makers = {kind: _maker(opened.catalogue.events[kind], at) for kind in tape.kinds}
    pace = None if speed is None else Pace(speed, opened.start_ts)
    for page in tape.play():
        for row in page:
            if pace is not None:
                pace.wait(row.ts if isinstance(row, Lost) else row[tape.ts])
            if not isinstance(row, Lost):
                data, size = makers[row[at["kind"]]](row)
                cpu = row[at["cpu"]]
                on_event(UNKNOWN if cpu is None else cpu, data, size)
            elif on_lost is not None:
                on_lost(UNKNOWN if row.cpu is None else row.cpu, row.lost_count)


def _maker(kind: Kind, at: dict[str, int]) -> Callable[[Row], tuple[Any, int]]:
    struct, columns = struct_of(kind)
    pick = itemgetter(*(at[name] for name in columns))
    texts = [getattr(struct, name).size if issubclass(form, ctypes.Array) else 0 for name, form, *_ in struct._fields_]
    size = ctypes.sizeof(struct)

    def make(row: Row) -> tuple[Any, int]:
        values = (_member(value, longest) for value, longest in zip(pick(row), texts, strict=True))
        return ctypes.pointer(struct(*values)), size

    return make


def _member(value: Any, longest: int) -> int | bytes:
    """A value for a member; a text is cut so that a zero byte fits behind it, as the kernel does."""
    if not longest:
        return UNKNOWN if value is None else int(value)
    return b"" if value is None else str(value).encode()[: longest - 1]
