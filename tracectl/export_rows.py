"""An answer's rows in words: what one is called on a timeline or in a flame graph."""

from __future__ import annotations

from collections.abc import Mapping

# Columns that tell rows of one thread apart, in the order in which they are shown.
DETAILS = ("source", "name", "end_state", "state", "cause", "context", "vec_name", "kind")


def row_name(row: Mapping[str, object]) -> str:
    """A short name for a row: its thread and what tells it apart from others of that thread."""
    who = f"{row['comm']} {row['tid']}" if row.get("comm") is not None and "tid" in row else ""
    words = [str(row[name]) for name in DETAILS if row.get(name) is not None]
    return ", ".join([part for part in (who, " ".join(words)) if part]) or "row"
