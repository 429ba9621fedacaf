"""Format files of several kernels: fields, run-time kinds and how sched_switch prints a state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tracectl.recorder import tracefs
from tracectl.recorder.tracefs import FormatField, parse_format, task_state_names
from tracectl.store.errors import RecordError
from tracectl.store.events import EXTRA, KINDS, Event
from tracectl.store.fields import COMM, IP, NAME, PATH, S16, S32, S64, TASK_STATE, Field

COMMON = """\
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:unsigned char common_flags;	offset:2;	size:1;	signed:0;
	field:unsigned char common_preempt_count;	offset:3;	size:1;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

"""
SWITCH_FIELDS = """\
	field:char prev_comm[16];	offset:8;	size:16;	signed:1;
	field:pid_t prev_pid;	offset:24;	size:4;	signed:1;
	field:int prev_prio;	offset:28;	size:4;	signed:1;
	field:long prev_state;	offset:32;	size:8;	signed:1;
	field:char next_comm[16];	offset:40;	size:16;	signed:1;
	field:pid_t next_pid;	offset:56;	size:4;	signed:1;
	field:int next_prio;	offset:60;	size:4;	signed:1;
"""


def format_text(fields: str, print_format: str = '"x"', name: str = "x") -> str:
    return f"name: {name}\nID: 316\nformat:\n{COMMON}{fields}\nprint fmt: {print_format}\n"


def switch_format(states: str, flags: str, plus: str, condition: str = "REC->prev_state & ({})") -> str:
    text = '"prev_comm=%s prev_pid=%d prev_prio=%d prev_state=%s%s ==> next_comm=%s next_pid=%d next_prio=%d", '
    text += "REC->prev_comm, REC->prev_pid, REC->prev_prio, "
    text += f'{condition.format(states)} ? __print_flags(REC->prev_state & ({states}), "|", {flags}) : "R", '
    text += f'REC->prev_state & {plus} ? "+" : "", REC->next_comm, REC->next_pid, REC->next_prio'
    return format_text(SWITCH_FIELDS, text, "sched_switch")


def report(zeros: str, bits: tuple[str, ...]) -> str:
    """TASK_REPORT_MAX as the preprocessor leaves it: an or of the reported states, plus 1, shifted."""
    return f"((({' | '.join((zeros, *bits))}) + 1) << 1)"


OLD = '{ 1, "S"} , { 2, "D" }, { 4, "T" }, { 8, "t" }, { 16, "Z" }, { 32, "X" }, { 64, "x" }'
LETTERS = "SDTtXZPI"
# include/trace/events/sched.h and include/linux/sched.h of each version.
KERNELS: dict[str, tuple[str, int, dict[int, str]]] = {
    "2.6.32": (
        switch_format("1024-1", OLD + ', { 128, "W" }', "1024"),
        1024,
        {0: "R", 1: "S", 2: "D", 16: "Z", 32: "X", 64: "x", 128: "W", 130: "D|W", 1024: "R+"},
    ),
    "3.10": (
        switch_format("512-1", OLD + ', { 128, "K" }, { 256, "W" }', "512"),
        512,
        {0: "R", 2: "D", 16: "Z", 130: "D|K", 256: "W", 512: "R+", 513: "S+"},
    ),
    "4.4": (
        switch_format("2048-1", OLD + ', { 128, "K" }, { 256, "W" }, { 512, "P" }, { 1024, "N" }', "2048"),
        2048,
        {1: "S", 512: "P", 1026: "D|N", 2048: "R+"},
    ),
    "4.9": (
        switch_format("4096-1", OLD + ', { 128, "K" }, { 256, "W" }, { 512, "P" }, { 1024, "N" }', "4096"),
        4096,
        {1: "S", 1026: "D|N", 2048: "0x800", 2049: "S|0x800", 4096: "R+"},
    ),
    "4.14": (
        switch_format(
            report("0", ("1", "2", "4", "8", "16", "32", "64")) + " - 1",
            ", ".join(f'{{ 0x{1 << i:02x}, "{letter}" }}' for i, letter in enumerate(LETTERS)),
            report("0", ("1", "2", "4", "8", "16", "32", "64")),
            "(REC->prev_state & ({}))",
        ),
        256,
        {0: "R", 1: "S", 8: "t", 16: "X", 32: "Z", 64: "P", 128: "I", 256: "R+"},
    ),
    "4.19": (
        switch_format(
            report("0x0000", tuple(f"0x{1 << i:04x}" for i in range(7))) + " - 1",
            ", ".join(f'{{ 0x{1 << i:04x}, "{letter}" }}' for i, letter in enumerate(LETTERS)),
            report("0x0000", tuple(f"0x{1 << i:04x}" for i in range(7))),
            "(REC->prev_state & ({}))",
        ),
        256,
        {0: "R", 2: "D", 3: "S|D", 256: "R+", 258: "D+"},
    ),
    "6.18": (
        switch_format(
            report("0x00000000", tuple(f"0x{1 << i:08x}" for i in range(7))) + " - 1",
            ", ".join(f'{{ 0x{1 << i:08x}, "{letter}" }}' for i, letter in enumerate(LETTERS)),
            report("0x00000000", tuple(f"0x{1 << i:08x}" for i in range(7))),
            "(REC->prev_state & ({}))",
        ),
        256,
        {0: "R", 1: "S", 2: "D", 128: "I", 256: "R+"},
    ),
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_states_print_as_this_kernel_prints_them(kernel: str) -> None:
    text, plus, wanted = KERNELS[kernel]
    parsed = parse_format(text)
    assert [field.name for field in parsed.fields] == [
        "prev_comm", "prev_pid", "prev_prio", "prev_state", "next_comm", "next_pid", "next_prio",
    ]  # fmt: skip
    name = task_state_names(parsed.print_format)
    assert {state: name(state) for state in wanted} == wanted
    for bit in range(16):
        assert name(1 << bit).endswith("+") == (1 << bit == plus)


@pytest.mark.parametrize(
    "broken",
    (
        "",
        '"prev_state=%s", REC->prev_state',
        '{ 1, "S" } REC->prev_state & TASK_STATE_MAX ? "+" : ""',
        '{ 1, "S" } (REC->prev_state & 1024) ? "+" : ""',
        '{ 1, "S" } REC->prev_state & ? "+" : ""',
        '{ 1, "S" } REC->prev_state & () ? "+" : ""',
        '{ 1, "S" } REC->prev_state & 1 2 ? "+" : ""',
        '{ 1, "S" } REC->prev_state & 1024UL ? "+" : ""',
        '{ 1, "S" } REC->prev_state & (1 << ) ? "+" : ""',
        '{ 1, "S" } REC->prev_state & (1 << -1) ? "+" : ""',
        '{ 1, "S" } REC->prev_state & 010 ? "+" : ""',
        '{ 1, "S" } REC->prev_state & __import__("os") ? "+" : ""',
        'REC->prev_state & 1024 ? "+" : ""',
    ),
)
def test_an_unknown_form_is_said_so(broken: str) -> None:
    with pytest.raises(RecordError, match=r"unknown form|preempted flag"):
        task_state_names(broken)


ODD = """\
	field:unsigned long vector;	offset:8;	size:8;	signed:0;
	field:bool success;	offset:16;	size:1;	signed:0;
	field:enum hrtimer_mode mode;	offset:20;	size:4;	signed:0;
	field:enum zone_type zone;	offset:24;	size:4;	signed:1;
	field:const char * ptr_name;	offset:32;	size:8;	signed:0;
	field:void *skaddr;	offset:40;	size:8;	signed:0;
	field:__u8 saddr[4];	offset:48;	size:4;	signed:0;
	field:__u8 saddr_v6[16];	offset:52;	size:16;	signed:0;
	field:__data_loc char[] path;	offset:68;	size:4;	signed:0;
	field:__rel_loc char[] tail;	offset:72;	size:4;	signed:0;
	field:__data_loc unsigned long[] mask;	offset:76;	size:4;	signed:0;
	field:__data_loc u8[] charset;	offset:80;	size:4;	signed:0;
	field:unsigned char mac[6];	offset:84;	size:6;	signed:0;
	field:__u8 char_data[16];	offset:90;	size:16;	signed:0;
	field:char unsigned_name[16];	offset:106;	size:16;	signed:0;
	field:char disk[32];	offset:122;	size:32;	signed:1;
	field:char long_name[64];	offset:154;	size:64;	signed:1;
	field:char flag;	offset:218;	size:1;	signed:1;
	field:unsigned char byte;	offset:219;	size:1;	signed:0;
	field:u16 port;	offset:220;	size:2;	signed:0;
	field:s16 signed_short;	offset:222;	size:2;	signed:1;
	field:struct timespec64 when;	offset:224;	size:16;	signed:0;
	field:unsigned long args[6];	offset:240;	size:48;	signed:0;
	field:int grid[2][3];	offset:288;	size:24;	signed:1;
	field:dev_t dev;	offset:312;	size:4;	signed:0
"""
WANTED = {
    "vector": (S64, "(s64)args->vector"),
    "success": (S16, "(s64)args->success"),
    "mode": (S64, "(s64)args->mode"),
    "zone": (S32, "(s64)args->zone"),
    "ptr_name": (S64, "(s64)args->ptr_name"),
    "skaddr": (S64, "(s64)args->skaddr"),
    "saddr_v6": (IP, "args->saddr_v6"),
    "path": (NAME, "DATA_LOC(path)"),
    "unsigned_name": (COMM, "args->unsigned_name"),
    "disk": (NAME, "args->disk"),
    "long_name": (PATH, "args->long_name"),
    "flag": (S16, "(s64)args->flag"),
    "byte": (S16, "(s64)args->byte"),
    "port": (S32, "(s64)args->port"),
    "signed_short": (S16, "(s64)args->signed_short"),
    "dev": (S64, "(s64)args->dev"),
}

Place = Callable[[str, str], None]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Puts a format file into a tracefs of the test's own."""
    monkeypatch.setattr(tracefs, "root", lambda: tmp_path)
    monkeypatch.setattr(tracefs, "tracepoints", tracefs.tracepoints.__wrapped__)

    def put(tracepoint: str, text: str) -> None:
        directory = tmp_path / "events" / tracepoint.replace(":", "/")
        directory.mkdir(parents=True)
        (directory / "format").write_text(text)

    return put


def test_a_run_time_kind_of_odd_fields(place: Place) -> None:
    place("test:odd", format_text(ODD.replace("signed:0\n", "signed:0;\n")))
    event = tracefs.runtime_event("test:odd")
    assert (event.kind, event.stream, event.probes, event.raw) == ("odd", EXTRA, ("test:odd",), False)
    found = {column.name: (column.type, column.c) for column in event.fields}
    assert found == {f"odd__{name}": wanted for name, wanted in WANTED.items()}
    assert tracefs.has_fields(event, "test:odd")
    assert tracefs.tracepoints() == {"test:odd"}


def test_parsed_fields_keep_place_and_form() -> None:
    fields = {field.name: field for field in parse_format(format_text(ODD)).fields}
    assert fields["saddr"] == FormatField("__u8 saddr[4]", "saddr", 48, 4, False)
    assert {name: field.form for name, field in fields.items() if field.form != "number"} == {
        "saddr": "array", "saddr_v6": "array", "path": "data_loc", "tail": "rel_loc", "mask": "data_loc",
        "charset": "data_loc", "mac": "array", "char_data": "array", "unsigned_name": "array", "disk": "array",
        "long_name": "array", "args": "array", "grid": "array",
    }  # fmt: skip
    assert fields["dev"].size == 4


def test_a_format_without_the_signed_column() -> None:
    (field,) = parse_format(format_text("\tfield:int a;\toffset:8;\tsize:4;\n")).fields
    assert field == FormatField("int a", "a", 8, 4, False)


def test_no_fields_and_no_print_format(place: Place) -> None:
    assert parse_format("").fields == ()
    place("test:empty", format_text(""))
    assert tracefs.runtime_event("test:empty").fields == ()


def test_has_fields_looks_at_what_is_read(place: Place) -> None:
    place("sched:sched_switch", KERNELS["6.18"][0])
    assert tracefs.has_fields(KINDS["sched_switch"], "sched:sched_switch")
    other = Event(
        "x", "sched", "", fields=(Field("a", TASK_STATE, "", "args->gone"), Field("b", NAME, "", "DATA_LOC(c)"))
    )
    assert not tracefs.has_fields(other, "sched:sched_switch")


def test_where_tracefs_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = tracefs.root.__wrapped__
    monkeypatch.setattr(tracefs, "_PLACES", (str(tmp_path / "a"), str(tmp_path / "b")))
    with pytest.raises(RecordError, match="not mounted") as caught:
        find()
    assert "mount -t tracefs" in caught.value.remedy
    (tmp_path / "b" / "events").mkdir(parents=True)
    assert find() == tmp_path / "b"

    def refused(_: Path) -> bool:
        raise PermissionError

    monkeypatch.setattr(Path, "is_dir", refused)
    with pytest.raises(RecordError, match="cannot be read") as caught:
        find()
    assert "sudo" in caught.value.remedy
