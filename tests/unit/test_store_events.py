"""The catalogue as a whole: one name, one meaning; everything that is derived from it can be derived."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tracectl.recorder.program import HEADER_FIELDS
from tracectl.store import fields
from tracectl.store.events import (
    BASE_FIELDS,
    BOOKKEEPING,
    CATALOGUE,
    CAUSES,
    CONTEXTS,
    GROUPS,
    KINDS,
    NEVER_EMITTED_PROBES,
    VECTOR_CONTEXTS,
    Catalogue,
    Event,
    probe_matches,
)
from tracectl.store.fields import S32, S64, Field, FieldType
from tracectl.store.schema import arrow_type, capture_schema, table_of

EVENTS = [event for event in CATALOGUE if not event.bookkeeping and not event.imported]
EACH = pytest.mark.parametrize("event", CATALOGUE, ids=lambda event: event.kind)
EACH_RECORDED = pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
TYPES = {name: value for name, value in vars(fields).items() if isinstance(value, FieldType)}
# One column, whose doc names what is special about the kind.
SAME_MEANING = {
    "target_cpu": "a CPU, of which each kind says why",
    "cause": "why, of a loss or of a wait",
}


def test_kinds_are_declared_once() -> None:
    assert len(KINDS) == len(CATALOGUE)
    assert set(GROUPS) == {event.stream for event in EVENTS}
    assert [kind for group in GROUPS.values() for kind in group] == [event.kind for event in EVENTS]


def test_a_column_has_one_type_and_one_meaning() -> None:
    known = Catalogue().columns()
    for event in CATALOGUE:
        for column in event.columns:
            assert column.type.arrow == known[column.name].type.arrow
            assert column.unit == known[column.name].unit
            if column.name not in SAME_MEANING:
                assert column.doc == known[column.name].doc, f"{event.kind}.{column.name}"


def test_two_types_for_one_name_are_refused() -> None:
    other = Event("x", "extra", "", fields=(Field("target_tid", S64, ""),))
    with pytest.raises(ValueError, match="target_tid is int32 and, in x, int64"):
        Catalogue.of([other]).columns()


@EACH
def test_entry_is_complete(event: Event) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", event.kind)
    assert event.doc
    assert len(event.doc.splitlines()) == 1
    names = [column.name for column in event.columns]
    assert len(set(names)) == len(names)
    for column in event.fields:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", column.name)
        assert column.doc
        assert column.unit in ("", "ns", "count")
        assert bool(column.c) == bool(event.probes)
        assert column.null is None or column.type.arrow != "string"
    assert set(event.subjects) <= set(names)
    assert event.bookkeeping == (event.stream == BOOKKEEPING)
    assert (event.bookkeeping or event.imported) == (not event.probes)
    assert event.bookkeeping or event.example
    assert not event.of_task or re.fullmatch(RAW, event.of_task)


@EACH_RECORDED
def test_entry_can_be_recorded(event: Event) -> None:
    assert event.example
    assert event.kind in GROUPS[event.stream]
    assert all(re.fullmatch(r"[a-z_]+:[a-z0-9_*]+", probe) for probe in event.probes)
    assert not event.endpoint or re.fullmatch(RAW + "|RETURN", event.endpoint)
    for name in event.subjects:
        column = {column.name: column for column in event.columns}[name]
        assert column.type == S32
    if event.context:
        assert event.raw
        assert re.fullmatch(r"leave|enter (softirq|hardirq|hrtimer|ipi|vector)", event.context)
        assert not event.context_vec or event.context.startswith("enter")


RAW = (
    r"((ENDPOINT|CALLBACK)\(\w+\)|ARG\(\d\)|ARG\(\d\) \+ OFFSET\(@\)|BTF\((s32|u64), ARG\(\d\), @\)"
    r"|CONTEXT|CONTEXT_VEC|PROBE|KSTACK|USTACK|WAIT_NS|WAIT_CAUSE)"
).replace("@", r"\w+(\.\w+)+(\|\w+(\.\w+)+)*")
CLASSIC = r"((\(s64\))?args->\w+|DATA_LOC\(\w+\)|PROBE|COMPAT)"


@EACH_RECORDED
def test_c_expressions_are_of_the_vocabulary(event: Event) -> None:
    for column in event.fields:
        assert re.fullmatch(RAW if event.raw else CLASSIC, column.c), column.c
        if column.type in (fields.COMM, fields.NAME, fields.PATH) and event.raw:
            assert "OFFSET" in column.c or "BTF(u64" in column.c
    if event.context_vec:
        assert re.fullmatch(RAW, event.context_vec)


def test_entries_and_exits_come_in_pairs() -> None:
    entries = {event.kind for event in EVENTS if event.context.startswith("enter")}
    exits = {event.kind for event in EVENTS if event.context == "leave"}
    assert {kind.removesuffix("_entry") for kind in entries} == {kind.removesuffix("_exit") for kind in exits}
    assert entries


def test_vocabularies() -> None:
    assert set(VECTOR_CONTEXTS.values()) <= set(CONTEXTS)
    assert CONTEXTS[0] == "task"
    assert len(set(CONTEXTS)) == len(CONTEXTS)
    assert all(CAUSES.values())
    assert all(cause in KINDS["lost"].fields[-1].doc for cause in CAUSES)


def test_probes_match_as_written() -> None:
    assert probe_matches("irq_vectors:*_entry", "irq_vectors:local_timer_entry")
    assert not probe_matches("irq_vectors:*_entry", "irq_vectors:local_timer_exit")
    assert not probe_matches("sched:sched_wakeup", "sched:sched_wakeup_new")
    assert any(probe_matches(pattern, "irq_vectors:irq_work_exit") for pattern in NEVER_EMITTED_PROBES)
    probes = [probe for event in EVENTS if not event.of_task for probe in event.probes]
    assert len(set(probes)) == len(probes)


@pytest.mark.parametrize("name", TYPES)
def test_types_exist_everywhere(name: str) -> None:
    kind = TYPES[name]
    assert "{}" in kind.c
    assert "{m}" in kind.assign
    assert "{e}" in kind.assign
    assert arrow_type(kind.arrow) is not None
    assert (kind.arrow == "string") == bool(kind.decode)
    size = np.dtype(kind.numpy).itemsize
    match = re.fullmatch(r"(char|u8|s16|s32|s64|u64) \{\}(\[(\d+)\])?", kind.c)
    assert match
    assert size == {"char": 1, "u8": 1, "s16": 2, "s32": 4, "s64": 8, "u64": 8}[match[1]] * int(match[3] or 1)


def test_schema_has_every_column_of_the_kinds_and_no_other() -> None:
    for kinds in ([], ["sched_switch"], list(KINDS)):
        schema = capture_schema(Catalogue(), kinds)
        wanted = {c.name for event in CATALOGUE if event.bookkeeping or event.kind in kinds for c in event.columns}
        assert set(schema.names) == wanted
        assert schema.names[: len(BASE_FIELDS)] == [column.name for column in BASE_FIELDS]


@EACH
def test_an_empty_table_of_each_kind(event: Event) -> None:
    table = table_of(capture_schema(Catalogue(), [event.kind]), event.kind, {}, 0)
    assert table.num_rows == 0


TYPEDEFS = (
    "#include <stddef.h>\n#include <stdio.h>\n"
    "typedef unsigned long long u64; typedef long long s64; typedef unsigned u32; typedef int s32;"
    "typedef short s16; typedef unsigned char u8;\n"
)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_numpy_lays_records_out_as_c_does(tmp_path: Path) -> None:
    c_types = {"u8": "u64", "u4": "u32", "i4": "s32", "S16": "char"}
    head = " ".join(f"{c_types[form]} {name}{'[16]' if form == 'S16' else ''};" for name, form in HEADER_FIELDS)
    every_type = Event("every_type", "x", "", fields=tuple(Field(f"f{i}", t, "") for i, t in enumerate(TYPES.values())))
    structs, prints, wanted = [], [], []
    for event in [*EVENTS, every_type]:
        members = " ".join(column.type.c.format(column.name) + ";" for column in event.fields)
        structs.append(f"struct {event.kind} {{ {head} {members} }};")
        dtype = np.dtype(HEADER_FIELDS + [(c.name, c.type.numpy) for c in event.fields], align=True)
        prints.append(f'printf("{event.kind} %zu\\n", sizeof(struct {event.kind}));')
        wanted.append(f"{event.kind} {dtype.itemsize}")
        for name in dtype.names or ():
            prints.append(f'printf("{event.kind}.{name} %zu\\n", offsetof(struct {event.kind}, {name}));')
            wanted.append(f"{event.kind}.{name} {(dtype.fields or {})[name][1]}")
    source = tmp_path / "layout.c"
    source.write_text(TYPEDEFS + "\n".join(structs) + "\nint main(void) {" + "\n".join(prints) + "return 0; }\n")
    subprocess.run(["cc", "-o", tmp_path / "layout", source], check=True)
    found = subprocess.run([tmp_path / "layout"], check=True, capture_output=True, text=True).stdout
    assert found.splitlines() == wanted
