"""Confined builds on a real agent: they are kept from much, and can do what a build must."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.daemon import Daemon, daemon, wait_until
from tests.harness.joined import script

pytestmark = [
    pytest.mark.nats,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only an agent of root runs builds as others"),
]

NOBODY = "nobody"
CONFINED = f"""\
user = "{NOBODY}"
network = "none"
isolation = {{ no_new_privs = true, private_tmp = true, private_pids = true }}"""


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("agent") / "data") as running:
        yield running


def needs(agent: Daemon, *labels: str) -> None:
    missing = set(labels) - agent.json("agents")[0]["labels"].keys()
    if missing:
        pytest.skip(f"this machine cannot: {', '.join(sorted(missing))}")


def groups(agent: Daemon) -> list[Path]:
    """The control groups of builds that exist, of any agent on this machine."""
    ids = {build["id"] for build in agent.json("builds")}
    found = Path("/sys/fs/cgroup").rglob("rota-*-*.*")
    return [path for path in found if any(id_ in path.name for id_ in ids)]


def test_a_confined_build_asks_its_agent_also_after_that_was_killed(agent: Daemon) -> None:
    needs(agent, "can-set-user", "can-cut-network", "can-private-pids", "can-limit-pids")
    limits = 'resources = { memory = "1G", pids = 100, cpus = 2 }\n'
    body = """id -un; ls -A $(dirname $ROTA_SOCKET)/..; rota show other | head -1; echo up
        until [ -e go ]; do sleep 0.05; done
        rota run other --wait; rota add third - <$0; exit 5"""
    agent.add("other", script(""))
    agent.add("web/test", script(limits + CONFINED) + body)
    agent.ok("run", "web/test")
    wait_until("it has begun", lambda: "up" in agent.run("log", "web/test#1").stdout)
    assert groups(agent)
    agent.kill()
    agent.start()
    build = agent.build("web/test#1")
    (agent.data / "builds" / build["id"] / "1" / "work" / "go").touch()
    done = agent.until("web/test#1", "finished")
    log = agent.ok("log", "web/test#1")
    assert (done["result"], done["exit_code"]) == ("failed", 5), log
    assert log.startswith(f"{NOBODY}\nbin\nbuilds\nrun\nscripts\n"), log
    assert agent.build("other#1")["result"] == "passed"
    assert agent.build("other#1")["trigger"]["by"] == NOBODY
    # It may start what there is, and not change what there is: that would undo what it is kept to.
    assert f"{NOBODY} is a builder; `add` or `edit` needs a maintainer" in log
    assert done["usage"]["memory_bytes"] > 0
    assert "of 1.0 GiB of memory" in agent.ok("show", "web/test#1")
    wait_until("its groups are gone", lambda: not groups(agent))


def test_what_eats_memory_is_told_by_name(agent: Daemon) -> None:
    needs(agent, "can-limit-memory")
    agent.add("eater", script('resources = { memory = "64M" }') + "dd if=/dev/zero bs=1G count=1")
    done = agent.run("run", "eater", "--wait")
    assert done.returncode == 1
    build = agent.build("eater#1")
    assert (build["reason"], build["usage"]["oom_kills"]) == ("oom-killed", 1)
    assert "1 process ended for want of memory" in agent.ok("show", "eater#1")


def test_a_finaliser_is_confined_as_its_script_is(agent: Daemon) -> None:
    needs(agent, "can-set-user", "can-private-pids", "can-cut-network")
    header = f'{CONFINED}\nfinally = "id -un; cat left; ls /tmp"'
    agent.add("last", script(header) + "echo it >left; : >/tmp/mine; mkdir -m 700 x")
    done = agent.run("run", "last", "-f")
    assert (done.returncode, done.stdout.split()[:2]) == (0, [NOBODY, "it"])
    assert "mine" in done.stdout


def test_a_build_without_an_agent_that_can_is_explained(agent: Daemon) -> None:
    needs(agent, "can-cut-network")
    agent.ok("label", "here", "-can-cut-network")
    try:
        agent.add("cut", script('labels = "linux"\nnetwork = "none"'))
        agent.ok("run", "cut")
        why = agent.ok("why", "cut")
        assert "no agent satisfies 'linux && can-cut-network'" in why
        agent.ok("cancel", "cut")
    finally:
        agent.ok("label", "here", "can-cut-network")


def test_a_user_that_is_not_there_is_named(agent: Daemon) -> None:
    needs(agent, "can-set-user")
    agent.add("who", script('user = "no-such-user"'))
    assert agent.run("run", "who", "--wait").returncode == 1
    message = agent.build("who#1")["message"]
    assert message.startswith("there is no user 'no-such-user' on this machine (as root: useradd ")


def test_what_the_settings_say_is_as_far_as_a_job_may_go(agent: Daemon, tmp_path: Path) -> None:
    needs(agent, "can-set-user", "can-limit-pids")
    # Some of the jobs go too far, and would be in the way of the settings.
    for job in agent.json("jobs"):
        agent.ok("rm", job["name"])
    set_to(agent, tmp_path, f'user = "{NOBODY}"\nno_new_privs = true\nresources = {{ pids = 50 }}')
    agent.add("plain", script("") + "id -un; grep NoNewPrivs /proc/self/status")
    done = agent.run("run", "plain", "-f")
    assert done.stdout == f"{NOBODY}\nNoNewPrivs:\t1\n"
    refused = agent.run("add", "looser", "-", stdin=script('user = "root"'))
    assert refused.returncode == 2
    assert "it may not run as 'root': only as nobody" in refused.stderr
    assert "([isolation] in settings.toml says what may be)" in refused.stderr


def set_to(agent: Daemon, folder: Path, bounds: str, more: str = "") -> None:
    """Put ``[isolation]`` into the settings, as a person does: by git."""
    clone = folder / "definitions"
    url = f"{agent.json('agents')[0]['url']}/store.git"
    token = (agent.data / "token").read_text().strip()
    git(folder, "clone", "-q", url.replace("://", f"://admin:{token}@"), str(clone))
    (clone / "settings.toml").write_text(f"[isolation]\n{bounds}\n{more}")
    git(clone, "add", "settings.toml")
    git(clone, "-c", "user.name=ann", "-c", "user.email=a@x", "commit", "-qm", "confine")
    git(clone, "push", "-q", "origin", "HEAD:main")


def git(folder: Path, *words: str) -> Any:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True)
