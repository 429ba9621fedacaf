"""DuckDB over a capture: reads its files and nothing else, writes nothing, and says what is wrong in few words."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from tracectl.store import checksum
from tracectl.store.capture import Capture
from tracectl.store.database import Database, quote_path, quote_string, read_metadata, source_sql
from tracectl.store.errors import CaptureError, UserError
from tracectl.store.writer import write_rows

ROW = {"kind": "sched_process_exit", "ts": 1, "cpu": 0, "pid": 1, "tid": 1, "comm": "a"}
ODD_NAMES = (
    "a*b.parquet", "a[1].parquet", "[!a].parquet", "q?.parquet", "it's.parquet", 'a"b.parquet', "a b.parquet",
    "größe.parquet", "n\nl.parquet", "tab\t.parquet", "a\\b.parquet", "a]b[.parquet", "{a,b}.parquet", "$HOME.parquet",
    "-x.parquet", "a,b;c.parquet", "'); DROP--.parquet", "x.parquet.gz", "x.csv", "a%20b.parquet", "**.parquet",
)  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "c.parquet", [ROW])


def locked(path: Path) -> Database:
    database = Capture.open(path).database()
    database.lock()
    return database


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_are_never_patterns_nor_sql(tmp_path: Path, name: str) -> None:
    for decoy in ("a1.parquet", "aXb.parquet", "a.parquet", "qq.parquet"):
        write_rows(tmp_path / decoy, [ROW, {**ROW, "ts": 2}])
    capture = Capture.open(write_rows(tmp_path / name, [ROW]))
    assert capture.rows == 1
    with locked(tmp_path / name) as database:
        assert database.execute(f"SELECT ts FROM {source_sql(capture.files)}").rows() == [(1,)]


def test_directory_names_are_no_columns(tmp_path: Path) -> None:
    directory = tmp_path / "kind=9" / "cpu=7" / "host=web"
    directory.mkdir(parents=True)
    capture = Capture.open(write_rows(directory / "c.parquet", [ROW]))
    assert capture.columns["cpu"] == "SMALLINT"
    assert "host" not in capture.columns
    with capture.database() as database:
        rows = database.execute(f"SELECT kind, cpu FROM {source_sql(capture.files)}").rows()
    assert rows == [("sched_process_exit", 0)]


OUTSIDE = (
    "SELECT * FROM read_csv('{d}/x.txt')",
    "SELECT * FROM '{d}/x.txt'",
    "SELECT * FROM read_text('{d}/x.txt')",
    "SELECT * FROM read_json('/etc/passwd')",
    "SELECT * FROM read_parquet('{d}/other.parquet')",
    "SELECT * FROM '{d}/other.parquet'",
    "SELECT * FROM read_parquet('http://localhost:9/x.parquet')",
    "SELECT * FROM parquet_metadata('{d}/other.parquet')",
    "SELECT * FROM glob('{d}/*')",
    "SELECT * FROM sniff_csv('{d}/x.txt')",
    "SELECT getenv('HOME')",
    "SELECT * FROM table_in_python",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{d}/x.duckdb_extension'",
    "ATTACH '{d}/new.db' AS z",
    "ATTACH '{c}' AS z",
    "COPY (SELECT 1) TO '{d}/new.csv'",
    "EXPORT DATABASE '{d}/new'",
    "IMPORT DATABASE '{d}'",
    "CREATE SECRET s (TYPE s3)",
    "PREPARE x AS SELECT 1",
    "SET memory_limit = '1GB'",
    "SET enable_external_access = true",
    "RESET temp_directory",
    "PRAGMA temp_directory = '/'",
    "SELECT 1; SET threads = 1",
    "CALL enable_logging(storage := 'file', storage_path := '{d}/new')",
)


@pytest.mark.parametrize("sql", OUTSIDE)
def test_nothing_outside_the_capture(path: Path, sql: str) -> None:
    table_in_python = pa.table({"a": [1]})
    (path.parent / "x.txt").write_text("a,b\n1,2\n")
    write_rows(path.parent / "other.parquet", [ROW])
    before = sorted(path.parent.iterdir())
    with locked(path) as database, pytest.raises(UserError) as caught:
        database.execute(sql.format(d=path.parent, c=path)).rows()
    assert "Traceback" not in str(caught.value)
    assert sorted(path.parent.iterdir()) == before
    assert table_in_python.num_rows == 1


COPY = "COPY (SELECT 1 AS a) TO {c} (USE_TMP_FILE false)"


@pytest.mark.parametrize(
    "sql",
    (
        COPY,
        "copy/**/(SELECT 1 AS a) TO {c} (FORMAT csv, USE_TMP_FILE false)",
        f"EXPLAIN ANALYZE {COPY}",
        f"EXPLAIN (ANALYZE) {COPY}",
        f"SELECT 1; {COPY}",
        f"SELECT 'größe 😀' AS ü; {COPY}",
        f"/* ü */ WITH x AS({COPY}) SELECT * FROM x",
        f"EXPLAIN ANALYZE WITH x AS MATERIALIZED ({COPY}) SELECT 1",
    ),
)
def test_the_capture_cannot_be_overwritten(path: Path, sql: str) -> None:
    before = path.read_bytes()
    with locked(path) as database, pytest.raises(UserError, match=r"only read|syntax|COPY|needs a SELECT"):
        database.execute(sql.format(c=quote_string(str(path)))).rows()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "sql",
    (
        "SELECT 1",
        "WITH x AS (SELECT 1 AS a) FROM x",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE SELECT 1",
        "DESCRIBE SELECT 1",
        "SUMMARIZE SELECT 1 AS a",
        "SHOW TABLES",
        "VALUES (1)",
        "PIVOT (SELECT 1 AS a, 2 AS b) ON a USING sum(b)",
        "SELECT 'COPY' AS \"copy\" -- COPY",
        "SELECT 'é' AS ü, 'copy x to y'",
    ),
)
def test_questions_are_answered_after_locking(path: Path, sql: str) -> None:
    with locked(path) as database:
        database.execute(sql).rows()


def test_empty_statement_has_no_rows(path: Path) -> None:
    with locked(path) as database:
        result = database.execute("-- nothing")
        assert (result.rows(), list(result.batches()), result.columns, result.arrow().num_rows) == ([], [], [], 0)


def test_result_forms_agree(path: Path) -> None:
    sql = "SELECT i, i::VARCHAR AS s FROM range(25) t(i)"
    with locked(path) as database:
        result = database.execute(sql)
        assert (result.columns, result.types) == (["i", "s"], ["BIGINT", "VARCHAR"])
        batches = list(database.execute(sql).batches(10))
        assert [len(batch) for batch in batches] == [10, 10, 5]
        rows = [row for batch in batches for row in batch]
        assert rows == result.rows() == [(i, str(i)) for i in range(25)]
        assert [tuple(row.values()) for row in result.arrow().to_pylist()] == rows


def test_rows_are_read_while_other_statements_run(path: Path) -> None:
    with locked(path) as database:
        batches = database.execute("SELECT 1; SELECT i FROM range(300000) t(i) WHERE i >= $low", {"low": 5}).batches(
            1000
        )
        first = next(batches)
        assert database.execute("SELECT 7").rows() == [(7,)]
        assert len(first) + sum(map(len, batches)) == 299_995


def test_parameters_are_values(path: Path) -> None:
    hostile = "'; COPY x TO 'y'; --"
    with locked(path) as database:
        assert database.execute("SELECT $a", {"a": hostile}).rows() == [(hostile,)]


def test_bad_sql_is_the_users_mistake(path: Path) -> None:
    with locked(path) as database:
        for sql in ("SELEC 1", "SELECT nope", "SELECT 1/'x'", "SELECT now()"):
            with pytest.raises(UserError) as caught:
                database.execute(sql).rows()
            assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(("memory", "threads"), [("lots", None), ("", None), ("1GiB", -2)])
def test_bad_limits_are_the_users_mistake(path: Path, memory: str, threads: int | None) -> None:
    with pytest.raises(UserError, match="memory limit"):
        Database([path], memory, threads)


def test_memory_limit_and_spill_directory(path: Path) -> None:
    with Database([path], "100MB", 1) as database:
        ((place, threads),) = database.execute(
            "SELECT current_setting('temp_directory'), current_setting('threads')"
        ).rows()
        assert threads == 1
        database.lock()
        with pytest.raises(UserError, match="more memory"):
            database.execute("SELECT list(repeat('x', 100) || i) FROM range(10000000) t(i)").rows()
    assert not Path(place).exists()


def test_spills_where_nothing_else_may_be_written(path: Path) -> None:
    with Database([path], "40MB", 1) as database:
        ((place,),) = database.execute("SELECT current_setting('temp_directory')").rows()
        database.lock()
        rows = "SELECT hash(i) AS i, repeat('x', 60) || i AS s FROM range(1000000) t(i)"
        result = database.execute(f"SELECT i FROM ({rows}) ORDER BY s LIMIT 900000")
        seen = sum(len(batch) for batch in result.batches(300_000))
        spilled = list(Path(place).iterdir())
    assert seen == 900_000
    # DuckDB 1 packs these rows into what it may use.
    assert spilled or duckdb.__version__.startswith("1.")
    assert not Path(place).exists()


def test_interrupt_ends_the_statement(path: Path) -> None:
    with locked(path) as database:
        started = threading.Event()

        def stop() -> None:
            started.wait()
            # Again and again: the first may come before the statement has begun.
            while not finished.is_set():
                database.interrupt()
                time.sleep(0.01)

        finished = threading.Event()
        thread = threading.Thread(target=stop)
        thread.start()
        try:
            with pytest.raises(UserError, match=r"(?i)interrupt"):
                started.set()
                database.execute("SELECT sum(a.i * b.i) FROM range(1000000) a(i), range(1000000) b(i)").rows()
        finally:
            finished.set()
            thread.join()
        assert database.execute("SELECT 1").rows() == [(1,)]


def test_metadata_of_what_is_no_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for content in (b"", b"PAR", b"hello" * 100, b"\0" * 4096):
        path.write_bytes(content)
        with pytest.raises(CaptureError, match="not a Parquet file"):
            read_metadata(path)
    path.write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    with pytest.raises(CaptureError, match="truncated or damaged"):
        read_metadata(path)


def test_damage_found_while_reading_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksum, "LIMIT", 0)  # as for a capture that is too large to be checked on opening
    path = write_rows(tmp_path / "c.parquet", [{**ROW, "ts": i, "comm": f"c{i}"} for i in range(2000)])
    data = bytearray(path.read_bytes())
    data[4 : len(data) // 4] = b"\xff" * (len(data) // 4 - 4)
    path.write_bytes(data)
    capture = Capture.open(path)
    with capture.database() as database, pytest.raises(CaptureError, match="damaged"):
        database.execute(f"SELECT ts, seq, comm FROM {source_sql(capture.files)}").rows()


def test_quoting_reads_back() -> None:
    with duckdb.connect() as connection:
        for text in ("it's", "''", "a\nb", "\\", "%_", ""):
            assert connection.execute(f"SELECT {quote_string(text)}").fetchall() == [(text,)]
    assert quote_path(Path("/a*[b]?")) == "'/a[*][[]b][?]'"


def test_a_file_that_was_replaced_is_read_again(path: Path, tmp_path: Path) -> None:
    with Database([path]) as database:
        statement = f"SELECT ts FROM {source_sql([path])} ORDER BY ts"
        assert database.execute(statement).rows() == [(1,)]
        many = [{**ROW, "ts": ts} for ts in range(2, 5_000)]
        write_rows(tmp_path / "new.parquet", many).replace(path)
        assert database.execute(statement).rows() == [(ts,) for ts in range(2, 5_000)]
