"""The initramfs of the guest: busybox, the modules that its disks need, and an init script, as a cpio archive."""

from __future__ import annotations

import lzma
import re
from pathlib import Path

_APPLETS = ("sh", "mount", "insmod", "mkdir", "switch_root", "cat", "echo", "ls")
_FOLDERS = ("bin", "dev", "proc", "sys", "mod", "new", "ro", "rw")
_FOLDER, _FILE, _LINK, _CONSOLE = 0o040755, 0o100755, 0o120777, 0o020600


class Archive:
    """A cpio archive in the form that the kernel unpacks (newc, Documentation/driver-api/early-userspace)."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._inode = 0

    def add(self, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        """One entry; a link's content is where it leads."""
        self._inode += 1
        path = name.encode() + b"\0"
        numbers = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
        head = "070701" + "".join(f"{number:08x}" for number in numbers)
        for part in (head.encode() + path, content):
            self._bytes += part
            self._bytes += bytes(-len(self._bytes) % 4)

    def finished(self) -> bytes:
        """The whole archive."""
        self.add("TRAILER!!!", 0)
        return bytes(self._bytes)


class Modules:
    """The modules of an unpacked kernel, each by its name with underscores."""

    def __init__(self, folder: Path) -> None:
        self._paths = {_module(path.name): path for path in folder.rglob("*.ko*")}
        builtin = (folder / "modules.builtin").read_text().split()
        self._builtin = {_module(Path(line).name) for line in builtin}

    def content(self, name: str) -> bytes:
        """A module's ELF file, unpacked (Debian packs them since 13)."""
        path = self._paths[name]
        return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()

    def with_dependencies(self, *wanted: str) -> list[str]:
        """These and what they need, in the order in which they must be loaded."""
        order: list[str] = []
        for name in wanted:
            self._add(name, order)
        return order

    def _add(self, name: str, order: list[str]) -> None:
        if name in self._builtin or name in order:
            return
        found = re.search(rb"\0depends=([^\0]*)\0", self.content(name))
        for needed in found[1].decode().split(",") if found and found[1] else ():
            self._add(needed.replace("-", "_"), order)
        order.append(name)


def _module(file_name: str) -> str:
    return file_name[: file_name.index(".ko")].replace("-", "_")


def initramfs(modules: Modules, busybox: bytes, init: bytes) -> bytes:
    """What the kernel unpacks and runs first."""
    archive = Archive()
    for folder in _FOLDERS:
        archive.add(folder, _FOLDER)
    archive.add("dev/console", _CONSOLE, device=(5, 1))
    archive.add("bin/busybox", _FILE, busybox)
    for applet in _APPLETS:
        archive.add(f"bin/{applet}", _LINK, b"busybox")
    order = modules.with_dependencies("virtio_pci", "virtio_blk", "ext4", "overlay")
    for name in order:
        archive.add(f"mod/{name}.ko", _FILE, modules.content(name))
    archive.add("mod/order", _FILE, "".join(f"{name}\n" for name in order).encode())
    archive.add("init", _FILE, init)
    return archive.finished()
