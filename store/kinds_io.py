"""The kinds of rows about epoll, sockets and CPU samples."""

from __future__ import annotations

from dataclasses import replace

from tracectl.store.columns import (
    DADDR,
    DPORT,
    ENDPOINT,
    FAMILY,
    FD,
    PROTOCOL,
    RET,
    SADDR,
    SOCKET,
    SPORT,
    STACKS,
)
from tracectl.store.entry import Event
from tracectl.store.fields import S32, S64, Field


def _syscall_exit(name: str, doc: str, example: str) -> Event:
    return Event(f"sys_exit_{name}", "epoll", doc, (f"syscalls:sys_exit_{name}",), (RET,), example=example)


EPOLL = (
    _syscall_exit("epoll_wait", "epoll_wait returns", 'epolls of comm "wrk:*"'),
    _syscall_exit("epoll_pwait", "epoll_pwait returns", 'epolls of comm "wrk:*"'),
    _syscall_exit("epoll_pwait2", "epoll_pwait2 returns", 'epolls of comm "wrk:*"'),
    _syscall_exit("accept", "accept returns", "accepts | count by comm"),
    _syscall_exit("accept4", "accept4 returns", "accepts | count by comm"),
    Event(
        "sys_enter_close",
        "epoll",
        "close is called",
        ("syscalls:sys_enter_close",),
        (FD,),
        example="closes on fd 42",
    ),
    Event(
        "ep_poll_callback",
        "epoll",
        "a file in an epoll set tells that it is ready; current may be a bystander",
        ("fentry:ep_poll_callback",),
        (
            replace(FD, c="CALLBACK(fd)", null=-1),
            Field("file", S64, "address of the open file (struct file)", "CALLBACK(file)"),
            Field("epoll", S64, "address of the epoll set (struct eventpoll)", "CALLBACK(epoll)"),
            Field("poll_events", S32, "what is ready, in bits: 1 EPOLLIN, 4 EPOLLOUT, …", "CALLBACK(events)"),
            *ENDPOINT,
        ),
        raw=True,
        example="callbacks on port 15006 | count by comm",
    ),
    Event(
        "inet_csk_accept",
        "epoll",
        "a connection is taken from a listening socket's queue",
        ("fexit:inet_csk_accept",),
        (Field("listener", S64, "address of the listening struct sock", "ARG(0)"), *ENDPOINT),
        raw=True,
        endpoint="RETURN",
        example="events inet_csk_accept | count by comm, sport",
    ),
)

NET = (
    Event(
        "inet_sock_set_state",
        "net",
        "a TCP (or SCTP, MPTCP) socket changes state",
        ("sock:inet_sock_set_state",),
        (
            SOCKET,
            FAMILY,
            PROTOCOL,
            Field("old_state", S32, "TCP state before (include/net/tcp_states.h)", "args->oldstate"),
            Field("new_state", S32, "TCP state after", "args->newstate"),
            SPORT,
            DPORT,
            SADDR,
            DADDR,
        ),
        example="connections on port 15006",
    ),
    Event(
        "sk_data_ready",
        "net",
        "a socket tells its reader that there is data",
        ("sock:sk_data_ready",),
        (SOCKET, FAMILY, PROTOCOL),
        example="events sk_data_ready | count by comm",
    ),
)

_ID = Field("id", S64, "system call number; -1 at a return that the kernel does not tell it of", "args->id")
_SYSCALL_EXAMPLE = "syscalls read over 1ms"
SYSCALL = (
    Event(
        "sys_enter",
        "syscall",
        "a system call begins",
        ("raw_syscalls:sys_enter",),
        (_ID, Field("compat", S32, "1: a 32-bit call, whose numbers mean other calls; else 0", "COMPAT")),
        example=_SYSCALL_EXAMPLE,
    ),
    Event(
        "sys_exit",
        "syscall",
        "a system call returns; of a new thread also the call that made it",
        ("raw_syscalls:sys_exit",),
        (_ID, RET),
        example=_SYSCALL_EXAMPLE,
    ),
)

PROFILE = (
    Event(
        "cpu_sample",
        "profile",
        "what a CPU runs, looked at many times a second; idle is not looked at",
        ("perf:cpu_clock",),
        optional=STACKS,
        example="samples | count by comm",
    ),
)
