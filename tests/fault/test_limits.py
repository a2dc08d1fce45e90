"""A semaphore on three real agents: its holder's machine dies, and the next one has a larger token."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.harness.daemon import wait_until
from tests.harness.lab import Host, lab

pytestmark = [pytest.mark.fault, pytest.mark.nats, pytest.mark.slow]

SCRIPT = b"""#!/bin/sh
# /// script
# [tool.rota]
# limits = ["licence"]
# ///
printf 'token %s\\n' "$ROTA_FENCE"
[ "$(rota fence)" = "$ROTA_FENCE" ] && echo checked
exec sleep 600
"""


def ask(host: Host, target: str) -> Any:
    with host.rest(30.0) as rest:
        return rest.call("GET", target)


def set_limit(host: Host, folder: Path, capacity: int) -> None:
    """Push the settings through an agent, as a person would."""
    if not folder.exists():
        assert host.run("clone", str(folder)).returncode == 0
    (folder / "settings.toml").write_text(f"[limits]\nlicence = {capacity}\n")
    who = ["-c", "user.name=ann", "-c", "user.email=ann@here"]
    for words in (["add", "."], [*who, "commit", "-qm", "limits"], ["push", "-q"]):
        pushed = host.execute(["git", "-C", str(folder), *words])
        assert pushed.returncode == 0, pushed.stderr
    wait_until(
        "the limit is known everywhere",
        lambda: all(
            [it["capacity"] for it in ask(other, "/v1/limits")] == [capacity]
            for other in host.lab.hosts
            if other.is_up
        ),
    )


def states(host: Host, builds: list[str]) -> list[str]:
    return [ask(host, f"/v1/builds/{it}")["state"] for it in builds]


def test_the_holders_host_dies_and_the_next_one_starts_with_a_larger_token(tmp_path: Path) -> None:
    with lab(tmp_path, spaces=False) as made:
        hosts = made.cluster(3, slots=1)
        asked = hosts[0]
        set_limit(asked, tmp_path / "store", 2)
        with asked.rest(30.0) as rest:
            rest.call("PUT", "/v1/jobs/deploy", SCRIPT)
            builds = [rest.call("POST", "/v1/jobs/deploy/builds", {})["id"] for _ in range(3)]
        wait_until("two run", lambda: states(asked, builds).count("running") == 2)
        why = ask(asked, f"/v1/builds/{builds[2]}/why")
        assert (why["waits_for"], why["place"]) == ("limit", 1)
        (wanting,) = why["limits"]
        holders = wanting["limit"]["holders"]
        assert [it["build"] for it in holders] == ["deploy#1", "deploy#2"]
        assert why["text"].startswith("waits for the limit licence: 2 of 2 taken by deploy#1 on ")

        running = {it: ask(asked, f"/v1/builds/{it}") for it in builds[:2]}
        victim = next(it for it in running.values() if it["agent"] != asked.name)
        made.host(victim["agent"]).slay("host")
        wait_until("the third runs", lambda: states(asked, builds)[2] == "running", 60)
        third = ask(asked, f"/v1/builds/{builds[2]}")
        assert third["fence"] > max(it["fence"] for it in running.values())
        assert ask(asked, f"/v1/builds/{victim['id']}")["result"] == "lost"
        (limit,) = ask(asked, "/v1/limits")
        assert (limit["used"], limit["capacity"]) == (2, 2)
        wait_until("the script says its token", lambda: "checked" in log(asked, builds[2]))
        assert f"token {third['fence']}\n" in log(asked, builds[2])


def log(host: Host, build: str) -> str:
    told = host.run("log", build)
    assert isinstance(told, subprocess.CompletedProcess)
    return str(told.stdout)
