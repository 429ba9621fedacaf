"""The trace of the corpus, on one screen: two CPUs, a server of two threads, a database, a hostile name; its loss."""

from __future__ import annotations

from typing import Any

START, END = 1000, 1300
WEB, POOL, DB, CHILD, ODD = "web:11/10", "pool:12/10", "db:20", "db:21/20", "it's \"%_;:30"
ENDS = {"saddr": "10.0.0.1", "sport": 80, "daddr": "10.0.0.2", "dport": 1001, "family": 2}
SOCKET = {"socket": -99, **ENDS}
CONTAINER = "0123456789ab" + "c" * 52


def whole(trace: Any) -> Any:
    """Nothing is lost. CPU 0 is idle at first, CPU 1 runs ``db``."""
    trace.event(1000, None, "task", WEB, start_ts=900, cgroup=f"/kubepods/cri-containerd-{CONTAINER}.scope")
    trace.event(1000, None, "task", POOL, start_ts=910, cgroup=f"/kubepods/cri-containerd-{CONTAINER}.scope")
    trace.event(1000, None, "task", DB, start_ts=800, cgroup="/system.slice/db.service")
    trace.stack(1, "entry;do_epoll_wait;schedule").stack(2, "main;loop").stack(3, "softirq;try_to_wake_up")
    _request(trace)
    _birth(trace)
    _handover(trace)
    _disk(trace)
    trace.event(0, None, "stack_total", "db:20", map="@us", target_stack_id=2, value=700, unit="us")
    trace.event(0, None, "stack_total", "web:11/10", map="@us", target_stack_id=1, value=300, unit="us")
    trace.rows.sort(key=lambda row: row["ts"])
    for number, row in enumerate(trace.rows, 1):
        row["seq"] = 10 * number
    clocks = [{"ts": START, "boottime": START, "realtime": 1_651_648_335_000_000_000}]
    trace.options |= {"start_ts": START, "end_ts": END, "clocks": clocks, "host": "web-1"}
    trace.options["names"] = {"syscall": {"0": "read", "202": "futex"}}
    return trace


def _request(trace: Any) -> None:
    """A packet wakes ``web``, which accepts and wakes ``pool``; ``pool`` takes the CPU of ``db``."""
    trace.irq(1010, 1014, 0, 11).softirq(1015, 1024, 0, 3)
    trace.event(1017, 0, "ep_poll_callback", fd=41, poll_events=1, tcp_state=1, **SOCKET)
    trace.waking(1018, 0, "idle", WEB, "softirq", 3, kstack=3)
    trace.rows[-1] |= {"fd": 41, "tcp_state": 1, **SOCKET}
    trace.switch(1030, 0, "idle", "R", WEB)
    trace.event(1032, 0, "sys_exit_epoll_wait", WEB, ret=1).event(1034, 0, "sys_exit_accept4", WEB, ret=41)
    trace.event(1036, 0, "inet_sock_set_state", WEB, old_state=3, new_state=1, protocol=6, **SOCKET)
    trace.waking(1040, 0, WEB, POOL).event(1045, 1, "cpu_sample", DB, ustack=2)
    trace.switch(1046, 1, DB, "R+", POOL, ustack=2)
    trace.event(1050, 1, "sys_enter_close", POOL, fd=41)
    trace.switch(1060, 1, POOL, "S", DB, 1).switch(1064, 0, WEB, "S", "idle", 1, 2)


def _birth(trace: Any) -> None:
    """A timer wakes ``pool``; ``db`` has a child, which CPU 0 runs; the timer's softirq wakes the odd one."""
    trace.event(1070, 1, "hrtimer_expire_entry", DB, hrtimer=5, function="hrtimer_wakeup")
    trace.waking(1072, 1, DB, POOL, "hrtimer").event(1074, 1, "hrtimer_expire_exit", DB, hrtimer=5)
    trace.fork(1078, 1, DB, CHILD).new(1080, 1, DB, CHILD)
    trace.switch(1090, 0, "idle", "R", CHILD)
    trace.softirq(1094, 1098, 0, 1, CHILD).waking(1096, 0, CHILD, ODD, "softirq", 1)
    trace.event(1100, 0, "function_call", CHILD, function="do_sync", dur=15, depth=0)
    trace.event(1102, 0, "function_call", CHILD, function="vfs_write", dur=5, depth=1)


def _handover(trace: Any) -> None:
    """``pool`` wakes ``web`` and leaves it CPU 1; the odd one takes CPU 0 and wakes the child, which ends."""
    trace.switch(1110, 1, DB, "S", POOL).event(1112, 1, "sys_exit_epoll_wait", POOL, ret=0)
    trace.switch(1120, 0, CHILD, "D", ODD).waking(1130, 0, ODD, CHILD)
    trace.waking(1135, 1, POOL, WEB).switch(1150, 1, POOL, "S", WEB, 1)
    trace.event(1152, 1, "sys_exit_epoll_wait", WEB, ret=2).event(1153, 1, "sys_exit_accept4", WEB, ret=-11)
    trace.event(1155, 1, "sys_enter_close", WEB, fd=43)
    trace.event(1160, 1, "inet_sock_set_state", WEB, old_state=1, new_state=8, protocol=6, **SOCKET)
    trace.switch(1170, 0, ODD, "S", CHILD).exit(1180, 0, CHILD).switch(1182, 0, CHILD, "X", "idle")
    trace.switch(1190, 1, WEB, "S", "idle", 1, 2)


def _disk(trace: Any) -> None:
    """A slow device interrupt wakes ``db``, which reads, and then waits in a call that does not return."""
    trace.irq(1200, 1230, 1, 12, "nvme0q1").waking(1210, 1, "idle", DB, "hardirq", 12)
    trace.switch(1240, 1, "idle", "R", DB)
    trace.event(1245, 1, "sys_enter", DB, id=0, compat=0).event(1252, 1, "sys_exit", DB, id=0, ret=-4)
    trace.event(1258, 1, "sys_enter", DB, id=202, compat=0).switch(1260, 1, DB, "S", "idle")


def lossy(trace: Any) -> Any:
    """The same without three events of the scheduler on CPU 1, the timer's softirq, and a close."""
    whole(trace)
    for stream, cpu, first, last in (("sched", 1, 1110, 1150), ("irq", 0, 1094, 1098), ("epoll", 1, 1155, 1155)):
        _lose(trace, stream, cpu, first, last)
    return trace


def _lose(trace: Any, stream: str, cpu: int, first: int, last: int) -> None:
    prefixes = {
        "sched": ("sched_switch", "sched_wak"),
        "irq": ("softirq", "irq_", "hrtimer"),
        "epoll": ("sys_exit_", "sys_enter_c", "ep_"),
    }
    ring = [row for row in trace.rows if row["cpu"] == cpu and row["kind"].startswith(prefixes[stream])]
    gone = [row for row in ring if first <= row["ts"] <= last]
    assert gone
    before = max((row["ts"] for row in ring if row["ts"] < first), default=START)
    tail = {"ts": END, "seq": 10_000}
    after = min((row for row in ring if row["ts"] > last), key=lambda row: row["ts"], default=tail)
    trace.rows = [row for row in trace.rows if row not in gone]
    trace.lost(before, after["ts"], cpu, stream, len(gone))
    trace.rows[-1]["seq"] = after["seq"] - 5
