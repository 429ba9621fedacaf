"""Every error a user can meet, each with its exit code. Imports nothing of ours.

Exit codes: 0 an answer, 1 the user's mistake, 2 recording is not possible, 3 damaged capture, 4 ``--strict`` refused.
"""

from __future__ import annotations


class TracectlError(Exception):
    """A failure to be told in a line or two: what is wrong and where, then how to mend it.

    Args:
        problem: what is wrong and where, one sentence without a final full stop.
        remedy: what would be accepted or what to do; printed on a line of its own. May be empty.
    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n  {self.remedy}" if self.remedy else self.problem


class UserError(TracectlError):
    """An argument, a path or a name that cannot be what was meant."""


class QueryError(UserError):
    """A question that cannot be understood or answered; points at the place.

    Args:
        problem: what is wrong.
        remedy: what was expected, or the nearest name.
        text: the question as typed.
        start, end: the place in ``text``, in characters; drawn as carets under it.
    """

    def __init__(self, problem: str, remedy: str = "", *, text: str = "", start: int = 0, end: int = 0) -> None:
        super().__init__(problem, remedy)
        self.text = text
        self.start = start
        self.end = max(end, start + 1)

    def __str__(self) -> str:
        if not self.text:
            return super().__str__()
        place = f"  {self.text}\n  {' ' * self.start}{'^' * (self.end - self.start)}"
        return "\n".join(part for part in (self.problem, place, f"  {self.remedy}" if self.remedy else "") if part)


class NotRecordedError(QueryError):
    """The question needs events that the capture does not hold: the answer is unknowable from it."""


class RecordError(TracectlError):
    """Recording is not possible here and now (privilege, BCC, BTF, tracefs, a full disk)."""

    exit_code = 2


class CaptureError(TracectlError):
    """The file is not a capture, or is a damaged one."""

    exit_code = 3


class GoneError(CaptureError):
    """A file of the capture is not there any more: the flight recorder drops its oldest segments while it runs."""


class StrictError(TracectlError):
    """``--strict`` was given and the answer is not exact."""

    exit_code = 4
