"""Real agents, a real EC2 interface, and instances whose user data is really run."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.daemon import ROTA, is_alive, wait_until
from tests.harness.ec2 import KEYS, REGION, Account, Front, Machines, moto
from tests.harness.lab import Host, Lab, lab, leader

SETTINGS = """
[agents]
lost_after = "3s"
[cloud.aws]
provider = "ec2"
endpoint = "{url}"
region = "{region}"
image = "{image}"
size = "t3.micro"
labels = ["linux", "cloudy"]
max = 3
idle = "2s"
patience = "0s"
install = ""
program = "{rota}"
data = "{machines}/{{machine}}"
{more}
"""
JOB = b"""#!/bin/sh
# /// script
# [tool.rota]
# labels = "cloudy"
# retry = { times = 2, on = ["lost"] }
# ///
echo "built by $ROTA_AGENT"
sleep ${1:-0}
"""


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    with moto() as url:
        yield url


@dataclasses.dataclass
class World:
    """A cluster and its cloud."""

    lab: Lab
    hosts: list[Host]
    front: Front
    account: Account
    machines: Machines
    folder: Path

    def set(self, more: str = "") -> None:
        """Push the settings, as a person would."""
        clone, host = self.folder / "store", leader(self.hosts)
        if not clone.exists():
            assert host.run("clone", str(clone)).returncode == 0
        assert host.execute(["git", "-C", str(clone), "pull", "-q"]).returncode == 0
        text = SETTINGS.format(
            url=self.front.url,
            region=REGION,
            image=self.account.image,
            rota=ROTA,
            machines=self.machines.folder,
            more=more,
        )
        (clone / "settings.toml").write_text(text)
        who = ["-c", "user.name=ann", "-c", "user.email=ann@here"]
        for words in (["add", "."], [*who, "commit", "-qm", "a cloud"], ["push", "-q"]):
            pushed = host.execute(["git", "-C", str(clone), *words])
            assert pushed.returncode == 0, pushed.stderr
        with host.rest(30.0) as rest:
            rest.call("PUT", "/v1/jobs/cloudy", JOB)

    def ask(self, target: str, method: str = "GET", body: bytes | None = None) -> Any:
        with leader([it for it in self.hosts if it.is_up]).rest(30.0) as rest:
            return rest.call(method, target, body)

    def run(self) -> str:
        return str(self.ask("/v1/jobs/cloudy/builds", "POST", b"{}")["id"])

    def cloud(self) -> Any:
        (one,) = self.ask("/v1/clouds")
        return one

    def state(self) -> str:
        """Return how it all is, for a failed test."""
        return f"{self.cloud()}\n{self.machines.log()}\n" + "\n".join(
            f"{it.name}: {it.end_of_log()}" for it in self.hosts
        )

    def until(self, what: str, is_so: Any, patience_s: float = 60.0) -> Any:
        try:
            return wait_until(what, is_so, patience_s)
        except AssertionError as error:
            error.add_note(self.state())
            raise

    def passed(self, build: str) -> Any:
        def look() -> Any:
            found = self.ask(f"/v1/builds/{build}")
            return found if found["state"] == "finished" else None

        found = self.until(f"{build} is finished", look)
        assert found["result"] == "passed", found
        return found

    def settled(self) -> None:
        """Return when no machine is left: neither here nor at the provider."""
        self.until("the machines are gone", lambda: not self.cloud()["machines"])
        self.until("the instances are ended", lambda: not self.account.instances())
        assert [it for it in self.ask("/v1/agents") if it["ephemeral"]] == []


@contextlib.contextmanager
def world(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch, agents: int) -> Iterator[World]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    account, front = Account(url), Front(url)
    machines = Machines(account, folder / "machines")
    try:
        with lab(folder / "lab", spaces=False) as made:
            hosts = made.cluster(agents, slots=0)
            yield World(made, hosts, front, account, machines, folder)
    finally:
        machines.close()
        front.close()
        for instance in account.instances():
            account.take(instance)


def test_machines_come_build_and_go(
    tmp_path: Path, moto_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world(tmp_path, moto_url, monkeypatch, 1) as made:
        made.set()
        builds = [made.run() for _ in range(2)]
        why = made.until(
            "a machine is under way",
            lambda: (
                " launches " in (text := made.ask(f"/v1/builds/{builds[0]}/why")["text"]) and text
            ),
        )
        assert "cloud aws launches a machine for it (" in why
        assert "of max 3): aws-" in why
        names = {made.passed(it)["agent"] for it in builds}
        ephemeral = [it for it in made.ask("/v1/agents") if it["ephemeral"]]
        assert names <= {it["name"] for it in ephemeral}
        assert not any(it["is_voter"] or it["is_leader"] for it in ephemeral)
        for name in names:
            tls = made.machines.folder / name / "tls"
            assert (tls / "agent.key").exists()
            assert not (tls / "ca.key").exists()  # what builds there could steal
        text = made.hosts[0].ok("clouds")
        assert text.startswith("aws  ready  ")
        made.settled()
        assert len(made.account.all()) <= 2
        assert made.front.number("RunInstances") <= 2
        # What it said is all in the journal, and the token that let machines in is not.
        events = made.ask("/v1/events?limit=1000")
        kinds = [it["kind"] for it in events if it["kind"].startswith("cloud.")]
        wanted = ["cloud.wanted", "cloud.launched", "cloud.joined", "cloud.draining", "cloud.gone"]
        assert sorted(set(kinds)) == sorted(wanted)
        data = next(made.account.user_data(it) for it in made.account.all())
        secret = data.partition("rota1.")[2].split(".")[1]
        assert len(secret) == 43
        assert secret not in str(events)
        # It opens nothing any more.
        token = "rota1." + data.partition("rota1.")[2].split()[0]
        name = data.partition("--name ")[2].split()[0]
        late = made.hosts[0].run(
            "agent", "--data", str(tmp_path / "late"), "--name", name, "--join", token, "--daemon"
        )
        assert late.returncode == 1
        assert "the join token is not known here" in late.stderr


def test_a_leader_that_dies_between_call_and_answer_launches_nothing_twice(
    tmp_path: Path, moto_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Account(moto_url).all().keys()
    with world(tmp_path, moto_url, monkeypatch, 3) as made:
        made.set()
        made.front.fault = lambda action: "hold" if action == "RunInstances" else ""
        made.until("there are three voters", lambda: made.ask("/v1/status")["tolerates"] == 1)
        first = leader(made.hosts)
        build = made.run()
        made.until("the call is made", lambda: made.front.number("RunInstances"))
        made.until("it is carried out", lambda: made.account.all().keys() - before)
        pid = first.pid
        first.slay("daemon")
        assert not is_alive(pid)
        made.front.fault = lambda _: ""
        made.front.release.set()
        # The next one looks for it by its tag; its token opens the door of any agent.
        assert leader([it for it in made.hosts if it is not first]) is not first
        assert made.passed(build)["agent"].startswith("aws-")
        assert len(made.account.all().keys() - before) == 1
        assert made.front.number("RunInstances") == 1


def test_an_answer_that_is_lost_and_a_list_that_is_late_launch_nothing_twice(
    tmp_path: Path, moto_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Account(moto_url).all().keys()
    with world(tmp_path, moto_url, monkeypatch, 1) as made:
        made.front.knows_tokens = True
        made.set("client_tokens = true")
        lost = iter(["lose"])
        made.front.fault = lambda action: next(lost, "") if action == "RunInstances" else ""
        made.front.hides_s, made.machines.is_booting = 600.0, False
        made.run()
        made.until("it is known as failed", lambda: made.cloud()["failed"] == 1)
        assert made.cloud()["state"] == "failing"
        # After the back-off the call is made again, with the same token: it is the same instance.
        made.until("it is called again", lambda: made.front.number("RunInstances") == 2)
        made.until("it is recorded", lambda: made.cloud()["launched"] == 1)
        assert len(made.account.all().keys() - before) == 1
        assert made.front.number("RunInstances") == 2


def test_a_machine_that_is_taken_away_is_replaced_and_a_person_can_end_one(
    tmp_path: Path, moto_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world(tmp_path, moto_url, monkeypatch, 1) as made:
        made.set()
        with leader(made.hosts).rest(30.0) as rest:
            rest.call("PUT", "/v1/jobs/cloudy", JOB.replace(b"${1:-0}", b"300"))
        build = made.run()

        def running(attempt: int) -> Any:
            found = made.ask(f"/v1/builds/{build}")
            is_it = found["state"] == "running" and found["attempt"] == attempt
            return found if is_it else None

        agent = made.until("it runs", lambda: running(1))["agent"]
        node = next(it["node"] for it in made.cloud()["machines"] if it["name"] == agent)
        made.account.take(node)
        again = made.until("it runs elsewhere", lambda: running(2))["agent"]
        assert again != agent
        made.until(
            "it is forgotten", lambda: agent not in {it["name"] for it in made.ask("/v1/agents")}
        )
        paused = made.hosts[0].ok("clouds", "--pause", "aws")
        assert paused == "aws launches no more machines\n"
        ended = made.hosts[0].ok("clouds", "--terminate", again)
        assert ended == f"{again} is being ended; it runs 1\n"
        made.until("it is ended", lambda: made.account.instances() == {})
        made.settled()
        why = made.until(
            "it waits again",
            lambda: "paused" in (text := made.ask(f"/v1/builds/{build}/why")["text"]) and text,
        )
        assert why.endswith("cloud aws is paused: rota clouds --resume aws")
        assert len(made.account.all()) >= 2


def test_what_a_provider_refuses_is_shown_and_not_asked_for_again_at_once(
    tmp_path: Path, moto_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world(tmp_path, moto_url, monkeypatch, 1) as made:
        made.front.fault = lambda it: "refuse:VcpuLimitExceeded" if it == "RunInstances" else ""
        made.set()
        build = made.run()
        made.until("it is told", lambda: made.cloud()["error"])
        cloud = made.cloud()
        assert (cloud["state"], cloud["machines"]) == ("failing", [])
        assert cloud["error"] == "cloud aws: VcpuLimitExceeded: that is how it is"
        assert cloud["next_try_at"] is not None
        why = made.ask(f"/v1/builds/{build}/why")["text"]
        assert "cloud aws failed, and is tried again in " in why
        assert "VcpuLimitExceeded" in made.hosts[0].ok("clouds")
        assert made.front.number("RunInstances") == 1
        # Other settings may be better ones: they are tried at once.
        made.front.fault = lambda _: ""
        made.set("slots = 2")
        made.until("it is called again", lambda: made.front.number("RunInstances") == 2)
        kinds = [it["kind"] for it in made.ask("/v1/events?kind=cloud.*&limit=100")]
        assert kinds[:3] == ["cloud.wanted", "cloud.failed", "cloud.answered"]
