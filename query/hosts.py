"""``on host``: which captures of a set are asked at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from tracectl.query.clause import Clause
from tracectl.query.place import On
from tracectl.query.values import did_you_mean, name_of, place_of, tree_in
from tracectl.store.errors import QueryError

T = TypeVar("T")


def chosen(clauses: Iterable[Clause], parts: Sequence[T], host: Callable[[T], str], text: str) -> list[T]:
    """Those that are of the hosts named by ``on host``; all where none is named.

    Raises:
        QueryError: none is of that host.
    """
    kept = list(parts)
    for clause in clauses:
        node = tree_in(clause.node) if isinstance(clause, On) else None
        if node is None or node.data != "host":
            continue
        name = name_of(tree_in(node))
        left = [part for part in kept if name.matches(host(part))]
        if not left:
            known = sorted({host(part) for part in parts} - {""})
            remedy = did_you_mean(name.text, known) or f"hosts: {', '.join(known) or 'not known'}"
            place = place_of(node)
            raise QueryError(
                f'no capture is of host "{name.text}"', remedy, text=text, start=place.start, end=place.end
            )
        kept = left
    return kept
