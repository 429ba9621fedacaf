"""Documentation that follows from the code is fresh, links lead somewhere, and what the README says to run runs."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tracectl.cli import BUG, INTERRUPTED
from tracectl.store import errors

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_fresh(generate: ModuleType) -> None:
    stale = [str(path.relative_to(ROOT)) for path in generate.stale()]
    assert not stale, f"run `make docs`: {stale}"


def test_a_stale_page_is_found(generate: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    path, text = next(iter(generate.pages().items()))
    monkeypatch.setattr(generate, "pages", lambda: {path: text + "changed"})
    assert generate.stale() == [path]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target


def test_readme_shows_real_sessions() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    sessions = re.findall(r"```console\n\$ (.*)\n((?:.*\n)*?)```", text)
    assert len(sessions) >= 4
    assert all(command.startswith("tracectl ") and len(output.splitlines()) >= 2 for command, output in sessions)


def test_exit_codes_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    classes = (errors.UserError, errors.RecordError, errors.CaptureError, errors.StrictError)
    assert told == {0, BUG, INTERRUPTED, *(error.exit_code for error in classes)}


def test_make_targets_of_the_docs_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        for target in re.findall(r"^make (\w+)|`make (\w+)`", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert re.search(rf"^{''.join(target)}:", makefile, re.MULTILINE), target


def test_demo_on_the_sample() -> None:
    command = [sys.executable, str(ROOT / "examples/demo.py"), "--sample"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n$ tracectl query") == 3
    assert "NET_RX" in done.stdout and "demo:ping" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("tracectl: demo done")


def test_the_sample_is_small_and_says_nothing_of_where_it_was_made() -> None:
    sample = ROOT / "examples/sample.parquet"
    assert sample.stat().st_size < 1 << 20
    content = sample.read_bytes()
    assert not [path for path in (b"/home/", bytes(Path.home()), bytes(ROOT)) if len(path) > 1 and path in content]
