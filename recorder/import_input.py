"""The bytes of a trace to import: a file or standard input, decompressed, in blocks of whole lines."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast
from zlib import error as ZlibError

import pyarrow as pa

from tracectl.recorder.import_spool import Totals
from tracectl.store.errors import UserError

BLOCK_BYTES = 4 << 20
# A line that is longer is no event: it is cut, and the rest of it passed over.
LONGEST_LINE = 64 << 10
HEAD_BYTES = 64 << 10
_COMPRESSED: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda raw: gzip.GzipFile(fileobj=raw),
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": lambda raw: pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd"),
    b"BZh": bz2.BZ2File,
}
_DAMAGED = (EOFError, gzip.BadGzipFile, lzma.LZMAError, ZlibError, pa.ArrowException, OSError)


class Input:
    """One opened source.

    Attributes:
        name: as given; ``-`` is standard input.
        head: its first bytes, decompressed, to recognise it by.
        size: bytes on disk, 0 when not known.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = None if name == "-" else Path(name)
        raw = sys.stdin.buffer if self.path is None else _opened(self.path)
        self._raw = cast(io.BufferedReader, raw)
        self.size = self.path.stat().st_size if self.path and self.path.is_file() else 0
        start = self._raw.peek(8)[:8]
        unpack = next((unpack for magic, unpack in _COMPRESSED.items() if start.startswith(magic)), None)
        self.compressed = unpack is not None
        self._stream: Any = unpack(self._raw) if unpack else self._raw
        self.head = self._read_some(HEAD_BYTES)

    def consumed(self) -> int:
        """Bytes read from disk so far."""
        return self._raw.tell() if self.size else 0

    def _read_some(self, size: int) -> bytes:
        """Up to ``size`` bytes; fewer only at the end."""
        parts = []
        while size > 0 and (part := self._read(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _read(self, size: int) -> bytes:
        try:
            return bytes(self._stream.read(size))
        except _DAMAGED as error:
            what = "cannot be decompressed" if self.compressed else "cannot be read"
            raise UserError(f"{self.name} {what}: {error}", "copy it again from where it was made") from error

    def chunks(self) -> Iterator[bytes]:
        """All its bytes from the first on."""
        yield self.head
        while data := self._read_some(BLOCK_BYTES):
            yield data

    def close(self) -> None:
        """Close it; standard input stays open."""
        if self.path is not None:
            self._raw.close()


def _opened(path: Path) -> IO[bytes]:
    if not path.exists():
        raise UserError(f"no such file: {path}", "- reads standard input")
    if path.is_dir():
        raise UserError(f"{path} is a directory", "name the trace files in it")
    try:
        return path.open("rb")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def blocks(chunks: Iterator[bytes], totals: Totals) -> Iterator[bytes]:
    """The same bytes as blocks of whole lines, of some MB each; lines that are too long are cut, and counted."""
    rest, cutting = b"", False
    for chunk in chunks:
        data = rest + chunk
        cut = _cut(data)
        line = data[cut + 1 :]
        rest = line[: LONGEST_LINE + 1]
        cutting = cutting and cut < 0
        if len(rest) < len(line) and not cutting:
            totals.cut += 1
            cutting = True
        if cut >= 0:
            yield data[: cut + 1]
    if rest:
        yield rest


def _cut(data: bytes) -> int:
    """The end of the last line that ends a block; -1 for none. A call chain stays with its event in the next block."""
    near = max(len(data) - LONGEST_LINE, 0)
    last = at = data.rfind(b"\n")
    while (begin := data.rfind(b"\n", near, at)) >= 0:
        if data[begin + 1 : begin + 2] != b"\t":
            return begin
        at = begin
    return last if near else -1


_TRACE_BEGINS = (b'class="trace-data"', b"linuxPerfData")
_TRACE_ENDS = b"</script>"


def is_html(head: bytes) -> bool:
    """Whether a text is a page, as systrace writes them."""
    return head.lstrip()[:64].lower().startswith((b"<!doctype html", b"<html"))


def traces_in_html(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The traces that stand in a systrace page, without the page."""
    rest, inside = b"", False
    for chunk in chunks:
        rest += chunk
        while True:
            if inside:
                end = rest.find(_TRACE_ENDS)
                keep = end if end >= 0 else max(len(rest) - len(_TRACE_ENDS), 0)
                yield rest[:keep]
                rest = rest[keep:]
            else:
                begins = [at for mark in _TRACE_BEGINS if (at := rest.find(mark)) >= 0]
                line = rest.find(b"\n", min(begins)) if begins else -1
                rest = rest[line + 1 :] if line >= 0 else rest if begins else rest[-max(map(len, _TRACE_BEGINS)) :]
                end = line
            if end < 0:
                break
            inside = not inside
    if inside:
        yield rest
