"""What is installed is what git knows: the wheel's list of files against the packages' files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "tracectl": "tracectl",
    "store": "tracectl/store",
    "recorder": "tracectl/recorder",
    "query": "tracectl/query",
}


def tracked() -> list[str]:
    """Files that git knows."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def test_the_lowest_versions_are_those_of_pyproject() -> None:
    """What ``make test-lowest`` installs: each dependency, pinned to its lower bound."""
    done = subprocess.run([sys.executable, ROOT / ".ci" / "lowest.py"], capture_output=True, text=True, check=True)
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    listed = project.partition("\ndependencies = [")[2].partition("]")[0]
    pinned = done.stdout.split()
    assert len(pinned) == listed.count(">=")
    assert all(f'"{pin.replace("==", ">=")}' in listed for pin in pinned)


def test_wheel_holds_the_packages_and_nothing_else(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for name in tracked():
        target = checkout / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            target.symlink_to((ROOT / name).readlink())
        else:
            target.write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(checkout)]
    done = subprocess.run(build, capture_output=True, text=True, check=False, env=os.environ | {"PIP_RETRIES": "0"})
    if done.returncode and "setuptools" in done.stderr and "No matching distribution" in done.stderr:
        pytest.skip("building needs setuptools from the package index, which cannot be reached")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("tracectl-*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = set()
    for name in tracked():
        folder, _, rest = name.partition("/")
        if folder in FOLDERS and rest and not (ROOT / name).is_symlink():
            expected.add(f"{FOLDERS[folder]}/{rest}")
    assert inside == expected


def test_the_links_are_relative() -> None:
    for name in ("store", "recorder", "query"):
        assert (ROOT / "tracectl" / name).readlink() == Path("..") / name


def test_nothing_of_this_machine_is_in_the_tree() -> None:
    named = [f"{re.escape(str(path))}/" for path in (Path.home(), ROOT)]  # /proc/PID/root/ is nobody's home
    for name in tracked():
        if Path(name).suffix in (".py", ".md", ".toml", ".sql", ".c", ".lark", "") and not (ROOT / name).is_symlink():
            text = (ROOT / name).read_text(encoding="utf-8")
            # Not /proc/PID/root/ where somebody's home is /root.
            assert not [path for path in named if path != "/" and re.search(rf"(?<![\w.-]){re.escape(path)}", text)], (
                name
            )
