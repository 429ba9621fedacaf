"""A checksum over a whole capture file, kept in its own Parquet footer: one wrong bit anywhere is found on opening.

Parquet readers decode flipped bits of a page to other values without a word (measured: every second flip).
"""

from __future__ import annotations

import mmap
import re
import zlib
from pathlib import Path
from typing import IO

from tracectl.store.errors import CaptureError

KEY = b"tracectl.crc32"
PLACEHOLDER = b"00000000"
# Captures of more bytes than this are opened unchecked: reading them would take longer than most questions.
LIMIT = 4 << 30

# How the entry lies in the footer (Thrift's compact protocol: two strings with their lengths). No text of a capture can
# look like this: JSON has no such control characters.
_ENTRY = re.compile(re.escape(b"\x18" + bytes([len(KEY)]) + KEY + b"\x18\x08") + rb"([0-9a-f]{8})\x00")
_LENGTH_AND_MAGIC = 8


def seal(file: IO[bytes]) -> None:
    """Put the checksum in the place of the placeholder of a Parquet file that was just written.

    Args:
        file: open for reading and writing, with key-value metadata ``KEY: PLACEHOLDER``.
    """
    file.flush()
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = _place(content)
        if place is None:
            raise ValueError("the Parquet footer has no place for the checksum")
        text = _crc(content, place)
    file.seek(place)
    file.write(text)
    file.seek(0, 2)


def verify(path: Path, expected: bytes) -> None:
    """Compare a file with the checksum in its metadata.

    Raises:
        CaptureError: it was changed or damaged since it was written.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = _place(content)
        if place is None or _crc(content, place) != expected:
            raise CaptureError(
                f"{path} is damaged: its checksum does not fit", "copy it again from where it was recorded"
            )


def _place(content: mmap.mmap) -> int | None:
    """Where in the file the checksum's digits are."""
    end = len(content) - _LENGTH_AND_MAGIC
    begin = max(end - int.from_bytes(content[end : end + 4], "little"), 0)
    found = _ENTRY.search(content[begin:end])
    return begin + found.start(1) if found else None


def _crc(content: mmap.mmap, place: int) -> bytes:
    """The CRC-32 of the whole, the digits themselves taken as the placeholder."""
    with memoryview(content) as view:
        value = zlib.crc32(view[:place])
        value = zlib.crc32(PLACEHOLDER, value)
        return b"%08x" % zlib.crc32(view[place + len(PLACEHOLDER) :], value)
