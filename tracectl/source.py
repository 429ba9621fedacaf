"""Where the rows of a capture come from, as SQL: the commands that look at rows as they were recorded."""

from __future__ import annotations

from tracectl.store.capture import Capture
from tracectl.store.database import quote_path


def rows_sql(capture: Capture) -> str:
    """A table expression for FROM with all rows of a capture, bookkeeping kinds included."""
    return f"read_parquet([{', '.join(map(quote_path, capture.files))}], union_by_name = true)"
