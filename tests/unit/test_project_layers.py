"""The layer rules of docs/architecture.md, held against the imports that the files really have."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Package -> packages of ours it may import.
ALLOWED = {
    "store": {"tracectl.store"},
    "recorder": {"tracectl.store", "tracectl.recorder", "tracectl._version"},
    "query": {"tracectl.store", "tracectl.query"},
    "tracectl": {"tracectl"},
}
# Files below everything else, and what of ours they import.
BOTTOM: dict[str, set[str]] = {
    "store/errors.py": set(),
    "store/fields.py": set(),
    "store/entry.py": {"tracectl.store.fields"},
    "store/columns.py": {"tracectl.store.fields"},
    "store/kinds.py": {"tracectl.store.fields", "tracectl.store.entry", "tracectl.store.columns"},
    "store/kinds_io.py": {"tracectl.store.fields", "tracectl.store.entry", "tracectl.store.columns"},
    "store/kinds_imported.py": {"tracectl.store.fields", "tracectl.store.entry", "tracectl.store.columns"},
    "store/bookkeeping.py": {"tracectl.store.fields", "tracectl.store.entry"},
    "store/events.py": {
        "tracectl.store.fields",
        "tracectl.store.entry",
        "tracectl.store.kinds",
        "tracectl.store.kinds_io",
        "tracectl.store.kinds_imported",
        "tracectl.store.bookkeeping",
    },
}
# Who may import what from outside, where only one file may.
SINGLE = {"bcc": "recorder/bpf.py", "duckdb": "store/database.py"}


def tracked(pattern: str) -> list[str]:
    """Files of the packages that git knows, links left out."""
    listed = subprocess.run(["git", "ls-files", "--", pattern], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.splitlines() if not (ROOT / name).is_symlink() and (ROOT / name).exists()]


SOURCES = [name for package in ALLOWED for name in tracked(f"{package}/*.py")]


def imports(name: str) -> Iterator[str]:
    """Every module a file imports, at the top or inside functions."""
    for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("name", SOURCES)
def test_layers(name: str) -> None:
    package = name.partition("/")[0]
    for module in imports(name):
        if module.partition(".")[0] == "tracectl":
            owned = BOTTOM.get(name, ALLOWED[package])
            allowed = any(module == own or module.startswith(own + ".") for own in owned)
            assert allowed, f"{name} imports {module}"
        assert module.partition(".")[0] not in ("store", "recorder", "query"), f"{name} imports {module}"
        owner = SINGLE.get(module.partition(".")[0])
        assert owner in (None, name), f"{name} imports {module}, which is {owner}'s"


def test_there_are_sources() -> None:
    assert len(SOURCES) > 10 and set(SINGLE.values()) <= set(SOURCES)


@pytest.mark.parametrize("name", SOURCES)
def test_every_file_says_what_it_owns(name: str) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / name).read_text(encoding="utf-8")))
    assert docstring and re.search(r"[.:]$", docstring.split("\n\n")[0].strip()), name


def test_the_table_of_files_is_complete() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", page, re.MULTILINE))
    listed = {name for name in rows if "." in name}
    files = {name for package in ALLOWED for name in tracked(package) if not name.endswith("py.typed")}
    assert listed == files
    assert all(rows[name].strip() for name in listed)
