"""The process that records for Python: options come in as JSON, what happened goes out as lines of JSON."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import IO, Any

from tracectl.command_record import recorder_options
from tracectl.record_words import parsed
from tracectl.recorder.drain import Status
from tracectl.recorder.session import RecordOptions, record
from tracectl.store.errors import TracectlError


def main() -> int:
    """Record as the first line of stdin says, until SIGTERM, a limit, or the end of whoever asked."""
    # What compilers and libraries print to stdout must not get between the lines.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    given = json.loads(sys.stdin.readline())
    begun = False

    def on_status(_: Status) -> None:
        nonlocal begun
        if not begun:
            begun = True
            tell(out, {"begun": {}})
        if select.select([sys.stdin], [], [], 0)[0]:  # closed: nobody waits for this recording any more
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        outcome = record(options(given), on_status)
    except TracectlError as error:
        tell(out, {"error": type(error).__name__, "problem": error.problem, "remedy": error.remedy})
        return error.exit_code
    told: dict[str, Any] = {"path": str(outcome.path), "events": outcome.events, "lost": outcome.lost}
    told |= {"size": outcome.size, "elapsed_ns": outcome.elapsed_ns}
    told |= {"missing": outcome.missing, "stopped_by": outcome.stopped_by}
    if not begun:
        tell(out, {"begun": {}})
    tell(out, {"outcome": told})
    return 0


def tell(out: IO[str], what: dict[str, Any]) -> None:
    """One line. Whoever asked may be gone: then nobody needs it."""
    if not out.closed:
        try:
            out.write(json.dumps(what) + "\n")
            out.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


def options(given: dict[str, Any]) -> RecordOptions:
    """The recorder's options; the capture notes the command line that does the same."""
    path, words = Path(given["output"]), given["words"]
    return recorder_options(path, parsed(words), ("tracectl", "record", "-o", path.name, *words))


if __name__ == "__main__":
    sys.exit(main())
