"""BTF read from a small file made here, and from the running kernel where it has one."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tracectl.recorder.btf import Btf
from tracectl.store.errors import RecordError

INT, PTR, ARRAY, STRUCT, UNION, FWD, TYPEDEF, CONST, FUNC, PROTO = 1, 2, 3, 4, 5, 7, 8, 10, 12, 13
VMLINUX = Path("/sys/kernel/btf/vmlinux")


class Writer:
    """Builds a BTF file type by type; each method gives the new type's id."""

    def __init__(self) -> None:
        self.strings = b"\0"
        self.types: list[bytes] = []

    def name(self, text: str) -> int:
        if not text:
            return 0
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text) - 1

    def add(self, kind: int, name: str, third: int, *words: int, members: int = 0, flag: int = 0) -> int:
        head = (self.name(name), flag << 31 | kind << 24 | members, third)
        self.types.append(struct.pack(f"={3 + len(words)}I", *head, *words))
        return len(self.types)

    def struct(self, name: str, *members: tuple[str, int, int], kind: int = STRUCT, flag: int = 0) -> int:
        words = [word for member, type_id, bits in members for word in (self.name(member), type_id, bits)]
        return self.add(kind, name, 64, *words, members=len(members), flag=flag)

    def proto(self, *args: tuple[str, int]) -> int:
        words = [word for arg, type_id in args for word in (self.name(arg), type_id)]
        return self.add(PROTO, "", 0, *words, members=len(args))

    def save(self, path: Path) -> Path:
        types = b"".join(self.types)
        header = struct.pack("=HBB5I", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(self.strings))
        path.write_bytes(header + types + self.strings)
        return path


@pytest.fixture
def btf(tmp_path: Path) -> Btf:
    w = Writer()
    integer = w.add(INT, "int", 4, 0x01000020)
    w.add(ARRAY, "", 0, integer, integer, 16)
    inner = w.struct("inner", ("a", integer, 0), ("b", integer, 32))
    alias = w.add(TYPEDEF, "inner_t", inner)
    hidden = w.struct("", ("deep", integer, 64), ("nest", alias, 96), kind=UNION)
    w.struct("outer", ("first", integer, 0), ("", hidden, 128), ("bit", integer, 3 << 24 | 261), flag=1)
    task = w.add(FWD, "task", 0)
    pointer = w.add(PTR, "", w.add(CONST, "", task))
    void = w.add(PTR, "", 0)
    w.add(TYPEDEF, "btf_trace_go", w.add(PTR, "", w.proto(("", void), ("", pointer), ("", integer))))
    w.add(TYPEDEF, "btf_trace_old", w.add(PTR, "", w.proto(("", void), ("", integer))))
    w.add(FUNC, "__traceiter_go", w.proto(("__data", void), ("p", pointer), ("state", integer)))
    w.add(FUNC, "plain", w.proto(("x", integer)))
    # A name that other names contain, and a function of the same name as a struct.
    w.struct("out", ("z", integer, 8))
    return Btf(w.save(tmp_path / "btf"))


@pytest.mark.parametrize(
    ("path", "offset"),
    [("inner.b", 4), ("outer.first", 0), ("outer.deep", 24), ("outer.nest.b", 32), ("out.z", 1)],
)
def test_offset(btf: Btf, path: str, offset: int) -> None:
    assert btf.offset(path) == offset


def test_first_path_that_exists_counts(btf: Btf) -> None:
    assert btf.offset("inner.gone", "absent.b", "inner.b", "inner.a") == 4


@pytest.mark.parametrize("path", ["inner.c", "absent.b", "outer.first.b", "outer.bit", "uter.first", "plain.x"])
def test_missing_member_is_named(btf: Btf, path: str) -> None:
    with pytest.raises(RecordError) as error:
        btf.offset(path)
    assert path in error.value.problem
    assert error.value.remedy


def test_arguments(btf: Btf) -> None:
    assert btf.func_args("btf_trace_go") == [("p", "const struct task *"), ("state", "int")]
    assert btf.func_args("btf_trace_old") == [("", "int")]
    assert btf.func_args("plain") == [("x", "int")]


@pytest.mark.parametrize(
    ("name", "words"), [("btf_trace_no", "raw tracepoint no"), ("f", "function f"), ("inner_t", "")]
)
def test_what_has_no_arguments_is_named(btf: Btf, name: str, words: str) -> None:
    with pytest.raises(RecordError) as error:
        btf.func_args(name)
    assert words in error.value.problem


def test_missing_file_has_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(RecordError) as error:
        Btf(tmp_path / "absent")
    assert "CONFIG_DEBUG_INFO_BTF" in error.value.remedy


@pytest.mark.parametrize("keep", [0, 10, 24, 60, 200])
def test_what_is_not_btf_is_refused(btf: Btf, tmp_path: Path, keep: int) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes((tmp_path / "btf").read_bytes()[:keep])
    with pytest.raises(RecordError, match="is not BTF"):
        Btf(cut)


def test_types_cut_off_are_refused(tmp_path: Path) -> None:
    w = Writer()
    w.struct("s", ("a", 0, 0))
    w.types[0] = w.types[0][:-4]
    with pytest.raises(RecordError, match="cut off"):
        Btf(w.save(tmp_path / "btf"))


@pytest.mark.skipif(not VMLINUX.exists(), reason="this kernel has no BTF")
def test_running_kernel() -> None:
    btf = Btf()
    assert btf.offset("list_head.prev") == struct.calcsize("P")
    assert btf.offset("task_struct.tgid") == btf.offset("task_struct.pid") + 4
    switch = dict(btf.func_args("btf_trace_sched_switch"))
    assert [text for text in switch.values() if text == "struct task_struct *"] == ["struct task_struct *"] * 2
