"""What an export reads: a capture with or without a question, in pages of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from tracectl.store.database import DEFAULT_MEMORY_LIMIT
from tracectl.store.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from tracectl.query import Answer
    from tracectl.store.capture import Capture
    from tracectl.store.database import Database
    from tracectl.store.relations import Relations

# Events read at a time, which bounds the memory. Row groups are in order of time, so a page reads only its own few.
PAGE = 200_000
# Control and formatting characters and line ends: what could break a line or act on a terminal (as text.visible).
UNSAFE = r"[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]"


@dataclass(frozen=True)
class Source:
    """A capture that is being exported.

    Attributes:
        database: a connection that can read it.
        relations: its relations, with the context of wakeups from where this capture has it.
        answer: the answer whose rows are exported; None: the whole capture.
        question: what was asked, empty for none.
        memory: limit for another database that an export makes.
    """

    capture: Capture
    database: Database
    relations: Relations
    answer: Answer | None = None
    question: str = ""
    memory: str = DEFAULT_MEMORY_LIMIT

    def table(self, names: Iterable[str], sql: str) -> pa.Table:
        """The rows of a statement over these relations."""
        return self.database.execute(f"{self.relations.with_clause(names)}\n{sql}").arrow()

    def keep(self, table: str, names: Iterable[str], sql: str) -> None:
        """Keep the rows of a statement as a temporary table, so that what was computed once can be read in pages."""
        self.database.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS\n{self.relations.with_clause(names)}\n{sql}")

    def pages(self, names: Iterable[str], sql: str, size: int = PAGE, *, every: bool = False) -> Iterator[pa.Table]:
        """The rows of a statement with ``seq BETWEEN $first AND $last``, a page of seq after the other.

        Pages without rows are left out, unless ``every``.
        """
        head = self.relations.with_clause(names)
        low, high = self.seqs
        for first in range(low, high + 1, size):
            result = self.database.execute(f"{head}\n{sql}", {"first": first, "last": min(first + size - 1, high)})
            table = result.arrow()
            if table.num_rows or every:
                yield table

    @cached_property
    def seqs(self) -> tuple[int, int]:
        """First and last seq of the capture; the last is smaller when it has no rows."""
        ((low, high),) = self.database.execute(
            f"{self.relations.with_clause(['capture'])}\nSELECT min(seq), max(seq) FROM capture"
        ).rows()
        return (0, -1) if low is None else (low, high)

    def keep_answer(self, form: str) -> bool:
        """Keep the answer's rows as the table ``answer`` and the events they are made from as ``wanted`` (seq).

        Returns whether there is a question.

        Raises:
            UserError: its rows do not stand for events (``count``, ``sum`` …).
        """
        if self.answer is None:
            return False
        if "seq" not in self.answer.columns:
            raise UserError(
                f"the rows of this answer are no events: they have no place in {form}",
                "a question without a stage that sums up (count, sum, p50 …), or --to csv, arrow, duckdb",
            )
        self.database.execute(f"CREATE OR REPLACE TEMP TABLE answer AS\n{self.answer.sql_literal}")
        ends = "UNION SELECT end_seq FROM answer WHERE end_seq IS NOT NULL" if "end_seq" in self.answer.columns else ""
        self.database.execute(f"CREATE OR REPLACE TEMP TABLE wanted AS SELECT seq FROM answer {ends}")
        return True

    def answer_spans(self) -> pa.Table:
        """The kept answer with ``begin`` and ``until`` (the same in a row without duration), in order of begin."""
        columns = self.answer.columns if self.answer is not None else []
        begin, until = "ts", "ts + COALESCE(dur, 0)" if "dur" in columns else "ts"
        if "from_ts" in columns:  # a gap: its ts is the end
            begin, until = f"COALESCE(from_ts, {self.capture.start_ts})", "ts"
        sql = f"SELECT *, {begin} AS begin, {until} AS until FROM answer WHERE ts IS NOT NULL ORDER BY begin, seq"
        return self.database.execute(sql).arrow()


def escaped_sql(expression: str, also: str = "") -> str:
    r"""SQL that writes unsafe characters, and those of ``also``, as ``\x1b`` or ``\u202e`` (null stays null)."""
    unsafe = f"[{UNSAFE[1:-1]}{also}]"
    one = (
        f"CASE WHEN NOT regexp_matches(c, '{unsafe}') THEN c "
        "WHEN unicode(c) < 256 THEN printf('\\x%02x', unicode(c)) "
        "WHEN unicode(c) < 65536 THEN printf('\\u%04x', unicode(c)) ELSE printf('\\U%08x', unicode(c)) END"
    )
    spelled = f"array_to_string(list_transform(string_split({expression}, ''), lambda c: {one}), '')"
    return f"CASE WHEN regexp_matches({expression}, '{unsafe}') THEN {spelled} ELSE {expression} END"
