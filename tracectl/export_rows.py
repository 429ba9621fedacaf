"""Names in exports: what an answer's row is called on a timeline or in a flame graph, and names made harmless."""

from __future__ import annotations

from collections.abc import Mapping

from tracectl.text import visible

# Columns that tell rows of one thread apart, in the order in which they are shown.
DETAILS = ("source", "name", "end_state", "state", "cause", "context", "vec_name", "kind")


def row_name(row: Mapping[str, object]) -> str:
    """A short name for a row: its thread and what tells it apart from others of that thread."""
    who = f"{row['comm']} {row['tid']}" if row.get("comm") is not None and "tid" in row else ""
    words = [str(row[name]) for name in DETAILS if row.get(name) is not None]
    return ", ".join([part for part in (who, " ".join(words)) if part]) or "row"


def harmless(text: str) -> str:
    """The text on one line, with nothing that a terminal obeys or that ends a script in a page."""
    return visible(text).replace("</", "\\x3c/")
