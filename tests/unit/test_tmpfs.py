"""Files of secrets: for one user's eyes, in memory where that can be, and gone when they should be."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from rota.adapters import tmpfs
from rota.adapters.tmpfs import TmpfsFiles
from rota.errors import ExecutionError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def nowhere(folder: Path) -> Path:
    """Return a table of mounts without any file system in memory."""
    path = folder / "mountinfo"
    path.write_text("1 2 0:1 / / rw - ext4 /dev/vda rw\n")
    return path


def test_files_are_for_one_user_and_gone_when_removed(tmp_path: Path) -> None:
    files = TmpfsFiles(tmp_path)
    folder = files.write("b.1", {"key": b"value", "other": b""})
    try:
        assert (folder / "key").read_bytes() == b"value"
        assert [mode(folder), mode(folder / "key"), mode(folder.parent)] == [0o700, 0o400, 0o711]
        again = files.write("b.1", {"key": b"new"})
        assert again == folder
        assert [it.name for it in folder.iterdir()] == ["key"]
    finally:
        files.remove("b.1")
    assert not folder.parent.exists()
    files.remove("b.1")


def test_where_nothing_lives_in_memory_they_lie_in_the_agents_own_folder(tmp_path: Path) -> None:
    files = TmpfsFiles(tmp_path, nowhere(tmp_path))
    folder = files.write("b.1", {"key": b"value"})
    assert folder.is_relative_to(tmp_path)
    files.remove("b.1")
    assert not folder.exists()


def test_an_engine_outside_of_the_agents_container_sees_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / ".dockerenv"
    monkeypatch.setattr(tmpfs, "CONTAINED", (mark,))
    files = TmpfsFiles(tmp_path)
    alone = files.write("a.1", {"key": b"value"}, shared=True)
    files.remove("a.1")
    mark.touch()
    shared = files.write("b.1", {"key": b"value"}, shared=True)
    assert shared.is_relative_to(tmp_path)
    assert alone.is_relative_to(tmp_path) is not Path("/dev/shm").is_dir()
    files.sweep([])
    assert not shared.exists()


def test_a_sweep_leaves_what_is_alive_and_what_is_another_agents(tmp_path: Path) -> None:
    one, other = TmpfsFiles(tmp_path / "one"), TmpfsFiles(tmp_path / "other")
    alive = one.write("b.1", {"key": b"value"})
    dead = one.write("b.2", {"key": b"value"})
    others = other.write("b.2", {"key": b"value"})
    try:
        TmpfsFiles(tmp_path / "one").sweep(["b.1"])
        assert [alive.exists(), dead.exists(), others.exists()] == [True, False, True]
    finally:
        one.sweep([])
        other.sweep([])
    assert not alive.exists()
    assert not others.exists()


def test_a_folder_that_is_somebody_elses_is_not_taken(tmp_path: Path) -> None:
    files = TmpfsFiles(tmp_path, nowhere(tmp_path))
    [base] = [tmp_path / files._name]
    (tmp_path / "elsewhere").mkdir()
    base.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ExecutionError, match="cannot write the files of secrets in"):
        files.write("b.1", {"key": b"value"})
    assert list((tmp_path / "elsewhere").iterdir()) == []
    files.sweep([])
    assert (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_user_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ExecutionError, match="no user is called 'nobody-of-that-name'"):
        TmpfsFiles(tmp_path).write("b.1", {"key": b"v"}, user="nobody-of-that-name")


def test_what_others_of_this_user_left_empty_is_swept_and_no_write_fails_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = TmpfsFiles(tmp_path / "one"), TmpfsFiles(tmp_path / "other")
    base = other.write("b.1", {"key": b"value"}).parent
    try:
        one.sweep([])
        assert base.exists()
    finally:
        other.remove("b.1")
    base.mkdir()
    one.sweep([])
    assert not base.exists()

    real = Path.mkdir
    swept: list[Path] = []

    def mkdir(path: Path, *args: object, **more: object) -> None:
        if path.name == "b.2" and not swept:
            swept.append(path)
            one.sweep([])
        real(path, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", mkdir)
    try:
        assert (other.write("b.2", {"key": b"v"}) / "key").read_bytes() == b"v"
        assert swept
    finally:
        other.remove("b.2")


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    files = TmpfsFiles(tmp_path)
    with pytest.raises(ExecutionError, match="cannot write the files of secrets in"):
        files.write("b.1", {"no/such/folder": b"value"})
    assert not list(files._bases())
