"""Connections to the servers of herd.py, IPv4, IPv6, IPv4 on an IPv6 socket; each step when all workers sleep again."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

EPOLL_WAIT = 232  # x86-64
IPV4, IPV6 = "127.0.0.1", "::1"
ROUNDS, AT_ONCE = 2, 12

servers = json.loads(Path("servers.json").read_text())


def asleep(server: dict[str, Any]) -> None:
    """Until every worker sleeps in epoll_wait."""
    for worker in server["workers"]:
        task = Path(f"/proc/{server['pid']}/task/{worker['tid']}")
        while not (
            (task / "syscall").read_text().startswith(f"{EPOLL_WAIT} ") and " S " in (task / "stat").read_text()
        ):
            time.sleep(0.001)


def one_after_the_other(server: dict[str, Any]) -> list[dict[str, Any]]:
    """Connect, send, close; nothing overlaps."""
    port, dual = server["ports"]
    made = []
    for peer in [(IPV4, port), (IPV6, port), (IPV4, dual), (IPV6, dual)] * ROUNDS:
        asleep(server)
        with socket.create_connection(peer) as connection:
            made.append({"local": connection.getsockname()[:2], "peer": peer})
            asleep(server)
            connection.send(b"ping")
            assert connection.recv(100) == b"ping"
            asleep(server)
        asleep(server)
    return made


def all_at_once(server: dict[str, Any]) -> list[dict[str, Any]]:
    """As many as go: the workers find several, or what another one took."""
    port, dual = server["ports"]
    peers = [((IPV4, IPV6)[number % 2], (port, dual)[number // 2 % 2]) for number in range(AT_ONCE)]
    connections = [socket.create_connection(peer) for peer in peers]
    both = zip(connections, peers, strict=True)
    made = [{"local": connection.getsockname()[:2], "peer": peer} for connection, peer in both]
    for connection in connections:
        connection.send(b"ping")
    for connection in connections:
        assert connection.recv(100) == b"ping"
        connection.close()
    asleep(server)
    return made


made = {"herd": one_after_the_other(servers["herd"]), "race": all_at_once(servers["race"])}
Path("connections.json").write_text(json.dumps(made, indent=1))
