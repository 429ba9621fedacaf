"""Small traces that show a fault put in on purpose: found once by a search, kept as text, tried in every run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

from hypothesis import Phase, find, settings
from traces import Case, Loss, Step, cases

_KEPT = Path(__file__).with_name("caught.json")
# A search that takes longer has the wrong kind of traces. (To make what it found smaller takes far longer.)
_SEARCH = settings(max_examples=20_000, phases=[Phase.generate])


def case_of(name: str, focus: str, shows: Callable[[Case], bool]) -> Case:
    """The trace kept under a name.

    Args:
        shows: whether a trace shows the fault; with ``TRACECTL_REWRITE=1`` another is searched for where it does not.
    """
    kept = json.loads(_KEPT.read_text()) if _KEPT.exists() else {}
    case = _case(*kept[name]) if name in kept else None
    if "TRACECTL_REWRITE" in os.environ and not (case and shows(case)):
        case = find(cases(focus), shows, settings=_SEARCH)
        kept[name] = astuple(case)
        lines = (f"{json.dumps(one)}: {json.dumps(kept[one])}" for one in sorted(kept))
        _KEPT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    assert case, f"no trace is kept for {name}: TRACECTL_REWRITE=1 searches for one"
    return case


def _case(focus: str, steps: list[list[Any]], losses: list[list[Any]], blur: str, declared: bool) -> Case:
    return Case(focus, tuple(Step(*one) for one in steps), tuple(Loss(*one) for one in losses), blur, declared)
