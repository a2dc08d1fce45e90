"""``rota secret`` at a shell: how a value comes in, and where it may not go."""

from __future__ import annotations

import io
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from rota.cli.commands import secrets
from rota.client.client import Client
from rota.errors import InputError


def given(**more: object) -> Namespace:
    return Namespace(**{"file": None, "jobs": None, "branches": None, "description": None, **more})


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        (b"value\n", b"value"),
        (b"value\r\n", b"value"),
        (b"value", b"value"),
        (b"two\nlines\n", b"two\nlines\n"),
        (b" spaces \n", b" spaces "),
    ],
)
def test_a_line_of_standard_input_is_without_its_end(
    monkeypatch: pytest.MonkeyPatch, typed: bytes, value: bytes
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed)))
    assert secrets._value("A", given(), has_rules=False) == value
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed)))
    assert secrets._value("A", given(file="-"), has_rules=True) == value


def test_a_file_is_kept_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"key\n")
    assert secrets._value("A", given(file=str(path)), has_rules=False) == b"key\n"
    with pytest.raises(InputError, match=r"cannot read .*: Is a directory"):
        secrets._value("A", given(file=str(tmp_path)), has_rules=False)


def test_globs_come_with_commas_or_spaces_and_none_takes_all_away() -> None:
    assert secrets._globs("main,release/*  !x") == ["main", "release/*", "!x"]
    assert secrets._globs("") == []
    assert secrets._globs(None) is None


@pytest.mark.parametrize(
    ("url", "is_sent"),
    [
        ("http://10.0.0.1:7070", False),
        ("http://ci.example:7070", False),
        ("http://127.0.0.1:7070", True),
        ("http://localhost:7070", True),
        ("https://ci.example", True),
        ("unix:/run/rota.sock", True),
    ],
)
def test_a_value_is_not_sent_where_others_may_listen(url: str, is_sent: bool) -> None:
    client = Client.find(url, env={"HOME": "/nowhere"})
    if is_sent:
        secrets._refuse_clear(client)
        return
    with pytest.raises(InputError) as told:
        secrets._refuse_clear(client)
    assert told.value.message == (
        f"{client.place.url} is not encrypted: whoever is between could read the value"
    )


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        (
            ["set", "A", "value"],
            {},
            "a value on the command line would stand in the shell's history",
        ),
        (["sett", "A"], {}, "secret: 'sett A' is none of its forms"),
        (["rm", "A"], {"jobs": "x"}, "--jobs goes not with rota secret rm"),
        (["rotate"], {"force": True}, "--force goes not with rota secret rotate"),
        ([], {"drop_lost": True}, "--drop-lost goes not with rota secret list"),
    ],
)
def test_what_does_not_belong_together_is_told(
    words: list[str], options: dict[str, object], said: str
) -> None:
    plain = {"words": words, "force": False, "drop_lost": False, "branch": None}
    args = given(**{**plain, **options})
    with pytest.raises(InputError) as told:
        secrets.secret(args, None)  # type: ignore[arg-type]  # it never comes so far
    assert said in told.value.message
