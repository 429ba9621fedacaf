"""The guests' disks: a stock Debian with its kernel and BCC, and what tracectl needs; built once, kept in build/."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.vm.initramfs import Modules, initramfs

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "vm"
GUEST = Path(__file__).with_name("guest")

_TOOLS = {
    "qemu-system-x86_64": ("qemu-system-x86",),
    "mmdebstrap": ("mmdebstrap",),
    "mke2fs": ("e2fsprogs",),
    "gcc": ("gcc", "libc6-dev"),
}
_PACKAGES = ("busybox-static", "iproute2", "python3", "python3-bpfcc", "bpfcc-tools")
_DISK_SLACK = 1.25  # of ext4 over the sum of its files
_BUILD_LIMIT_S = 600


class Unavailable(Exception):
    """Why no guest can be had on this machine."""


@dataclass(frozen=True)
class Target:
    """A distribution to test in, with the versions of its python3 and BCC."""

    name: str
    suite: str
    python: str
    bcc: str


TARGETS = {
    "debian12": Target("debian12", "bookworm", "3.11", "0.26"),
    "debian13": Target("debian13", "trixie", "3.13", "0.31"),
}


@dataclass(frozen=True)
class Image:
    """What a guest is booted from. The root disk is never written to."""

    folder: Path

    @property
    def kernel(self) -> Path:
        """The compressed kernel."""
        return self.folder / "vmlinuz"

    @property
    def initramfs(self) -> Path:
        """What the kernel runs first."""
        return self.folder / "initramfs.cpio"

    @property
    def root(self) -> Path:
        """The root file system."""
        return self.folder / "root.ext4"


def image(target: Target) -> Image:
    """The image of a target, built now unless it is there already.

    Raises:
        Unavailable: this machine lacks a tool, or is no x86-64 one run by root.
    """
    _need_tools()
    folder = CACHE / f"{target.name}-{_recipe_hash(target)}"
    if not folder.is_dir():
        for old in CACHE.glob(f"{target.name}-*"):
            shutil.rmtree(old)
        unfinished = folder.with_suffix(".unfinished")
        unfinished.mkdir(parents=True)
        _build(target, unfinished)
        unfinished.rename(folder)
    return Image(folder)


def _need_tools() -> None:
    if platform.machine() != "x86_64":
        raise Unavailable(f"the guests are x86-64 machines, this one is {platform.machine()}")
    missing = _missing_packages()
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
        for command in (["update"], ["install", "-y", "--no-install-recommends", *sorted(missing)]):
            subprocess.run(["apt-get", "-qq", *command], check=False, timeout=_BUILD_LIMIT_S, **quiet)
        missing = _missing_packages()
    if missing:
        raise Unavailable(f"not installed: {', '.join(sorted(missing))}")
    if os.geteuid() != 0:
        raise Unavailable("only root can build a root file system")


def _missing_packages() -> set[str]:
    return {package for tool, packages in _TOOLS.items() if shutil.which(tool) is None for package in packages}


def _dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [str(name) for name in project["dependencies"]]


def _recipe_hash(target: Target) -> str:
    recipe = [repr(target), repr(_PACKAGES), repr(_dependencies())]
    sources = [Path(__file__), Path(__file__).with_name("initramfs.py"), GUEST / "init.sh", GUEST / "customize.sh"]
    recipe += [source.read_text() for source in sources]
    return hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:12]


def _run(*command: str | Path, log: Path) -> None:
    with log.open("ab") as output:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False, timeout=_BUILD_LIMIT_S
        )
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{tail}")


def _build(target: Target, folder: Path) -> None:
    rootfs, log = folder / "rootfs", folder / "build.log"
    mirror = _mirror()
    _run(
        "mmdebstrap", "--variant=minbase", "--mode=root", f"--include={','.join(_PACKAGES)}",
        '--aptopt=Apt::Install-Recommends "false"', f"--customize-hook={GUEST / 'customize.sh'}",
        target.suite, rootfs, *([f"deb {mirror} {target.suite} main"] if mirror else []), log=log,
    )  # fmt: skip
    site = rootfs / "opt" / "site"
    _run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:",
        f"--python-version={target.python}", f"--target={site}", *_dependencies(), log=log,
    )  # fmt: skip
    for unused in [*site.glob("*/tests"), *site.glob("*/*/tests"), *site.glob("*/include")]:
        shutil.rmtree(unused)
    # By the guest's own Python, on this machine: emulated it would take a minute at every boot.
    _run("chroot", rootfs, "python3", "-m", "compileall", "-q", "/opt/site", log=log)
    kernel = rootfs / "kernel"
    version = (kernel / "version").read_text().strip()
    shutil.copy(kernel / "image" / "boot" / f"vmlinuz-{version}", folder / "vmlinuz")
    (modules,) = kernel.glob(f"image/**/modules/{version}/modules.builtin")
    busybox, init = (rootfs / "bin" / "busybox").read_bytes(), (GUEST / "init.sh").read_bytes()
    (folder / "initramfs.cpio").write_bytes(initramfs(Modules(modules.parent), busybox, init))
    shutil.rmtree(kernel)
    disk(rootfs, folder / "root.ext4", log)
    shutil.rmtree(rootfs)


def disk(content: Path, output: Path, log: Path, spare: int = 64 << 20) -> None:
    """An ext4 file system of a folder's content, with room for ``spare`` bytes more."""
    used = sum(path.lstat().st_blocks * 512 for path in content.rglob("*"))
    size = int(used * _DISK_SLACK + spare) >> 20
    _run("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", content, output, f"{size}M", log=log)


def _mirror() -> str | None:
    """Where this machine gets Debian's packages from; None on another distribution: mmdebstrap's own default."""
    command = ["apt-get", "indextargets", "--format", "$(CREATED_BY) $(ORIGIN) $(RELEASE) $(REPO_URI)"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    for line in done.stdout.splitlines():
        kind, origin, release, uri = [*line.split(" ", 3), "", "", ""][:4]
        if kind == "Packages" and origin == "Debian" and "-" not in release:
            return uri
    return None
