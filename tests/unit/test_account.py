"""A user whose number has no entry, as in many containers."""

import argparse
import os
import pwd
from pathlib import Path
from typing import NoReturn

import pytest

from rota.agent import agent
from rota.agent.workplace import Workplace
from rota.cli.commands import daemon, systemd
from rota.errors import InputError
from rota.service.account import name_of, own_home
from rota.service.context import Myself


@pytest.fixture(autouse=True)
def _no_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(uid: int) -> NoReturn:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", none)


def test_it_is_called_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert (name_of(12345), own_home()) == ("uid12345", "/somewhere")
    monkeypatch.delenv("HOME")
    assert own_home() == "/"


def test_builds_have_a_user_and_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    me = Myself(name="a", version="1", pid=1, data=tmp_path, labels={}, slots=1)
    place = agent._place(me, Workplace(tmp_path), tmp_path / "b/1", "/s")
    assert (place.user, place.home) == (f"uid{os.geteuid()}", "/somewhere")


def test_where_its_home_is_needed_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "ROTA_DATA", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="whose home is meant by ~/x is not known") as fault:
        daemon.data_folder(argparse.Namespace(data_folder="~/x"))
    assert fault.value.hint == "name it: rota agent --data /srv/rota, or ROTA_DATA=/srv/rota"
    with pytest.raises(InputError, match=f"uid {os.geteuid()} has no home folder"):
        systemd._user_folder()
