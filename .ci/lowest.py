"""Prints the oldest version of each dependency that pyproject.toml allows, as pip takes it: ``duckdb==1.5`` …"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

_BOUND = re.compile(r"([\w.-]+)(?:\[[^\]]*\])?>=([\w.]+)")


def lowest(pyproject: Path) -> list[str]:
    """The lower bounds of the dependencies, exactly.

    Raises:
        ValueError: one has no lower bound.
    """
    pinned = []
    for line in tomllib.loads(pyproject.read_text("utf-8"))["project"]["dependencies"]:
        found = _BOUND.match(line)
        if found is None:
            raise ValueError(f"no lower bound: {line}")
        pinned.append(f"{found[1]}=={found[2]}")
    return pinned


if __name__ == "__main__":
    print("\n".join(lowest(Path(__file__).parents[1] / "pyproject.toml")))  # noqa: T201
