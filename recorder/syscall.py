"""bpf(2) as it is: maps, what the kernel knows of its objects, and whether it lets a function be traced."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import NamedTuple

from tracectl.store.errors import RecordError

_libc = ctypes.CDLL(None, use_errno=True)

_BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}
_MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, _PROG_LOAD, _OBJ_GET_INFO, _RAW_TRACEPOINT_OPEN = 1, 2, 3, 5, 15, 17
_LINK_CREATE, _ITER_CREATE = 28, 33
_TYPE_TRACING, TRACE_FENTRY, TRACE_FEXIT, TRACE_ITER = 26, 24, 25, 28


class MapInfo(NamedTuple):
    """Type and sizes (in bytes) of a BPF map, as the kernel has them."""

    type: int
    key_size: int
    value_size: int
    max_entries: int


def _bpf(command: int, attr: bytes) -> int:
    """bpf(2) with the bytes of its ``union bpf_attr``: a descriptor or 0; OSError when it fails."""
    number = _BPF_SYSCALL.get(platform.machine())
    if number is None:
        raise RecordError(f"recording is not supported on {platform.machine()}", "x86-64 and arm64 machines are")
    # 128 zero bytes: unused members must be 0, and the kernel accepts any length.
    buffer = ctypes.create_string_buffer(attr, 128)
    result: int = _libc.syscall(number, command, ctypes.byref(buffer), len(buffer))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def object_info(fd: int, size: int) -> bytes:
    """``struct bpf_map_info`` or ``bpf_prog_info`` of ``fd``, zero where the kernel is older than ``size``."""
    info = ctypes.create_string_buffer(size)
    _bpf(_OBJ_GET_INFO, struct.pack("=IIQ", fd, size, ctypes.addressof(info)))
    return info.raw


def map_info(fd: int) -> MapInfo:
    """What the map behind ``fd`` is."""
    kind, _, key_size, value_size, max_entries = struct.unpack_from("=5I", object_info(fd, 32))
    return MapInfo(kind, key_size, value_size, max_entries)


def map_lookup(fd: int, key: bytes, size: int) -> bytes | None:
    """The value of ``key``, ``size`` bytes (per-CPU maps: 8-byte aligned, once per possible CPU); None if absent."""
    key_buffer, value = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(size)
    try:
        _bpf(_MAP_LOOKUP, struct.pack("=I4xQQQ", fd, ctypes.addressof(key_buffer), ctypes.addressof(value), 0))
    except FileNotFoundError:
        return None
    return value.raw


def map_update(fd: int, key: bytes, value: bytes) -> None:
    """Set ``key`` to ``value``; OSError (E2BIG when the map is full)."""
    key_buffer, value_buffer = (ctypes.create_string_buffer(part, len(part)) for part in (key, value))
    _bpf(_MAP_UPDATE, struct.pack("=I4xQQQ", fd, ctypes.addressof(key_buffer), ctypes.addressof(value_buffer), 0))


def map_delete(fd: int, key: bytes) -> bool:
    """Remove ``key``; False when it was not there."""
    key_buffer = ctypes.create_string_buffer(key, len(key))
    try:
        _bpf(_MAP_DELETE, struct.pack("=I4xQQQ", fd, ctypes.addressof(key_buffer), 0, 0))
    except FileNotFoundError:
        return False
    return True


def load_tracing(code: tuple[int, int], btf_id: int, attach: int, *, log: int = 0, log_size: int = 0) -> int:
    """Load a program for a kernel function's begin, its return, or an iterator; OSError: refused.

    Args:
        code: address and number of its instructions.
        btf_id: of the function.
        attach: TRACE_FENTRY, TRACE_FEXIT or TRACE_ITER.
        log: address of ``log_size`` bytes for the verifier's words, 0: none are wanted.
    """
    license_ = ctypes.create_string_buffer(b"GPL")
    attr = struct.pack("=IIQQ", _TYPE_TRACING, code[1], code[0], ctypes.addressof(license_))
    attr += struct.pack("=IIQ", bool(log), log_size, log)
    attr = attr.ljust(68, b"\0") + struct.pack("=I", attach)
    return _bpf(_PROG_LOAD, attr.ljust(108, b"\0") + struct.pack("=I", btf_id))


def try_tracing(btf_id: int, *, exit_too: bool) -> None:
    """Attach a program that does nothing to a kernel function's begin (and return), and detach it; OSError: refused."""
    code = ctypes.create_string_buffer(struct.pack("=QQ", 0xB7, 0x95))  # r0 = 0; exit
    for attach in (TRACE_FENTRY, TRACE_FEXIT) if exit_too else (TRACE_FENTRY,):
        program = load_tracing((ctypes.addressof(code), 2), btf_id, attach)
        try:
            os.close(_bpf(_RAW_TRACEPOINT_OPEN, struct.pack("=QI", 0, program)))
        finally:
            os.close(program)


def link_iterator(program: int) -> int:
    """A link of a loaded iterator program, from which :func:`iterate` runs it; OSError: refused."""
    return _bpf(_LINK_CREATE, struct.pack("=III", program, 0, TRACE_ITER))


def iterate(link: int) -> None:
    """Run an iterator program over all that there is; what it writes is thrown away."""
    iterator = _bpf(_ITER_CREATE, struct.pack("=II", link, 0))
    try:
        while True:
            try:
                if not os.read(iterator, 4096):
                    return
            except BlockingIOError:
                continue  # it stops after a million objects, to be read on
    finally:
        os.close(iterator)
