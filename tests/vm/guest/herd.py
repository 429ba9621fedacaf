"""Two workers on the same listening sockets, recorded: in one server both meet at each connection, in one they race.

The servers say what they did; nothing of that comes from tracing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from common import PROGRAMS, keep, say, tracectl

SERVER = PROGRAMS / "epoll_server"
CLIENT = Path(__file__).with_name("herd_client.py")
PORTS = {"herd": (15006, 15007), "race": (25006, 25007)}

servers = {
    mode: subprocess.Popen(
        [str(word) for word in (SERVER, *ports, mode)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    for mode, ports in PORTS.items()
}
facts = {}
for mode, server in servers.items():
    assert server.stdout
    facts[mode] = {"ports": PORTS[mode], **json.loads(server.stdout.readline())}
keep("servers", facts)
say("servers", facts)
CALLBACK = f"uprobe:{SERVER}:assign_events(fd:int=arg0, events:u16=arg1)"
groups = "sched,irq,epoll,net"
done = tracectl("record", "-o", "herd.parquet", "-e", groups, "-e", CALLBACK, "--", sys.executable, CLIENT)
for mode, server in servers.items():
    lines = server.communicate(timeout=30)[0].splitlines()
    keep(f"{mode}_log", [json.loads(line) for line in lines])
sys.exit(done.returncode)
