"""How a recording goes, for other programs: a JSON object and a Prometheus text file, written anew once a second."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tracectl.recorder.drain import Status
from tracectl.store.errors import UserError

# name, type, what it is, attribute of Status, unit's divisor, label
_METRICS = (
    ("events_total", "counter", "Events taken from the kernel.", "events", 1, ""),
    ("lost_events_total", "counter", "Events lost, as far as is known by now.", "lost", 1, ""),
    ("segment_bytes", "gauge", "Bytes on disk.", "size", 1, ""),
    ("elapsed_seconds", "gauge", "Time since the recording began.", "elapsed_ns", 1e9, ""),
    ("queue_used_ratio", "gauge", "How full the memory between reader and writer is.", "queue", 1, ""),
    ("drain_delay_seconds", "gauge", "Longest time between two drains of the rings lately.", "drain_delay_ns", 1e9, ""),
    ("cpu_seconds_total", "counter", "CPU time of the recorder.", "reader_cpu_ns", 1e9, 'process="reader"'),
    ("cpu_seconds_total", "counter", "CPU time of the recorder.", "writer_cpu_ns", 1e9, 'process="writer"'),
)


@dataclass
class Telemetry:
    """Where to write it.

    Attributes:
        stats_json: a file that is replaced each time, or ``-``: a line on standard output each time.
        prometheus: a file for node_exporter's textfile collector (readable by all, replaced whole).

    Raises UserError when a file cannot be there.
    """

    stats_json: Path | None = None
    prometheus: Path | None = None

    def __post_init__(self) -> None:
        for path in (self.stats_json, self.prometheus):
            if path is not None and str(path) != "-" and not path.absolute().parent.is_dir():
                raise UserError(f"no such directory: {path.absolute().parent}", f"mkdir -p {path.absolute().parent}")

    def __bool__(self) -> bool:
        return self.stats_json is not None or self.prometheus is not None

    def write(self, status: Status, *, recording: bool = True) -> None:
        """Write it. A full disk or a reader that is gone does not end a recording."""
        with suppress(OSError):
            line = json.dumps(asdict(status) | {"recording": recording}) + "\n"
            if self.stats_json is not None and str(self.stats_json) == "-":
                sys.stdout.write(line)
                sys.stdout.flush()
            elif self.stats_json is not None:
                _replace(self.stats_json, line)
            if self.prometheus is not None:
                _replace(self.prometheus, "".join(_prometheus(status, recording)))


def _prometheus(status: Status, recording: bool) -> Iterator[str]:
    yield "# HELP tracectl_recording Whether a recording runs.\n# TYPE tracectl_recording gauge\n"
    yield f"tracectl_recording {int(recording)}\n"
    told = set()
    for name, kind, text, attribute, divisor, label in _METRICS:
        if name not in told:
            yield f"# HELP tracectl_{name} {text}\n# TYPE tracectl_{name} {kind}\n"
            told.add(name)
        yield f"tracectl_{name}{f'{{{label}}}' if label else ''} {getattr(status, attribute) / divisor:.10g}\n"


def _replace(path: Path, text: str) -> None:
    """Write a file that appears whole, readable by all."""
    with tempfile.NamedTemporaryFile("w", prefix=".tracectl-", dir=path.absolute().parent, delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(text)
            file.flush()
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
