"""The data folder: what stands in the way of a start is said before it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rota.daemon import folder
from rota.daemon.folder import DataFolder
from rota.errors import InputError, UnavailableError


def test_a_folder_is_made_for_nobody_but_its_user(tmp_path: Path) -> None:
    DataFolder(tmp_path / "a" / "b").make()
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_where_none_can_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot make the data folder .*/file/x: Not a dir"):
        DataFolder(tmp_path / "file" / "x").make()


@pytest.mark.parametrize(
    ("theirs", "rights"),
    [("tls", "drwx------"), ("tls/agent.key", "-rw-r--r--"), ("agent.log", "-rw-r--r--")],
)
def test_what_another_user_left_in_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str, rights: str
) -> None:
    """Such as root, by one ``sudo rota agent``: who runs the tests may be root, who may use all."""
    (tmp_path / "tls").mkdir(mode=0o700)
    for name in ("tls/agent.key", "agent.log"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o644)
    # Of a file that is written in place, being read is not enough.
    wanted = os.W_OK if theirs == "agent.log" else os.R_OK
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode: not (path == tmp_path / theirs and mode & wanted),
    )
    with pytest.raises(InputError) as refused:
        DataFolder(tmp_path).make()
    user = folder._user(os.geteuid())
    assert refused.value.message == (
        f"{user} cannot use {tmp_path / theirs}: it belongs to {user}, with the rights {rights}"
    )
    assert "chown -R" in str(refused.value.hint)


def test_what_is_not_the_agents_is_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lost+found").mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: path.name != "lost+found")
    DataFolder(tmp_path).make()


def test_what_cannot_be_written_is_said_and_what_was_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = DataFolder(tmp_path)
    here.write("host", "one")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(UnavailableError, match=r"cannot write .*/host: No space left") as refused:
        here.write("host", "other")
    monkeypatch.undo()
    assert "is the disk full" in str(refused.value.hint)
    assert here.read("host") == "one"
