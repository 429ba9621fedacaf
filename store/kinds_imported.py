"""The catalogue's entries of what only other tools' traces hold: no probe of ours records them."""

from __future__ import annotations

from dataclasses import replace

from tracectl.store.columns import RET
from tracectl.store.entry import Event
from tracectl.store.fields import COMM, KSYM, NAME, PATH, S32, S64, Field

FUNCTION = (
    Event(
        "function_call",
        "function",
        "a kernel function's call, from ftrace's function and function_graph tracers",
        fields=(
            Field("function", KSYM, "kernel function"),
            Field("dur", S64, "how long it lasted; null: not known", unit="ns"),
            Field("depth", S32, "calls around it that function_graph shows; null: not known"),
            replace(RET, c=""),
            Field("parent", KSYM, "function that called it"),
        ),
        example="calls | count by function",
    ),
)

TOTAL = (
    Event(
        "stack_total",
        "total",
        "a total that a tool kept for a call stack, or for the stacks of a sleeper and its waker; it has no time",
        fields=(
            Field("map", NAME, "name of the table it is from"),
            Field("key", PATH, "what else it is kept by, as written"),
            Field("target_stack_id", S64, "stack_id of the stack, in off-wake totals the sleeper's"),
            Field("waker_stack_id", S64, "stack_id of the waker's stack"),
            Field("waker_tid", S32, "the waker"),
            Field("waker_comm", COMM, "its name"),
            Field("value", S64, "the total"),
            Field("unit", NAME, "what it counts: us; null: the text does not tell"),
        ),
        example="stack totals | sum value by stack",
    ),
)
