"""The relations of several captures as views for SQL: each capture's own rows under each other, with whose they are."""

from __future__ import annotations

from collections.abc import Sequence

from tracectl.store.captures import CaptureSet
from tracectl.store.database import quote_string
from tracectl.store.relations import Relations, quote_name, quote_name_of


def views_together(whole: CaptureSet, relations: Sequence[Relations]) -> list[str]:
    """Statements that make every relation that any of the captures has a view over all of them.

    Args:
        relations: of each member, in the same order.
    """
    names = dict.fromkeys(name for one in relations for name in one.ordered(one.names()))
    return [f"CREATE VIEW {quote_name_of(name)} AS\n{_union(whole, relations, name)}" for name in names]


def _union(whole: CaptureSet, relations: Sequence[Relations], name: str) -> str:
    branches = []
    for member, own in zip(whole.members, relations, strict=True):
        if name not in own.known():
            continue
        units = own.units(name)
        moments = [quote_name(column) for column, unit in units.items() if unit == "clock"]
        moved = ", ".join(f"{column} + ({member.shift}) AS {column}" for column in moments)
        host = "NULL" if member.host is None else quote_string(member.host)
        labels = ((quote_string(member.name), "capture"), (host, "host"))
        shown = [f"CAST({text} AS VARCHAR) AS {label + '_' * (label in units)}" for text, label in labels]
        star = f"* REPLACE ({moved})" if moved and member.shift else "*"
        inner = f"{own.with_clause([name])}\nSELECT * FROM {quote_name_of(name)}"
        branches.append(f"SELECT {', '.join(shown)}, {star}\nFROM (\n{inner}\n) AS own")
    return "\nUNION ALL BY NAME\n".join(branches)
