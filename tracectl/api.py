"""The Python API: a capture that is asked, and answers as rows, Arrow, pandas and Polars."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from tracectl.captures_given import again_if_gone
from tracectl.query import Qualification, ask, asked_of, parse, told
from tracectl.query.answer import views_of
from tracectl.store.capture import Capture as Opened
from tracectl.store.captures import CaptureSet, captures_in, open_captures
from tracectl.store.database import DEFAULT_MEMORY_LIMIT, Database, Result
from tracectl.store.errors import GoneError, UserError
from tracectl.store.relations import Relations

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from tracectl.api_build import Question
    from tracectl.query import Answer as Given
    from tracectl.replay import Event, Lost
    from tracectl.replay_bcc import OnEvent, OnLost

T = TypeVar("T")
# Rows shown by repr() and in a notebook; the answer holds all.
SHOWN_IN_TEXT = 20
SHOWN_IN_HTML = 50


def open(*paths: str | Path, memory: str = DEFAULT_MEMORY_LIMIT, threads: int | None = None) -> Capture:
    """Open a capture, or several as a set, to ask questions.

    Args:
        paths: a capture file, or the directory of segments that a running or ended recording left. Several of them, a
            directory of captures or a pattern such as ``web/*.parquet`` are a set: rows have the columns ``capture``
            and ``host``, and moments count from the begin of the earliest.
        memory: limit as DuckDB takes it (``4GiB``); larger intermediate results spill to a temporary directory.
        threads: worker threads; None: one per CPU.

    Raises:
        UserError: there is no such file, or the limits cannot be meant.
        CaptureError: not a capture, damaged, or of a later format.
    """
    return Capture(*paths, memory=memory, threads=threads)


class Rows:
    """Rows with names: the result of SQL, or (:class:`Answer`) of a question. They are held in memory.

    Durations and moments are whole ns; moments are on the monotonic clock of the recorded machine. ``len()`` is the
    number of rows; iterating gives them as tuples.

    Attributes:
        columns: names, in order.
        units: column -> ``ns`` (a duration) or ``clock`` (a moment), where there is one.
        cut: whether there are more rows than the ``most`` that were asked for.
    """

    cut = False

    def __init__(self, table: pa.Table, units: dict[str, str] | None = None, start_ts: int = 0) -> None:
        self._table = table
        self._start_ts = start_ts
        self.columns: list[str] = list(table.column_names)
        self.units: dict[str, str] = units or {}

    def rows(self) -> list[tuple[Any, ...]]:
        """All rows as tuples of Python values; NULL is None."""
        if not self.columns:
            return []
        return list(zip(*(column.to_pylist() for column in self._table.columns), strict=True))

    def arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        return self._table

    def df(self) -> pd.DataFrame:
        """All rows as a pandas DataFrame. Whole numbers are ``Int64``, which knows missing values: ns stay exact.

        Raises:
            UserError: pandas is not installed.
        """
        import pyarrow as pa  # noqa: PLC0415 - slow to import, and was for this table already

        pandas = _optional("pandas")
        whole = {pa.int16(): pandas.Int16Dtype(), pa.int32(): pandas.Int32Dtype(), pa.int64(): pandas.Int64Dtype()}
        frame: pd.DataFrame = self._table.to_pandas(types_mapper=whole.get)
        frame.attrs |= self.told()
        return frame

    def pl(self) -> pl.DataFrame:
        """All rows as a Polars DataFrame.

        Raises:
            UserError: Polars is not installed.
        """
        frame: pl.DataFrame = _optional("polars").from_arrow(self._table)
        return frame

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows())

    def __repr__(self) -> str:
        """The first rows as an aligned table with humane times, and what the answer is worth."""
        from tracectl.render import Table, write_plain  # noqa: PLC0415 - only to show

        shown = self.first(SHOWN_IN_TEXT)
        more = [f"… {len(self) - len(shown)} more"] if len(self) > len(shown) else []
        text = io.StringIO()
        write_plain(Table(self.columns, shown, self.units, self._start_ts, [*more, *self.footer()]), text)
        return text.getvalue().rstrip("\n")

    def _repr_html_(self) -> str:
        """The same for notebooks, with the distribution of the first duration."""
        from tracectl.api_html import page  # noqa: PLC0415 - only for notebooks

        return page(self, self.first(SHOWN_IN_HTML), self._start_ts, self.footer())

    def first(self, count: int) -> list[tuple[Any, ...]]:
        """The first rows, at most so many."""
        return Rows(self._table.slice(0, count)).rows()

    def told(self) -> dict[str, Any]:
        """What is to be known beside the rows: in ``df().attrs``."""
        return {"units": self.units}

    def footer(self) -> list[str]:
        """What stands below the rows where people read them, a line each."""
        return [f"{len(self)} row{'' if len(self) == 1 else 's'}"]


class Answer(Rows):
    """The answer to a question.

    Attributes:
        question: as asked; a saved question (``@name``) is written out.
        qualification: what lost events may do to it; ``str()`` is the line that the command line shows, ``exact``
            whether nothing can be missing.
        sql: the one statement that gave the rows, as plain DuckDB runs it.
        notes: what else to know, a line each.
    """

    def __init__(
        self, question: str, table: pa.Table, *, units: dict[str, str], start_ts: int, sql: str,
        qualification: Qualification, notes: list[str],
    ) -> None:  # fmt: skip
        super().__init__(table, units, start_ts)
        self.question = question
        self.sql = sql
        self.qualification = qualification
        self.notes = notes

    def told(self) -> dict[str, Any]:
        return {"question": self.question, "qualification": str(self.qualification), "units": self.units}

    def footer(self) -> list[str]:
        """What the command line prints below the rows."""
        from tracectl.command_query import footer  # noqa: PLC0415 - the one place that words it

        return footer(len(self), self.qualification, self.notes)


class Capture:
    """An opened capture; a context manager. Made by :func:`open`.

    One question runs at a time: others, from other threads, wait. What was answered stays valid after :meth:`close`.
    """

    def __init__(self, *paths: str | Path, memory: str = DEFAULT_MEMORY_LIMIT, threads: int | None = None) -> None:
        self._paths = paths
        self._limits = memory, threads
        self._lock = RLock()
        self._kept: dict[str, pa.Table] = {}
        self.opened: Opened | CaptureSet = open_captures(*paths)
        self._database: Database | None = self.opened.database(memory, threads)
        self._has_views = False

    @property
    def path(self) -> Path:
        """The capture, as given."""
        return self.opened.path

    @property
    def database(self) -> Database:
        """The connection that questions run on.

        Raises:
            UserError: the capture is closed.
        """
        if self._database is None:
            raise UserError(f"{self.path} is closed", "tracectl.open opens it again")
        return self._database

    @property
    def info(self) -> dict[str, Any]:
        """What was recorded, when, where, the ledger and what was lost: what ``tracectl info --json`` prints."""
        from tracectl.command_info import facts_of  # noqa: PLC0415 - a command, imported where it runs

        return self._asked(lambda: facts_of(self.opened, self.database))

    def query(self, question: str | Question, *, strict: bool = False, most: int | None = None) -> Answer:
        """Answer a question.

        Args:
            question: as in docs/language.md, or a saved one: ``@runqlat pid=4182``; or built: ``q.delays.over("1ms")``.
            strict: refuse unless the answer is exact.
            most: hold no more than the first so many rows; ``answer.cut`` tells whether there are more.

        Raises:
            QueryError: the question makes no sense; points at the place.
            NotRecordedError: it needs events that the capture does not hold.
            StrictError: ``strict``, and lost events may change the answer.
        """
        from tracectl.saved import expand  # noqa: PLC0415 - most questions are not saved ones

        asked = expand(str(question))

        def answered() -> tuple[Given, tuple[pa.Table, bool]]:
            answer = ask(self.opened, asked, database=self.database, strict=strict)
            return answer, _held(answer, most)  # now: the next question may use the same temporary table

        answer, (table, cut) = self._asked(answered)
        if asked != str(question):
            answer.notes.append(f"asked: {asked}")
        made = Answer(
            asked, table, units=answer.units, start_ts=self.opened.start_ts, sql=answer.sql_literal,
            qualification=answer.qualification, notes=answer.notes,
        )  # fmt: skip
        made.cut = cut
        return made

    def sql(self, statement: str, *, most: int | None = None) -> Rows:
        """Run SQL, read-only, on the capture's relations: ``capture`` (rows as recorded), each kind, each noun.

        Args:
            most: hold no more than the first so many rows.

        Raises:
            UserError: what DuckDB says against the statement; or it is no question.
            CaptureError: a file of the capture is damaged.
        """

        def answered() -> tuple[pa.Table, bool]:
            self.create_views()
            return _held(self.database.execute(statement), most)

        table, cut = self._asked(answered)
        made = Rows(table)
        made.cut = cut
        return made

    def keep(self, name: str, rows: Rows) -> None:
        """Make rows a relation for :meth:`sql`, in the place of an earlier one of that name."""
        with self._lock:
            self.create_views()
            self._kept[name] = rows.arrow()
            self.database.connection.register(name, self._kept[name])

    def relations(self) -> list[str]:
        """Names that :meth:`sql` can select from."""
        return list(dict.fromkeys(name for one in captures_in(self.opened) for name in Relations(one).names()))

    def create_views(self) -> None:
        """Make the relations of :meth:`sql`, once; from then on nothing can be written."""
        if self._has_views:
            return
        for view in views_of(self.opened, self.database):
            # Some may be there already: Ctrl-C can come in between.
            self.database.execute(view.replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1))
        self.database.lock()
        self._has_views = True

    def explain(self, question: str | Question) -> str:
        """How a question is understood: rows, relations, conditions, stages, what the answer depends on.

        Raises:
            QueryError: the question makes no sense; points at the place.
        """
        from tracectl.saved import expand  # noqa: PLC0415 - most questions are not saved ones

        def explained() -> str:
            made, _ = asked_of(self.opened, self.database).compiled(parse(expand(str(question))), settled=True)
            return told(made)

        return self._asked(explained)

    def _asked(self, work: Callable[[], T]) -> T:
        """Do what reads the capture; where a running recording dropped a segment of it, open it anew and try again."""
        with self._lock:
            try:
                return work()
            except GoneError:
                return again_if_gone(lambda: self._anew(work))

    def _anew(self, work: Callable[[], T]) -> T:
        self.database.close()
        self.opened = open_captures(*self._paths)
        self._database = self.opened.database(*self._limits)
        self._has_views = False
        if self._kept:
            self.create_views()
        for name, table in self._kept.items():
            self._database.connection.register(name, table)
        return work()

    def _single(self) -> Opened:
        """The capture.

        Raises:
            UserError: it is a set of them.
        """
        if isinstance(self.opened, CaptureSet):
            raise UserError(f"{self.path} is several captures", "open one of them")
        return self.opened

    def replay(self, kinds: str | Iterable[str] = (), *, speed: float | None = None) -> Iterator[Event | Lost]:
        """All events in time order, as objects with the kind's fields; :class:`Lost` among them where a gap ends.

        Args:
            kinds: only these; default: all events.
            speed: 1: as fast as they came, 0.1: ten times as slow; None: as fast as can be.

        Raises:
            UserError: there is no such kind, or the speed cannot be meant.
        """
        from tracectl.replay import checked, events  # noqa: PLC0415 - only to replay

        opened = self._single()
        wanted = checked(opened, kinds, speed)

        def played() -> Iterator[Event | Lost]:
            with opened.database() as database:  # of its own: questions can be asked meanwhile
                yield from events(opened, database, wanted, speed)

        return played()

    def replay_bcc(
        self, on_event: OnEvent, on_lost: OnLost | None = None, *, kinds: str | Iterable[str] = (),
        speed: float | None = None,
    ) -> None:  # fmt: skip
        """The same for callbacks written for BCC.

        Args:
            on_event: called with cpu, a pointer to the event's ctypes struct (``data.contents``), and its size. What is
                not known is -1, or an empty text.
            on_lost: called with cpu (-1: any) and how many events were lost (None: nobody counted).
            kinds, speed: as for :meth:`replay`.
        """
        from tracectl.replay import checked  # noqa: PLC0415 - only to replay
        from tracectl.replay_bcc import play  # noqa: PLC0415 - only to replay

        opened = self._single()
        wanted = checked(opened, kinds, speed)
        with opened.database() as database:
            play(opened, database, on_event, on_lost, kinds=wanted, speed=speed)

    def interrupt(self) -> None:
        """Cancel the question that runs, from another thread; it ends with UserError."""
        if self._database is not None:
            self._database.interrupt()

    def close(self) -> None:
        """Close the connection and remove what was spilled. Closing twice does nothing."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        span = (self.opened.end_ts - self.opened.start_ts) / 1e9
        state = ", closed" if self._database is None else ""
        return f"<tracectl.Capture {str(self.path)!r}: {self.opened.rows} rows, {span:.3f} s{state}>"


def _held(source: Given | Result, most: int | None) -> tuple[pa.Table, bool]:
    """The rows as a table, and whether there are more than were asked for: these are not made at all."""
    if most is not None:
        source.only_first(most + 1)
    table = source.arrow()
    cut = most is not None and table.num_rows > most
    return table.slice(0, most) if cut else table, cut


def _optional(name: str) -> Any:
    """A package that tracectl does not depend on.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f"{name} is not installed", f"pip install {name}; .arrow() needs nothing more") from error
