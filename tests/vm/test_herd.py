"""Every link from a packet to a worker's accept, recorded in a stock kernel, against what the server itself says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.kernel.conftest import Recorded
from tests.vm.conftest import Files

EPOLLIN, EPOLLRDHUP = 0x1, 0x2000
NET_RX = 3
TUPLE = ("family", "saddr", "sport", "daddr", "dport")
Row = dict[str, Any]
Scenario = Callable[[str], Files]


@pytest.fixture(params=["herd", "race"])
def mode(request: pytest.FixtureRequest) -> str:
    """The server in which both workers meet at each connection, and the one where they race."""
    return str(request.param)


@pytest.fixture
def capture(scenario: Scenario) -> Recorded:
    return scenario("herd").capture("herd")


@pytest.fixture
def log(scenario: Scenario, mode: str) -> list[Row]:
    """What the server did, in the order of time."""
    lines: list[Row] = scenario("herd").json(f"{mode}_log")
    return sorted(lines, key=lambda line: line["ts"])


@pytest.fixture
def server(scenario: Scenario, mode: str) -> Row:
    """Its ports, and each worker's tid, epoll set and descriptors of the three listening sockets."""
    facts: Row = scenario("herd").json("servers")[mode]
    return facts


def _rows(capture: Recorded, sql: str, **parameters: Any) -> list[Row]:
    rows: list[Row] = capture.database.execute(sql, parameters).arrow().to_pylist()
    return rows


def _tids(server: Row) -> list[int]:
    return [worker["tid"] for worker in server["workers"]]


def _by_worker(server: Row, rows: list[Row], *columns: str) -> dict[int, list[tuple[Any, ...]]]:
    """For each worker its rows, in their order."""
    return {
        tid: [tuple(row[column] for column in columns) for row in rows if row["tid"] == tid] for tid in _tids(server)
    }


def _ends(row: Row) -> Row:
    """Both ends of a connection; an IPv4 address mapped into IPv6 is shown as IPv4, the family says which socket."""
    return {name: row[name].removeprefix("::ffff:") if "addr" in name else row[name] for name in TUPLE}


def _did(log: list[Row], *what: str) -> list[Row]:
    return [line for line in log if line["did"] in what]


def test_nothing_is_lost_and_nothing_is_left_out(capture: Recorded) -> None:
    assert {(line.lost, line.residue) for line in capture.capture.ledger()} == {(0, 0)}
    assert capture.rows("SELECT COUNT(*) FROM ep_poll_callback WHERE fd IS NULL OR epoll IS NULL") == [(0,)]


def test_returns_accepts_closes_and_callbacks_in_order(capture: Recorded, server: Row, log: list[Row]) -> None:
    for sql, columns, what, logged in (
        ("SELECT * FROM epolls ORDER BY seq", ("events",), "wait", ("events",)),
        ("SELECT * FROM accepts ORDER BY seq", ("fd",), "accept", ("fd",)),
        ("SELECT * FROM closes ORDER BY seq", ("fd",), "close", ("fd",)),
        ("SELECT * FROM assign_events ORDER BY seq", ("fd", "events"), "callback", ("fd", "events")),
    ):
        found = _by_worker(server, _rows(capture, sql), *columns)
        assert found == _by_worker(server, _did(log, what), *logged), what
        assert sum(map(len, found.values())) >= 8


def test_every_wakeup_through_a_connection_has_its_4_tuple(capture: Recorded, log: list[Row], mode: str) -> None:
    wakeups = _rows(capture, "SELECT * FROM wakeups WHERE fd IS NOT NULL ORDER BY seq")
    checked = Counter[str]()
    for accepted in _did(log, "accept"):
        closed = next(line for line in _did(log, "close") if line["ts"] > accepted["ts"] and _same(line, accepted))
        came = [row for row in wakeups if _same(row, accepted) and accepted["ts"] < row["ts"] < closed["ts"]]
        for row in came:
            assert {name: row[name] for name in TUPLE} == _ends(accepted)
            assert (row["context"], row["context_vec"]) == ("softirq", NET_RX)
            checked[row["tcp_state"]] += 1
    made = len(_did(log, "accept"))
    if mode == "herd":  # each of the two found the worker asleep
        assert checked == {"ESTABLISHED": made, "CLOSE_WAIT": made}
    assert set(checked) <= {"ESTABLISHED", "CLOSE_WAIT"}
    assert checked.total() <= 2 * made


def _same(one: Row, other: Row) -> bool:
    return (one["tid"], one["fd"]) == (other["tid"], other["fd"])


def _connections(log: list[Row]) -> list[tuple[Row, Row]]:
    """(winner's line, loser's line) for each connection that both met at."""
    return list(zip(_did(log, "accept"), _did(log, "in_vain"), strict=True))


@pytest.mark.parametrize("mode", ["herd"], indirect=True)
def test_winner_and_loser_of_each_herd(capture: Recorded, server: Row, log: list[Row], scenario: Scenario) -> None:
    """One connection after the other: two callbacks, two wakeups through two descriptors, one accept."""
    ports = {port: row for row, port in enumerate(server["ports"])}
    made = scenario("herd").json("connections")["herd"]
    wakeups = _rows(
        capture,
        "SELECT * FROM wakeups WHERE tcp_state = 'LISTEN' AND list_contains($tids, tid) ORDER BY seq",
        tids=_tids(server),
    )
    connections = _connections(log)
    assert len(wakeups) == 2 * len(connections) == 2 * len(made)
    for number, ((won, lost), connection) in enumerate(zip(connections, made, strict=True)):
        peer, port = connection["peer"]
        listener = 2 if ports[port] else (1 if ":" in peer else 0)
        herd = wakeups[2 * number : 2 * number + 2]
        expected = {worker["tid"]: worker["listeners"][listener] for worker in server["workers"]}
        assert {row["tid"]: row["fd"] for row in herd} == expected
        assert {row["sport"] for row in herd} == {port}
        assert {row["family"] for row in herd} == {10 if listener else 2}
        assert len({row["socket"] for row in herd}) == 1
        assert (won["tid"], lost["tid"]) == (_tids(server)[number % 2], _tids(server)[1 - number % 2])
        assert (won["listener"], lost["listener"]) == (expected[won["tid"]], expected[lost["tid"]])
        assert won["dport"] == connection["local"][1]


@pytest.mark.parametrize("mode", ["herd"], indirect=True)
@pytest.mark.parametrize("within_ms", [1, 20, 1000])
def test_the_herd_in_one_line(capture: Recorded, server: Row, within_ms: int) -> None:
    """`not followed by accepts` against a loop over the wakeups."""
    port = server["ports"][0]
    accepts = _by_worker(server, _rows(capture, "SELECT * FROM accepts ORDER BY seq"), "ts")
    expected: Counter[str] = Counter()
    for row in _rows(capture, "SELECT * FROM wakeups WHERE sport = $port OR dport = $port", port=port):
        times = [ts for (ts,) in accepts.get(row["tid"], [])]
        if not any(row["ts"] <= ts <= row["ts"] + within_ms * 1_000_000 for ts in times):
            expected[row["comm"]] += 1
    found = capture.ask(f"wakeups on port {port} not followed by accepts within {within_ms}ms | count by comm")
    assert dict(found) == expected


@pytest.mark.parametrize("mode", ["herd"], indirect=True)
def test_returns_say_what_ended_them(capture: Recorded, server: Row, log: list[Row]) -> None:
    """Each return of epoll_wait names the descriptor whose event the server then handled."""
    handled = iter(_did(log, "wait", "callback"))
    expected: dict[int, list[int]] = {tid: [] for tid in _tids(server)}
    for line in handled:
        if line["did"] == "callback":
            expected[line["tid"]].append(line["fd"])
    found = {
        tid: [fd for (fd,) in rows]
        for tid, rows in _by_worker(server, _rows(capture, "SELECT * FROM epolls ORDER BY seq"), "fd").items()
    }
    assert found == expected
