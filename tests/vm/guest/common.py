"""What the scenarios in the guest share: tracectl as a command, and JSON for the host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TRACECTL = (sys.executable, "-m", "tracectl")
PROGRAMS = Path("/mnt/out/programs")


def say(*words: object) -> None:
    """A line for the scenario's log."""
    sys.stdout.write(f"{time.monotonic():8.2f} {' '.join(map(str, words))}\n")
    sys.stdout.flush()


def tracectl(*arguments: str | Path, **more_environment: str) -> subprocess.CompletedProcess[str]:
    """Run tracectl to its end; what it said goes to the log too."""
    command = [*TRACECTL, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **more_environment})
    say(*arguments, "->", done.returncode)
    say(done.stdout + done.stderr)
    return done


def keep(name: str, value: Any) -> None:
    """Hand a value over to the host's tests as NAME.json."""
    Path(f"{name}.json").write_text(json.dumps(value, indent=1))
