"""docs/python.md, the package's docstring and the examples are executed; the tutorial's sessions are generated."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tracectl

ROOT = Path(__file__).parents[2]


def run_doctest(text: str, name: str) -> int:
    """Run the examples of a text; how many there were. Failures are printed."""
    test = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
    result = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL).run(test)
    assert result.failed == 0
    return result.attempted


def test_the_page_on_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```pycon\n(.*?)```", page, re.DOTALL)
    assert run_doctest("\n".join(blocks), "python.md") > 10


def test_the_page_on_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs/replay.md").read_text(encoding="utf-8")
    assert run_doctest("\n".join(re.findall(r"```pycon\n(.*?)```", page, re.DOTALL)), "replay.md") > 5


def test_the_page_on_python_names_what_there_is() -> None:
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    for name in tracectl.__all__:
        assert name in page or name in (
            "Answer",
            "Capture",
            "Recorded",
            "Recording",
            "Rows",
            "Qualification",
            "__version__",
        )
    for python in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        compile(python, "python.md", "exec")


def test_the_docstring_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert run_doctest(tracectl.__doc__ or "", "tracectl") >= 3


def test_the_tutorial_shows_sessions() -> None:
    """That they are what the commands print now, tests/unit/test_project_docs.py checks with all generated pages."""
    page = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    sessions = re.findall(r"```(?:console\n\$ |text\n)tracectl.*\n((?:.*\n)*?)```", page)
    assert len(sessions) >= 9 and all(len(printed.splitlines()) >= 3 for printed in sessions)
    assert len(page.split()) < 1200


def test_the_tutorials_own_question_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    (toml,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "tracectl").mkdir()
    (tmp_path / "tracectl/questions.toml").write_text(toml)
    with tracectl.open(ROOT / "examples/sample.parquet") as capture:
        assert ("demo:worker_0", 97) in [row[:2] for row in capture.query('@woken_by_net comm="demo:*"')]


@pytest.mark.parametrize("program", ["ask.py"])
def test_examples_run(program: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / program)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "demo:worker_0" in done.stdout and "exact" in done.stdout
