"""Views of a capture that lost nothing: without the looks at gaps that every row would take in vain."""

from __future__ import annotations

import re

# As all views look: the last gap that began before a row's end, joined to it at most once. `touched` and its like say
# what holds without one.
_GAP = re.compile(r"\n *ASOF LEFT JOIN \(SELECT [^()]*\bFROM gap_reach[^()]*\) AS gap\b(?:\n *ON | ON )[^\n]*")
_REACH = re.compile(r"COALESCE\(gap\.reach (?:>=|<) [^,()]+, (TRUE|FALSE)\)")


def without_gaps(sql: str) -> str:
    """A view's SELECT, with the same rows as long as there is no gap; unchanged where it looks at gaps otherwise."""
    text = _REACH.sub(r"\1", _GAP.sub("", sql))
    return sql if re.search(r"\bgaps?\b|\bgap_reach", re.sub(r"--.*", "", text)) else text
