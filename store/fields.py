"""The types that values have in a BPF record and in a capture, and what a column is. Imports nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FieldType:
    """How a value travels: C type in the BPF record, numpy format, type in the capture.

    Attributes:
        c: C declaration with ``{}`` for the name.
        numpy: the same as a numpy format string.
        arrow: ``int16 | int32 | int64 | string`` (strings are dictionary-encoded).
        assign: C statement that fills member ``{m}`` from expression ``{e}``.
        decode: name of the conversion from record to capture (see recorder/decode.py); empty: as it is.
    """

    c: str
    numpy: str
    arrow: str
    assign: str = "{m} = {e};"
    decode: str = ""


_READ = "bpf_probe_read_kernel(&{m}, sizeof({m}), (void *)({e}));"
_READ_STR = "bpf_probe_read_kernel_str(&{m}, sizeof({m}), (void *)({e}));"

S16 = FieldType("s16 {}", "i2", "int16")
S32 = FieldType("s32 {}", "i4", "int32")
S64 = FieldType("s64 {}", "i8", "int64")
COMM = FieldType("char {}[16]", "S16", "string", _READ_STR, decode="text")
NAME = FieldType("char {}[32]", "S32", "string", _READ_STR, decode="text")
# Text that may be unreadable: then its first byte is 0 and its second is not, as no text has it.
_TRY_STR = (
    "if (bpf_probe_read_@_str(&{m}, sizeof({m}), (void *)({e})) < 0) { ((char *)&{m})[0] = 0; ((char *)&{m})[1] = 1; }"
)
TEXT = FieldType("char {}[128]", "V128", "string", _TRY_STR.replace("@", "kernel"), decode="text_or_none")
USER_TEXT = FieldType("char {}[128]", "V128", "string", _TRY_STR.replace("@", "user"), decode="text_or_none")
PATH = FieldType("char {}[128]", "S128", "string", _READ_STR, decode="text")
IP = FieldType("u8 {}[16]", "V16", "string", _READ, decode="ip")
KSYM = FieldType("u64 {}", "u8", "string", decode="ksym")
TASK_STATE = FieldType("s32 {}", "i4", "string", decode="task_state")
CONTEXT = FieldType("s16 {}", "i2", "string", decode="context")
WAIT_CAUSE = FieldType("s16 {}", "i2", "string", decode="wait_cause")
U64 = FieldType("u64 {}", "u8", "int64")
FRAMES = FieldType("u64 {}[127]", "(127,)u8", "string", decode="frames")
PROBE_NAME = FieldType("s16 {}", "i2", "string", decode="probe_name")


@dataclass(frozen=True)
class Field:
    """One column of a kind.

    Attributes:
        name: the column; one name has one type and one meaning across the catalogue.
        type: how it travels.
        doc: one line for people.
        c: C expression that yields the value (bookkeeping kinds have none).
        unit: ``ns``, ``count`` or empty.
        null: the number that stands for "none" in the record and becomes null in the capture.
    """

    name: str
    type: FieldType
    doc: str
    c: str = ""
    unit: str = ""
    null: int | None = None
