"""What tracectl says and does where kernel headers are wrong or absent, and where the kernel has no BTF."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from common import keep, say, tracectl

MODULES = Path("/lib/modules") / os.uname().release
WORKLOAD = Path(__file__).with_name("workload.py")


def wrong_headers() -> None:
    """Headers of a kernel whose task_struct is another one, where every BCC tool looks for them."""
    build = MODULES / "build"
    build.unlink()
    fake = build / "include" / "linux"
    fake.mkdir(parents=True)
    (fake / "sched.h").write_text(
        "struct task_struct { int pid; int tgid; char comm[16]; };\n#error of another kernel\n"
    )
    (build / "include" / "linux" / "kconfig.h").write_text("#error of another kernel\n")


def hide(path: Path) -> None:
    """Put something empty over a file or folder, for this boot."""
    Path("/tmp/nothing").mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", "/tmp/nothing", path], check=True)


said = {}
wrong_headers()
ran = tracectl("record", "-o", "mismatch.parquet", "-e", "sched", "--", sys.executable, WORKLOAD, "truth.json")
said["wrong_headers"] = [ran.returncode, ran.stdout, ran.stderr]
hide(Path("/sys/kernel/btf"))
for name in ("record", "doctor"):
    arguments = ("record", "-o", "never.parquet", "--", "true") if name == "record" else ("doctor",)
    ran = tracectl(*arguments)
    said[f"no_btf_{name}"] = [ran.returncode, ran.stdout, ran.stderr]
said["files"] = sorted(path.name for path in Path().iterdir())
keep("said", said)
say("done")
