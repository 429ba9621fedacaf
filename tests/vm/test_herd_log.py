"""The recorded herd, printed in the layout of the script ep_poll_interact, against the server's own log."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.kernel.conftest import TRACECTL, environment
from tests.vm.conftest import Files

RETURN = re.compile(r"^\*\*\*sleeper-wakeup: elapsed=\d+ *, pid=(\d+), tid=(\d+),comm=(\S+), event_count=(\d+)$")
WAKER = re.compile(
    r"^\*\*\*waker: elapsed=\d+ +tid=\d+,comm=.+: ep_poll_callback: "
    r"fd=(\d+), +(\S+):(\d+) +(\S+):(\d+) +(\S+) socket=0x"
)
WOKEN = re.compile(r"^try_to_wake_up: wakeupedPID=(\d+), wakeupedTID=(\d+), wakeupedTIDComm=(\S+)$")
FIRED = re.compile(r"^\*\*\*\*\* elapsed=\d+ *: tid=(\d+),comm=(\S+): BEGIN:EventFired:")
EVENT = re.compile(r"^FileEventImpl\*=\S+, fd=(\d+), events=(0x[0-9a-f]+)$")
ACCEPT = re.compile(r"^inet_csk_accept: (\S+) +(\d+) +(\S+) +(\d+) +sys_exit_accept4 fd=(\d+)$")
CLOSE = re.compile(r"^close fd=(\d+)$")


@pytest.fixture
def files(scenario: Callable[[str], Files]) -> Files:
    return scenario("herd")


@pytest.fixture
def lines(files: Files) -> list[str]:
    """What `replay --as epoll` prints of the server in which both workers meet."""
    pid = files.json("servers")["herd"]["pid"]
    command = [*TRACECTL, "replay", str(files.capture("herd").path), "--as", "epoll", "--", str(pid)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture
def log(files: Files) -> list[dict[str, Any]]:
    """What the server did, in the order of time."""
    return sorted(files.json("herd_log"), key=lambda line: line["ts"])


def _found(pattern: re.Pattern[str], lines: list[str]) -> list[tuple[str, ...]]:
    return [match.groups() for match in map(pattern.match, lines) if match]


def _did(log: list[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    return [line for line in log if line["did"] == what]


def test_what_the_server_did_is_printed(lines: list[str], log: list[dict[str, Any]]) -> None:
    returns = Counter((int(tid), int(events)) for _, tid, _, events in _found(RETURN, lines))
    assert returns == Counter((line["tid"], line["events"]) for line in _did(log, "wait"))
    accepts = [(int(dport), int(sport), int(fd)) for _, dport, _, sport, fd in _found(ACCEPT, lines)]
    assert accepts == [(line["dport"], line["sport"], line["fd"]) for line in _did(log, "accept")]
    assert [int(fd) for (fd,) in _found(CLOSE, lines)] == [line["fd"] for line in _did(log, "close")]
    # An event's two lines follow each other.
    fired = [
        (int(first[1]), int(second[1]), int(second[2], 16))
        for one, other in pairwise(lines)
        if (first := FIRED.match(one)) and (second := EVENT.match(other))
    ]
    expected = Counter((line["tid"], line["fd"], line["events"]) for line in _did(log, "callback"))
    assert Counter(fired) == expected
    assert len(fired) > len(accepts) > 0


def test_each_waker_line_names_socket_and_woken(lines: list[str], files: Files) -> None:
    printed = [
        (int(second[2]), int(first[1]), int(first[3]), int(first[5]), first[6])
        for one, other in pairwise(lines)
        if (first := WAKER.match(one)) and (second := WOKEN.match(other))
    ]
    server = files.json("servers")["herd"]
    connections = files.json("connections")["herd"]
    herds = [line for line in printed if line[4] == "LISTEN"]
    assert len(herds) == 2 * len(connections)
    for number, connection in enumerate(connections):
        peer, port = connection["peer"]
        listener = 2 if port == server["ports"][1] else (1 if ":" in peer else 0)
        expected = {(w["tid"], w["listeners"][listener], port, 0, "LISTEN") for w in server["workers"]}
        assert set(herds[2 * number : 2 * number + 2]) == expected
    data = Counter(line[3] for line in printed if line[4] == "ESTABLISHED")
    assert data == Counter(connection["local"][1] for connection in connections)
