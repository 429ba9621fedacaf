"""The stub kernel-include tree with which BCC compiles on a machine that has no kernel headers.

BCC adds its own helpers.h and bpf.h to each program; these ask for a handful of kernel headers. The tree holds just
what they use, so that nothing depends on installed headers, which need not match the running kernel. Probe code reads
kernel structs by BTF offsets (btf.py) and tracepoint arguments as the running kernel's tracefs describes them.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import platform
import re
import shutil
import stat
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

_KCONFIG = """\
#pragma once
#define CONFIG_64BIT 1
#define CONFIG_BPF_SYSCALL 1
#define CONFIG_ARCH_HAS_SYSCALL_WRAPPER 1
"""

# The types that BCC's headers use, and those that tracefs format files name for tracepoint fields.
_TYPES = """\
#pragma once
#define __always_inline inline __attribute__((always_inline))
#define __bitwise
#define __user
#define __percpu
#define __rcu
#define NULL ((void *)0)
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
typedef signed char __s8, s8, int8_t;
typedef unsigned char __u8, u8, uint8_t, u_char, unchar;
typedef short __s16, s16, int16_t;
typedef unsigned short __u16, u16, uint16_t, __be16, __le16, __sum16, umode_t, u_short, ushort;
typedef int __s32, s32, int32_t, pid_t, __kernel_pid_t, clockid_t, timer_t, key_t, mqd_t, key_serial_t, rwf_t;
typedef unsigned int __u32, u32, uint32_t, __be32, __le32, __wsum, uid_t, gid_t, qid_t, dev_t, gfp_t, uint, u_int;
typedef unsigned int __poll_t, blk_opf_t, blk_mode_t, fmode_t, slab_flags_t, errseq_t;
typedef long long __s64, s64, int64_t, loff_t, ktime_t, time64_t;
typedef unsigned long long __u64, u64, uint64_t, __be64, __le64, sector_t, blkcnt_t, dma_addr_t, phys_addr_t;
typedef unsigned long long resource_size_t, gpa_t, gfn_t;
typedef __u16 __attribute__((aligned(2))) __aligned_u16;
typedef __u64 __attribute__((aligned(8))) __aligned_u64;
typedef __s64 __attribute__((aligned(8))) __aligned_s64;
typedef __be64 __attribute__((aligned(8))) __aligned_be64;
typedef unsigned long uintptr_t, ino_t, aio_context_t, pgoff_t, vm_flags_t, u_long, ulong, __kernel_ulong_t;
typedef long off_t, ssize_t, time_t, __kernel_long_t;
typedef __SIZE_TYPE__ size_t;
typedef struct { int val[2]; } __kernel_fsid_t;
typedef void *fl_owner_t;
typedef struct sigset sigset_t;
typedef struct siginfo siginfo_t;
typedef struct fd_sets fd_set;
typedef _Bool bool;
enum { false = 0, true = 1 };
"""

# The members' order is the kernel's own (arch/*/include/asm/ptrace.h): a program type's context is laid out by it.
_PTRACE = """\
#pragma once
#include <linux/types.h>
#if defined(__x86_64__)
struct pt_regs {
  unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};
#elif defined(__aarch64__)
struct user_pt_regs { __u64 regs[31]; __u64 sp; __u64 pc; __u64 pstate; };
struct pt_regs {
  union {
    struct user_pt_regs user_regs;
    struct { u64 regs[31]; u64 sp; u64 pc; u64 pstate; };
  };
  u64 orig_x0;
};
#else
#error "tracectl records on x86-64 and arm64"
#endif
"""

_VERSION = """\
#pragma once
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))
#ifdef LINUX_VERSION_CODE_OVERRIDE
#define LINUX_VERSION_CODE LINUX_VERSION_CODE_OVERRIDE
#else
#define LINUX_VERSION_CODE {code}
#endif
"""

# BPF_STACK_TRACE rounds its size, which must stay a constant expression.
_LOG2 = """\
#pragma once
#define roundup_pow_of_two(n) ((n) <= 1 ? 1UL : 1UL << (64 - __builtin_clzl((n) - 1)))
"""

_EMPTY = "#pragma once\n"


def version_code(release: str) -> int:
    """LINUX_VERSION_CODE of a kernel release such as ``6.12.3-arch1``; a part that is missing counts as 0."""
    found = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", release)
    major, minor, patch = (min(int(part or 0), 255) for part in found.groups()) if found else (0, 0, 0)
    return major << 16 | minor << 8 | patch


def stub_files(release: str, page_size: int) -> dict[str, str]:
    """The tree as {path below its root: text} for a kernel ``release`` and a page size in bytes."""
    include = {
        "linux/kconfig.h": _KCONFIG,
        "linux/types.h": _TYPES,
        "linux/version.h": _VERSION.format(code=version_code(release)),
        "linux/log2.h": _LOG2,
        "asm/page.h": f"#pragma once\n#define PAGE_SIZE {page_size}UL\n",
        "uapi/linux/ptrace.h": _PTRACE,
        "linux/ptrace.h": "#include <uapi/linux/ptrace.h>\n",
        "linux/compiler.h": "#include <linux/types.h>\n",
        # Asked for by BCC, which uses nothing of theirs: its own bpf.h comes first, under the kernel's include guard.
        "linux/bpf_common.h": _EMPTY,
        "uapi/linux/bpf.h": _EMPTY,
        "uapi/linux/if_ether.h": _EMPTY,
        "uapi/linux/if_packet.h": _EMPTY,
        "linux/sched.h": "#pragma once\n#define TASK_COMM_LEN 16\n",
    }
    return {f"include/{path}": text for path, text in include.items()}


@cache
def stub_tree() -> Path:
    """The root of the stub tree (what ``BCC_KERNEL_SOURCE`` is to name), made when it is missing or damaged.

    It stands in the user's cache directory; where that cannot be written, or could be changed by another user, in a
    temporary directory that goes at exit.
    """
    files = stub_files(platform.release(), os.sysconf("SC_PAGE_SIZE"))
    digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:16]
    root = _cache_home() / "tracectl" / f"headers-{digest}"
    with suppress(OSError):  # a read-only or full cache: the temporary directory serves as well
        if _only_ours(root):
            return _write_tree(root, files)
    root = Path(tempfile.mkdtemp(prefix="tracectl-headers-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return _write_tree(root, files)


def _cache_home() -> Path:
    named = os.environ.get("XDG_CACHE_HOME", "")
    # The specification: a relative path is invalid and to be ignored.
    return Path(named) if named.startswith("/") else Path(os.path.expanduser("~/.cache"))  # noqa: PTH111 - never raises


def _only_ours(path: Path) -> bool:
    """Whether nobody but this user and root can put files of theirs at ``path``.

    What is compiled from there runs in the kernel with this user's privilege, often root's under ``sudo``, while the
    cache directory may still be that of the invoking user.
    """
    for place in (path, *path.parents):
        try:
            info = place.lstat()
        except FileNotFoundError:
            continue
        shared = info.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not info.st_mode & stat.S_ISVTX
        if info.st_uid not in (0, os.geteuid()) or shared or not stat.S_ISDIR(info.st_mode):
            return False
    return True


def _write_tree(root: Path, files: dict[str, str]) -> Path:
    """Bring ``root`` to hold ``files``.

    Each file is replaced atomically by the same content that any other recorder would write, so recorders that start
    at once cannot disturb each other, and a tree that a cleaner has thinned out is mended.
    """
    for name, text in files.items():
        path = root / name
        try:
            if path.read_text(encoding="utf-8") == text:
                continue
        except (FileNotFoundError, UnicodeDecodeError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
    return root
