"""Several captures as a set: which files they are, whose rows, one axis of time, and what makes no set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

import tracectl
from tracectl.query import ask
from tracectl.store.capture import Capture
from tracectl.store.captures import CaptureSet, open_captures
from tracectl.store.database import Database
from tracectl.store.errors import CaptureError, GoneError, QueryError, UserError
from tracectl.store.writer import write_rows

Run = Callable[..., Any]
START = 1_000_000_000_000
KINDS = ("sched_switch", "sched_waking")


def switch(ts: int, prev: tuple[int, str, str], following: tuple[int, str]) -> dict[str, Any]:
    row = {"kind": "sched_switch", "ts": START + ts, "cpu": 0, "pid": prev[0], "tid": prev[0], "comm": prev[1]}
    return row | {"prev_state": prev[2], "next_tid": following[0], "next_comm": following[1]}


def waking(ts: int, tid: int, target: tuple[int, str], context: str) -> dict[str, Any]:
    row = {"kind": "sched_waking", "ts": START + ts, "cpu": 0, "pid": tid, "tid": tid, "comm": f"c{tid}"}
    row |= {"target_tid": target[0], "target_pid": target[0], "target_comm": target[1], "target_cpu": 0}
    return row | {"context": context, "context_vec": 3 if context == "softirq" else None}


IDLE, WORKER = (0, "swapper/0"), (4449, "wrk:worker_0")
ROWS = (
    waking(1_000, 0, WORKER, "softirq"),
    switch(3_000, (*IDLE, "R"), WORKER),
    switch(2_000_000, (*WORKER, "S"), IDLE),
    waking(3_000_000, 10, WORKER, "softirq"),
    switch(3_001_500, (*IDLE, "R"), WORKER),
    switch(4_000_000, (*WORKER, "S"), IDLE),
    waking(5_000_000, 900, WORKER, "softirq"),
    waking(6_000_000, 77, (78, "victim"), "task"),
)
NOON = 1_651_648_335_000_000_000
GAP = {"kind": "lost", "ts": 9_000_000, "cpu": 1, "stream": "sched", "from_ts": 6_000_000, "lost_count": 12}
GAP["cause"] = "ring_full"


def written(
    path: Path, *, host: str, later: int = 0, boot: int = START, extra: tuple[Any, ...] = (), **options: Any
) -> Path:
    """The shared rows as recorded on a host that started at another time: ``boot`` is its clock at noon."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{**row, "ts": row["ts"] - START + boot + later} for row in ROWS]
    rows += [{**row, "ts": row["ts"] + boot, "from_ts": row["from_ts"] + boot} for row in extra]
    given: dict[str, Any] = {
        "kinds": KINDS, "cpus": (0, 1), "start_ts": boot + later, "end_ts": boot + later + 10_000_000,
        "clocks": [{"ts": boot, "boottime": boot, "realtime": NOON}], "host": host, "boot_id": f"boot of {host}",
        "breaks_declared": True,
    }  # fmt: skip
    return write_rows(path, rows, **given | options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two hosts that booted at other times; on the second, all happens 2 ms later, and something was lost."""
    written(tmp_path / "day/a.parquet", host="web-1")
    written(tmp_path / "day/b.parquet", host="web-2", boot=77, later=2_000_000, extra=(GAP,))
    return tmp_path / "day"


def opened(*paths: str | Path) -> CaptureSet:
    found = open_captures(*paths)
    assert isinstance(found, CaptureSet)
    return found


def test_rows_say_whose_they_are_and_when_on_one_axis(folder: Path) -> None:
    answer = ask(opened(folder), "wakeups of tid 4449 | select host, capture, ts")
    assert answer.rows() == [
        ("web-1", "a", 1_000),
        ("web-2", "b", 2_001_000),
        ("web-1", "a", 3_000_000),
        ("web-1", "a", 5_000_000),
        ("web-2", "b", 5_000_000),
        ("web-2", "b", 7_000_000),
    ]
    assert str(answer.qualification) == "at most 12 missing (1 gap)"
    assert answer.notes[0] == "b: at most 12 missing (1 gap)"
    assert answer.notes[1].startswith("times count from 2022-05-04 07:12:15.000+00:00; ")


def test_times_in_questions_are_on_the_common_axis(folder: Path) -> None:
    answer = ask(opened(folder), "wakeups between 5ms and 5.5ms | select host, ts")
    assert answer.rows() == [("web-1", 5_000_000), ("web-2", 5_000_000)]
    assert ask(opened(folder), "wakeups after 6.9ms | count by host").rows()[0][:2] == ("web-2", 2)
    assert ask(opened(folder), "wakeups where ts > 6.9ms | count").rows()[0][0] == 2
    assert ask(opened(folder), "wakeups in last 5.1ms | count by host").rows()[0][:2] == ("web-2", 2)


def test_threads_and_cpus_of_two_hosts_are_not_mixed(tmp_path: Path) -> None:
    """One host has the waking, the other the switch-in of the same tid on the same CPU: no wait of either is known."""
    for n, rows in enumerate((ROWS[:1], ROWS[1:2])):
        write_rows(
            tmp_path / f"{'ab'[n]}.parquet", rows, kinds=KINDS, cpus=(0, 1), start_ts=START, end_ts=START + 9,
            host=f"h{n}", boot_id=f"{n}", breaks_declared=True,
        )  # fmt: skip
    assert ask(opened(tmp_path), "delays").rows() == []
    merged = write_rows(tmp_path / "both/c.parquet" if (tmp_path / "both").mkdir() is None else tmp_path, ROWS[:2])
    assert len(ask(Capture.open(merged), "delays").rows()) == 1


def test_on_host(folder: Path) -> None:
    answer = ask(opened(folder), "wakeups on host *-1 | count by host")
    assert (answer.rows(), answer.qualification.exact) == ([("web-1", 4)], True)
    with pytest.raises(QueryError, match='no capture is of host "web-3"') as error:
        ask(opened(folder), "wakeups on host web-3")
    assert error.value.remedy == 'did you mean "web-2"?'
    assert ask(Capture.open(folder / "a.parquet"), "wakeups on host web-1 | count").rows() == [(4,)]
    with pytest.raises(QueryError, match='no capture is of host "web-2"'):
        ask(Capture.open(folder / "a.parquet"), "wakeups on host web-2")


def test_a_walk_stays_in_one_capture(folder: Path) -> None:
    """On the second host all is 2 ms later: its own times count."""
    with pytest.raises(QueryError, match="chains are walked in one capture only"):
        ask(opened(folder), "chains of tid 4449 at 3.1ms")
    found = [
        ask(opened(folder), f"chains of tid 4449 at {at} on host web-{n} | select ts, tid").rows()
        for n, at in ((1, "3.1ms"), (2, "5.1ms"))
    ]
    assert found[0] and [(ts + 2_000_000, tid) for ts, tid in found[0]] == found[1]
    alone = ask(Capture.open(folder / "a.parquet"), "chains of tid 4449 at 3.1ms | select ts, tid").rows()
    assert [(ts - START, tid) for ts, tid in alone] == found[0]


def test_columns_of_the_set_are_columns(folder: Path) -> None:
    assert ask(opened(folder), 'delays where host = "web-1" or capture = c | count by capture').rows()[0][0] == "a"
    assert ask(opened(folder), "delays | p50 dur by host").rows()[0][:2] == ("web-1", 1_500)


def test_plain_duckdb_runs_the_one_statement(folder: Path) -> None:
    answer = ask(opened(folder), "wakeups of comm wrk:* by softirq | count by host, comm")
    rows = duckdb.execute(answer.sql_literal).fetchall()
    assert [row[:-2] for row in rows] == answer.rows()  # the last two say which rows match
    assert len(duckdb.extract_statements(answer.sql)) == 1


def test_hostile_names_stay_values(tmp_path: Path) -> None:
    for n, host in enumerate(("x'; DROP TABLE y --", 'q"$p1')):
        written(tmp_path / f"it's $p1 -- {n}.parquet", host=host)
    answer = ask(opened(tmp_path), "wakeups | count by host, capture")
    assert sorted(answer.rows()) == [
        ('q"$p1', "it's $p1 -- 1", 4),
        ("x'; DROP TABLE y --", "it's $p1 -- 0", 4),
    ]
    assert sorted(duckdb.execute(answer.sql_literal).fetchall()) == sorted(answer.rows())


def test_what_a_capture_did_not_record_is_missing(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", host="web-1")
    row = {"kind": "softirq_entry", "ts": START, "cpu": 0, "pid": 1, "tid": 1, "comm": "c", "vec": 3}
    write_rows(tmp_path / "b.parquet", [row], host="web-2", start_ts=START, end_ts=START + 9)
    answer = ask(opened(tmp_path), "wakeups | count by host")
    assert answer.rows() == [("web-1", 4, 4)]
    assert str(answer.qualification) == "not known how many missing (not recorded in b)"
    assert "b did not record what the question needs" in answer.notes
    assert ask(opened(tmp_path), "wakeups on host web-1 | count").qualification.exact
    with pytest.raises(QueryError, match="accepts cannot be told"):
        ask(opened(tmp_path), "accepts")
    assert ask(opened(tmp_path), "events softirq_entry | count by host").rows() == [("web-2", 1, 1)]


def test_no_reading_of_the_clock(tmp_path: Path) -> None:
    """Its time begins with that of the set, and the answer says so."""
    written(tmp_path / "a.parquet", host="web-1", later=1_000)
    written(tmp_path / "b.parquet", host="web-2", boot=5, clocks=[])
    found = opened(tmp_path)
    assert [(one.shift, one.spread, one.readings) for one in found.members] == [(-START - 1_000, 0, 1), (-5, None, 0)]
    answer = ask(found, "wakeups of tid 78 | select host, ts")
    assert answer.rows() == [("web-1", 6_000_000), ("web-2", 6_000_000)]
    assert answer.notes[-1] == "without a reading of the wall clock, their time counts from their own start: b"
    written(tmp_path / "a.parquet", host="web-1", clocks=[])
    assert ask(opened(tmp_path), "wakeups").notes == [
        "no capture has a reading of the wall clock: the time of each counts from its own start"
    ]


def test_captures_of_one_boot_share_its_clock(tmp_path: Path) -> None:
    """The wall clock was set in between: what was later on the monotonic clock is later here, by the same time."""
    late = [{"ts": START + 50_000_000, "realtime": NOON - 10**9}]
    written(tmp_path / "a.parquet", host="web-1")
    written(tmp_path / "b.parquet", host="web-1", later=20_000_000, clocks=late)
    first, second = opened(tmp_path).members
    assert first.shift == second.shift == -START
    assert (second.spread, second.readings) == (1_050_000_000, 2)


@pytest.mark.parametrize("how", ["directory", "pattern", "files", "absolute pattern"])
def test_ways_to_name_a_set(folder: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    ways: dict[str, tuple[str | Path, ...]] = {
        "directory": ("day",),
        "pattern": ("day/*.parquet",),
        "files": ("day/b.parquet", Path("day/a.parquet")),
        "absolute pattern": (f"{folder}/[ab].parquet",),
    }
    assert [one.name for one in opened(*ways[how]).members] == ["a", "b"]


def test_names_that_are_equal_get_more_of_the_path(tmp_path: Path) -> None:
    for host in ("web-1", "web-2"):
        written(tmp_path / host / "x.parquet", host=host)
    assert [one.name for one in opened(tmp_path / "*/x.parquet").members] == ["web-1/x", "web-2/x"]


def test_segments_are_one_capture(tmp_path: Path) -> None:
    segments = tmp_path / "day/x.parquet.recording"
    written(segments / "000001.parquet", host="web-1")
    written(segments / "000002.parquet", host="web-1", later=20_000_000)
    assert isinstance(open_captures(segments), Capture)
    written(tmp_path / "day/y.parquet", host="web-2")
    assert [(one.name, len(one.capture.files)) for one in opened(tmp_path / "day").members] == [("x", 2), ("y", 1)]
    written(tmp_path / "day/x.parquet", host="web-3")  # finished: its directory goes in a moment
    assert [(one.name, len(one.capture.files)) for one in opened(tmp_path / "day").members] == [("x", 1), ("y", 1)]
    written(segments / "000003.parquet", host="web-1", boot_id="another")
    with pytest.raises(CaptureError, match="holds segments of 2 recordings"):
        open_captures(segments)


def test_what_is_no_set(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file matches"):
        open_captures(folder / "z*")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaptureError, match="holds no capture"):
        open_captures(tmp_path / "empty")
    with pytest.raises(UserError, match="is given twice"):
        open_captures(folder / "a.parquet", folder / "a.parquet")
    with pytest.raises(UserError, match="day holds several captures"):
        Capture.open(folder)
    (folder / "c.parquet").write_bytes((folder / "b.parquet").read_bytes()[:-100])
    with pytest.raises(CaptureError, match=r"c\.parquet is a truncated or damaged Parquet file"):
        open_captures(folder)
    (folder / "c.parquet").write_bytes((folder / "b.parquet").read_bytes())
    with pytest.raises(UserError, match=r"both hold|copies of each other"):
        open_captures(folder)


def test_one_machine_recorded_twice_at_the_same_time(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", host="web-1")
    written(tmp_path / "b.parquet", host="web-1", later=5_000_000)
    with pytest.raises(UserError, match="both hold sched_switch of one machine at the same time: events would count"):
        open_captures(tmp_path)
    written(tmp_path / "b.parquet", host="web-1", later=10_000_000)
    assert len(opened(tmp_path).members) == 2


def test_the_commands_take_sets(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for captures in (["."], ["*.parquet"], ["a.parquet", "b.parquet"]):
        code, out, _ = run("query", *captures, "runs", "of", "tid", "4449", "--format", "csv")
        assert code == 0 and [line.split(",")[1] for line in out.splitlines()[1:]] == ["web-1", "web-2"] * 2
    code, out, err = run("query", "a.parquet", "b.parquet")
    assert (code, err.splitlines()[0]) == (1, "tracectl: a question is missing")
    code, out, err = run("query", "a.parquet", "nothere.parquet", "wakeups")
    assert (code, err.splitlines()[0]) == (1, "tracectl: no such capture: nothere.parquet")
    assert "on host" in run("query", ".", "--explain", "wakeups on host web-1").out
    code, out, _ = run("sql", ".", "SELECT host, count(*), min(ts) FROM wakeups GROUP BY host ORDER BY 1", "-f", "csv")
    assert out.splitlines()[1:] == ["web-1,4,1000", "web-2,4,2001000"]
    assert "capture,host,ts" in run("sql", ".", "FROM capture LIMIT 1", "-f", "csv").out
    code, out, _ = run("info", ".")
    assert code == 0 and "2 captures" in out and "web-2" in out
    facts = json.loads(run("info", "--json", ".").out)
    assert facts["captures"]["b"]["shift"] == -START * 0 - 77 and facts["begin_realtime"] == NOON


def test_python_takes_sets(folder: Path) -> None:
    with tracectl.open(folder) as capture:
        assert capture.query("wakeups | count by host").rows()[0][:2] == ("web-1", 4)
        assert capture.sql("SELECT count(DISTINCT host) FROM runs").rows() == [(2,)]
        assert list(capture.info["captures"]) == ["a", "b"]
        assert "on every CPU" in capture.explain("delays on host web-1")
    with tracectl.open(folder / "a.parquet", folder / "b.parquet") as capture:
        assert len(capture.query("tasks on host web-1").rows()) > 0


# ---- a flight recorder drops its oldest segment while it is asked ----


@pytest.fixture
def flight(tmp_path: Path) -> Path:
    directory = tmp_path / "flight"
    for n in range(3):
        written(directory / f"00000{n + 1}.parquet", host="web-1", later=n * 20_000_000)
    return directory


def test_a_segment_that_goes_before_it_is_opened(flight: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[int] = []
    known = Path.glob

    def glob(path: Path, pattern: str) -> Any:
        found = sorted(known(path, pattern))
        if path == flight and len(listed) < 4:
            listed.append(len(found))
            if len(listed) == 2:
                found[0].unlink()
        return iter(found)

    monkeypatch.setattr(Path, "glob", glob)
    assert [file.name for file in Capture.open(flight).files] == ["000002.parquet", "000003.parquet"]


def test_a_segment_that_goes_before_it_is_read(run: Run, flight: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = flight / "000001.parquet"
    made = Database.__init__

    def drop(database: Database, *given: Any) -> None:
        made(database, *given)
        gone.unlink(missing_ok=True)

    monkeypatch.setattr(Database, "__init__", drop)
    code, out, err = run("query", flight, "wakeups | count", "--format", "csv")
    assert (code, out.splitlines()[-1]) == (0, "8"), err


def test_python_opens_it_anew(flight: Path) -> None:
    with tracectl.open(flight) as capture:
        assert capture.query("wakeups | count").rows() == [(12,)]
        capture.keep("_", capture.query("wakeups | count"))
        (flight / "000001.parquet").unlink()
        assert capture.query("wakeups | count").rows() == [(8,)]
        assert capture.sql("SELECT * FROM _").rows() == [(12,)]
        assert capture.opened.start_ts == START + 20_000_000


def test_a_capture_that_is_gone_for_good(flight: Path) -> None:
    with tracectl.open(flight / "000001.parquet") as capture:
        (flight / "000001.parquet").rename(flight / "x")
        with pytest.raises(UserError, match="no such capture"):
            capture.query("wakeups")
    known = Capture.open(flight)
    shutil.rmtree(flight)
    with pytest.raises(GoneError):
        ask(known, "wakeups").rows()
