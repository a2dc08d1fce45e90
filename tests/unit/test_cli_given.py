"""Files and standard input that commands are given."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from rota.cli import given
from rota.cli.given import read_given
from rota.cli.render import ROOM
from rota.cli.screen import Screen
from rota.errors import InputError


def screen(*, has_files: bool = True) -> Screen:
    return Screen(ROOM, ROOM, has_files=has_files)


def test_a_file_or_standard_input_is_read_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "job"
    path.write_bytes(b"#!/bin/sh\n\xff\n")
    assert read_given(str(path), screen()) == b"#!/bin/sh\n\xff\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff")))
    assert read_given("-", screen()) == b"\xff"


def test_what_cannot_be_read_or_never_ends_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError) as caught:
        read_given(str(tmp_path / "none"), screen())
    assert caught.value.message == f"cannot read {tmp_path}/none: No such file or directory"
    monkeypatch.setattr(given, "MAX_BYTES", 100)
    with pytest.raises(InputError) as caught:
        read_given("/dev/zero", screen())
    assert caught.value.message == "/dev/zero: more than 100 bytes"
    assert caught.value.hint == "is it the right file?"
    with pytest.raises(InputError, match="a room has no standard input"):
        read_given("-", screen(has_files=False))
