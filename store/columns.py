"""Columns that several kinds of the event catalogue share: one name, one meaning."""

from __future__ import annotations

from dataclasses import replace

from tracectl.store.fields import COMM, IP, S32, S64, Field

_PID = "BTF(s32, ARG(0), task_struct.pid)"
_TGID = "BTF(s32, ARG(0), task_struct.tgid)"
_COMM_OF_ARG0 = "ARG(0) + OFFSET(task_struct.comm)"
CPU_OF_ARG0 = "BTF(s32, ARG(0), task_struct.thread_info.cpu|task_struct.cpu)"

TARGET_TID = Field("target_tid", S32, "thread the event is about", _PID)
TARGET_PID = Field("target_pid", S32, "process of that thread", _TGID)
TARGET_COMM = Field("target_comm", COMM, "name of that thread", _COMM_OF_ARG0)
TARGET_PRIO = Field(
    "target_prio", S32, "its kernel priority (120 = nice 0, below 100 real-time)", "BTF(s32, ARG(0), task_struct.prio)"
)
TARGET = (TARGET_TID, TARGET_PID, TARGET_COMM, TARGET_PRIO)
# The call stacks of the current thread at the event, where they were asked for: the stack_id of a row of kind stack.
STACKS = (
    Field("kstack", S64, "stack_id of its stack in the kernel", "KSTACK", null=0),
    Field("ustack", S64, "stack_id of its stack in user space", "USTACK", null=0),
)
RET = Field("ret", S64, "return value; negative: -errno", "args->ret")
VEC = Field("vec", S32, "softirq vector or interrupt vector number", "ARG(0)")
IRQ = Field("irq", S32, "interrupt number, as in /proc/interrupts", "ARG(0)")
SOCKET = Field("socket", S64, "address of the kernel's struct sock", "(s64)args->skaddr")
FAMILY = Field("family", S32, "address family: 2 IPv4, 10 IPv6", "args->family")
PROTOCOL = Field("protocol", S32, "IP protocol number: 6 TCP", "args->protocol")
SPORT = Field("sport", S32, "local port", "args->sport")
DPORT = Field("dport", S32, "remote port", "args->dport")
SADDR = Field("saddr", IP, "local address", "args->saddr_v6")
DADDR = Field("daddr", IP, "remote address", "args->daddr_v6")
TCP_STATE = Field("tcp_state", S32, "the socket's TCP state (include/net/tcp_states.h)", null=0)
FD = Field("fd", S32, "file descriptor", "args->fd")


# A socket with its addresses, ports and state; null where the file is no such socket.
ENDPOINT = tuple(
    replace(column, c=f"ENDPOINT({column.name})", null=null)
    for column, null in (
        (SOCKET, 0), (FAMILY, 0), (SADDR, None), (SPORT, -1), (DADDR, None), (DPORT, -1), (TCP_STATE, 0),
    )
)  # fmt: skip
# What a wakeup came through: of the innermost ep_poll_callback inside which it happened, null where it was inside none.
CALLBACK = (replace(FD, c="CALLBACK(fd)", null=-1), *ENDPOINT)
