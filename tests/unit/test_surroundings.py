"""A script's environment: nothing from the daemon, and rota has the last word."""

from __future__ import annotations

import os

import pytest

from rota.core.surroundings import Identity, Place, environment, marker_of

PLACE = Place(
    workspace="/d/builds/b.1/work",
    tmp="/d/builds/b.1/tmp",
    bin="/d/bin",
    user="ann",
    home="/home/ann",
    agent="box",
    socket="/d/rota.sock",
    url="http://127.0.0.1:1",
)
IDENTITY = Identity(job="web/test", number=7, build="b", attempt=2)


def test_a_script_sees_just_this() -> None:
    seen = environment(
        PLACE, IDENTITY, path=["/usr/bin", "/bin"], settings_env={}, job_env={}, params={}
    )
    assert seen == {
        "LANG": "C.UTF-8",
        "SHELL": "/bin/sh",
        "HOME": "/home/ann",
        "USER": "ann",
        "LOGNAME": "ann",
        "TMPDIR": "/d/builds/b.1/tmp",
        "PATH": "/d/bin:/usr/bin:/bin",
        "CI": "true",
        "ROTA_JOB": "web/test",
        "ROTA_NUMBER": "7",
        "ROTA_ATTEMPT": "2",
        "ROTA_BUILD": "b",
        "ROTA_FENCE": "0",
        "ROTA_PIPELINE": "b",
        "ROTA_NEEDS": "",
        "ROTA_AGENT": "box",
        "ROTA_WORKSPACE": "/d/builds/b.1/work",
        "ROTA_SOCKET": "/d/rota.sock",
        "ROTA_URL": "http://127.0.0.1:1",
        "ROTA_ATTEMPT_ID": "b.2",
    }


def test_later_sources_win_and_rota_is_the_last() -> None:
    seen = environment(
        PLACE,
        IDENTITY,
        path=[],
        settings_env={"LANG": "C", "A": "settings", "B": "settings", "C": "settings"},
        job_env={"B": "job", "C": "job", "PATH": "/evil", "ROTA_JOB": "other", "HOME": "/h"},
        params={"C": "param", "CI": False, "deep": True, "count": 3, "ratio": 0.5},
    )
    assert (seen["LANG"], seen["A"], seen["B"], seen["C"]) == ("C", "settings", "job", "param")
    assert (seen["PATH"], seen["ROTA_JOB"], seen["CI"]) == ("/d/bin", "web/test", "true")
    assert seen["HOME"] == "/h"
    assert (seen["deep"], seen["count"], seen["ratio"]) == ("true", "3", "0.5")


def test_nothing_of_the_daemons_own_environment_is_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(os.environ, "SECRET", "x")
    seen = environment(PLACE, IDENTITY, path=[], settings_env={}, job_env={}, params={})
    assert "SECRET" not in seen


def test_each_attempt_has_its_own_marker() -> None:
    again = Identity(job="web/test", number=7, build="b", attempt=3)
    assert marker_of(IDENTITY) == "ROTA_ATTEMPT_ID=b.2"
    assert marker_of(again) != marker_of(IDENTITY)
