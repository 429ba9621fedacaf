"""The stub include tree: content, place, repair, and recorders that start at once."""

from __future__ import annotations

import os
import platform
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tracectl.recorder import headers


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory of this test's own; ``stub_tree`` remembers nothing of other tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(headers, "stub_tree", headers.stub_tree.__wrapped__)
    # Ancestors of a test's directory may belong to anyone who runs the tests.
    monkeypatch.setattr(headers, "_only_ours", lambda path: True)
    return tmp_path


@pytest.mark.parametrize(
    ("release", "code"),
    [
        ("6.18.44-fc-v657", 6 << 16 | 18 << 8 | 44),
        ("6.1.0-18-amd64", 6 << 16 | 1 << 8),
        ("5.4.302", 5 << 16 | 4 << 8 | 255),
        ("7.0-rc1+", 7 << 16),
        ("odd", 0),
    ],
)
def test_version_code(release: str, code: int) -> None:
    assert headers.version_code(release) == code


def test_tree_is_complete_and_names_the_running_kernel(cache_home: Path) -> None:
    root = headers.stub_tree()
    assert root.parent == cache_home / "tracectl"
    assert (root / "include/linux/kconfig.h").is_file(), "BCC takes a directory without it for no kernel source"
    assert str(headers.version_code(platform.release())) in (root / "include/linux/version.h").read_text()
    assert not list(root.rglob(".new-*"))


def test_another_kernel_has_another_tree() -> None:
    assert headers.stub_files("6.1.0", 4096) != headers.stub_files("6.12.0", 4096)
    assert headers.stub_files("6.1.0", 4096) != headers.stub_files("6.1.0", 65536)


def test_damaged_tree_is_mended(cache_home: Path) -> None:
    root = headers.stub_tree()
    types = root / "include/linux/types.h"
    whole = types.read_text()
    types.write_text("#error half a file")
    (root / "include/asm/page.h").unlink()
    (root / "include/asm").rmdir()
    assert headers.stub_tree() == root
    assert types.read_text() == whole
    assert (root / "include/asm/page.h").is_file()


def test_cache_that_cannot_be_made_gives_a_temporary_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    root = headers.stub_tree.__wrapped__()
    assert tmp_path not in root.parents
    assert (root / "include/linux/types.h").is_file()


def test_directory_that_others_can_change_is_not_trusted(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    assert not headers._only_ours(shared / "tracectl")


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a directory away needs root")
def test_cache_of_the_invoking_user_is_not_trusted_by_root(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    assert not headers._only_ours(tmp_path / "tracectl")


def _make(root: str) -> int:
    files = headers.stub_files("6.1.0", 4096)
    headers._write_tree(Path(root), files)
    return sum((Path(root) / name).read_text() == text for name, text in files.items())


def test_recorders_that_start_at_once_all_see_a_whole_tree(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        whole = list(pool.map(_make, [str(tmp_path / f"tree-{n // 8}") for n in range(40)]))
    assert set(whole) == {len(headers.stub_files("6.1.0", 4096))}
