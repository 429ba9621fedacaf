"""Durations as people type them: the units, and nanoseconds of a number and its unit, exactly."""

from __future__ import annotations

import re

NS_PER = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
LONGEST = (1 << 63) - 1  # ns: 292 years
_DURATION = re.compile(r"([0-9]+)(?:\.([0-9]+))?\s*([A-Za-zµμ]*)")


def nanoseconds(text: str, unit: str = "") -> int | None:
    """``20.9s`` in ns; what is below a nanosecond is cut off.

    Args:
        unit: of a number without one; empty: it needs one.

    Returns:
        None where this is no duration, or one longer than 292 years.
    """
    match = _DURATION.fullmatch(text)
    per = NS_PER.get(match[3] or unit) if match else None
    if match is None or per is None:
        return None
    fraction = match[2] or ""
    # Python's int() takes thousands of digits, but time for each.
    if len(match[1]) > 19 or len(fraction) > 30:
        return None
    value = int(match[1]) * per + int(fraction or "0") * per // int(10 ** len(fraction))
    return value if value <= LONGEST else None
