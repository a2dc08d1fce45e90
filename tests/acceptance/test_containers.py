"""Builds in containers on a real agent, with a real engine, over the deaths of both."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness import engines
from tests.harness.daemon import Daemon, daemon, wait_until
from tests.harness.joined import script

pytestmark = [pytest.mark.nats, pytest.mark.slow]


@pytest.fixture(scope="module")
def agent(
    tmp_path_factory: pytest.TempPathFactory, docker_engine: engines.Engine
) -> Iterator[Daemon]:
    docker_engine.busybox()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", docker_engine.url)
        with daemon(tmp_path_factory.mktemp("agent") / "data") as running:
            yield running


def image(*lines: str, name: str = "busybox") -> str:
    return script("\n".join([f'image = "{name}"', *lines]))


def containers(engine: engines.Engine) -> list[dict[str, Any]]:
    return engine.containers("rota.data")


def ended(agent: Daemon, job: str, text: str, *, number: int = 1) -> Any:
    agent.add(job, text)
    agent.ok("run", job)
    return agent.until(f"{job}#{number}", "finished")


def test_a_script_runs_in_its_image_and_leaves_artifacts(
    agent: Daemon, docker_engine: engines.Engine
) -> None:
    body = (
        "busybox | head -n 1; test ! -e /etc/debian_version; echo made > out.txt; echo $ROTA_JOB\n"
    )
    build = ended(agent, "c/plain", image('artifacts = ["out.txt"]') + body)
    assert build["result"] == "passed", agent.ok("log", "c/plain#1")
    assert agent.ok("log", "c/plain#1").startswith("BusyBox v")
    assert agent.ok("log", "c/plain#1").endswith("c/plain\n")
    assert [it["path"] for it in build["artifacts"]] == ["out.txt"]
    assert build["usage"]["memory_bytes"] > 0
    wait_until("it is removed", lambda: not containers(docker_engine))


def test_a_job_with_an_image_waits_for_an_agent_with_an_engine(agent: Daemon) -> None:
    agent.add("c/label", image('labels = "linux"') + "true\n")
    assert agent.json("show", "c/label")["spec"]["labels"] == "linux && containers"
    (here,) = agent.json("agents")
    assert here["labels"]["containers"] == "docker"


def test_a_build_goes_on_while_its_daemon_is_dead_and_is_found_again(
    agent: Daemon, docker_engine: engines.Engine, tmp_path: Path
) -> None:
    # the workspace is mounted: a file in it is how the test tells the script to go on
    body = "pwd >&2; echo one; while [ ! -e go ]; do sleep 0.05; done; echo two; exit 7\n"
    agent.add("c/dead", image("stdin = true") + body)
    agent.ok("run", "c/dead")
    wait_until("it has begun", lambda: "one" in agent.ok("log", "c/dead#1"))
    build = agent.build("c/dead#1")["id"]
    agent.kill()
    (agent.data / "builds" / build / "1" / "work" / "go").touch()
    wait_until("it ended", lambda: containers(docker_engine)[0]["State"] == "exited")
    agent.start()
    build = agent.until("c/dead#1", "finished")
    assert (build["result"], build["reason"], build["exit_code"]) == ("failed", "script", 7)
    assert agent.ok("log", "c/dead#1").endswith("one\ntwo\n")
    wait_until("it is removed", lambda: not containers(docker_engine))


def test_a_running_container_is_adopted_and_can_be_cancelled(
    agent: Daemon, docker_engine: engines.Engine
) -> None:
    body = "trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.1; done\n"
    agent.add("c/adopt", image() + body)
    agent.ok("run", "c/adopt")
    wait_until("it has begun", lambda: "up" in agent.ok("log", "c/adopt#1"))
    agent.kill()
    agent.start()
    assert agent.build("c/adopt#1")["state"] == "running"
    agent.ok("cancel", "c/adopt#1")
    build = agent.until("c/adopt#1", "finished")
    assert (build["result"], build["exit_code"]) == ("cancelled", 3)
    assert agent.ok("log", "c/adopt#1").endswith("asked\n")
    wait_until("it is removed", lambda: not containers(docker_engine))


def test_a_container_killed_from_outside_is_told_as_such(
    agent: Daemon, docker_engine: engines.Engine
) -> None:
    agent.add("c/killed", image() + "echo up; sleep 600\n")
    agent.ok("run", "c/killed")
    wait_until("it has begun", lambda: "up" in agent.ok("log", "c/killed#1"))
    (container,) = containers(docker_engine)
    docker_engine.request("POST", f"/containers/{container['Id']}/kill")
    build = agent.until("c/killed#1", "finished")
    assert (build["reason"], build["exit_code"]) == ("signal", 137)
    assert build["message"] == "its container was killed from outside"


def test_a_container_removed_from_outside_is_told_as_such(
    agent: Daemon, docker_engine: engines.Engine
) -> None:
    agent.add("c/removed", image("retry = { times = 0 }") + "echo up; sleep 600\n")
    agent.ok("run", "c/removed")
    wait_until("it has begun", lambda: "up" in agent.ok("log", "c/removed#1"))
    (container,) = containers(docker_engine)
    docker_engine.request("DELETE", f"/containers/{container['Id']}?force=1")
    build = agent.until("c/removed#1", "finished")
    # the engine kills before it removes, and either may be seen first
    assert (build["reason"], build["exit_code"]) in [("lost", None), ("signal", 137)]
    assert build["message"] in (
        "its container was removed from outside",
        "its container was killed from outside",
    )


def test_what_is_left_of_a_container_is_swept_when_the_agent_starts(
    agent: Daemon, docker_engine: engines.Engine
) -> None:
    ended(agent, "c/sweep", image() + "true\n")
    (kept,) = (agent.data / "containers").glob("bin")
    assert kept.is_dir()
    agent.kill()
    label = _data_label(agent)
    body = {
        "Image": "busybox",
        "Cmd": ["sleep", "600"],
        "Labels": {"rota.data": label, "rota.attempt": "nobody.1"},
    }
    made = docker_engine.request("POST", "/containers/create", body)
    docker_engine.request("POST", f"/containers/{made['Id']}/start")
    labels = {"rota.data": label, "rota.attempt": "nobody.1"}
    docker_engine.request("POST", "/networks/create", {"Name": "left-over", "Labels": labels})
    agent.start()
    wait_until("it is removed", lambda: not containers(docker_engine))
    networks = [it["Name"] for it in docker_engine.request("GET", "/networks")]
    wait_until("the network too", lambda: "left-over" not in networks or _gone(docker_engine))


def _gone(engine: engines.Engine) -> bool:
    return "left-over" not in [it["Name"] for it in engine.request("GET", "/networks")]


def _data_label(agent: Daemon) -> str:
    import hashlib

    return hashlib.sha256(os.fsencode(agent.data.resolve())).hexdigest()[:20]


def test_rota_works_in_an_image_with_python(agent: Daemon, docker_engine: engines.Engine) -> None:
    docker_engine.python()
    agent.add("c/other", "#!/bin/sh\n" + "echo other\n")
    body = "rota run c/other --wait && rota show c/other#1 | grep -q passed && echo called\n"
    build = ended(agent, "c/rota", image(name="python:3.11-slim") + body)
    assert build["result"] == "passed", agent.ok("log", "c/rota#1")
    assert agent.ok("log", "c/rota#1").endswith("called\n")


def test_too_little_memory_is_told_as_such(agent: Daemon) -> None:
    header = image('resources = { memory = "16M" }')
    build = ended(agent, "c/memory", header + "x=$(yes | head -c 100000000); echo not reached\n")
    assert build["reason"] == "oom-killed", agent.ok("log", "c/memory#1")


def test_a_build_that_is_cancelled_while_its_image_is_made_ends_that(
    agent: Daemon, docker_engine: engines.Engine, tmp_path: Path
) -> None:
    repository = tmp_path / "repo"
    repository.mkdir()
    (repository / "Dockerfile").write_text("FROM busybox\nRUN echo begun; sleep 600\n")
    git = ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@t"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    header = f'scm = {{ git = "file://{repository}", branch = "main" }}\nimage = {{ build = "." }}'
    agent.add("c/made", script(header) + "true\n")
    agent.ok("run", "c/made")
    wait_until("it has begun", lambda: "\nbegun\n" in agent.ok("log", "c/made#1"))
    agent.ok("cancel", "c/made#1")
    assert agent.until("c/made#1", "finished")["result"] == "cancelled"
    wait_until("nothing runs", lambda: not docker_engine.containers())
