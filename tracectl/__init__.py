"""Record what the Linux kernel did to your threads, and ask questions of the recording.

>>> import tracectl
>>> with tracectl.open("examples/sample.parquet") as capture:
...     answer = capture.query('accepts | count by comm')
>>> answer.rows()
[('demo:worker_1', 56), ('demo:worker_0', 41)]
>>> print(answer.qualification)
exact

docs/python.md tells the rest. Importing the package imports no engine: what is used is imported when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from tracectl._version import __version__

if TYPE_CHECKING:
    from tracectl.api import Answer, Capture, Rows, open
    from tracectl.api_build import Question, q
    from tracectl.api_record import Recorded, Recording, record
    from tracectl.query import Qualification
    from tracectl.store.errors import (
        CaptureError,
        NotRecordedError,
        QueryError,
        RecordError,
        StrictError,
        TracectlError,
        UserError,
    )

__all__ = [
    "Answer",
    "Capture",
    "CaptureError",
    "NotRecordedError",
    "Qualification",
    "QueryError",
    "Question",
    "RecordError",
    "Recorded",
    "Recording",
    "Rows",
    "StrictError",
    "TracectlError",
    "UserError",
    "__version__",
    "open",
    "q",
    "record",
]

_ERRORS = "tracectl.store.errors"
_MODULES = {
    **dict.fromkeys(("Answer", "Capture", "Rows", "open"), "tracectl.api"),
    **dict.fromkeys(("Question", "q"), "tracectl.api_build"),
    **dict.fromkeys(("Recorded", "Recording", "record"), "tracectl.api_record"),
    "Qualification": "tracectl.query",
    **{name: _ERRORS for name in __all__ if name.endswith("Error")},
}


def __getattr__(name: str) -> object:
    """A public name, its module imported now (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
