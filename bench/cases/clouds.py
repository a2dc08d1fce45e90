"""Clouds: from what waits to the call that launches, what a look costs, and the story of a hundred builds.

The call is made by a real agent to moto's EC2 over HTTP; what it is held against is the same call
made by Libcloud alone, in the same run. The hundred builds are simulated: leaders are killed at ten
points, calls time out after they were carried out, and listings lack what is new.
"""

from __future__ import annotations

import asyncio
import logging
import os
import statistics
import subprocess
import time
from datetime import UTC, datetime

from msgspec.structs import replace
from tests.harness.ec2 import KEYS, REGION, Account, Front, moto
from tests.property.clouds import kills, random_ways, tell

from bench.agent import rota, running
from bench.case import Result, Setting
from bench.figure import Figure
from rota.adapters.clouds import LibcloudProviders
from rota.core.clouds import CloudView, steps
from rota.core.cluster import Cluster
from rota.core.events import AgentStarted, BuildRequested, CloudWanted, Event
from rota.core.fold import apply
from rota.core.job import Spec
from rota.core.labels import satisfies
from rota.core.settings_clouds import Cloud
from rota.errors import NotFoundError
from rota.ports.clouds import Order

AT = datetime(2026, 1, 1, tzinfo=UTC)
AWS = Cloud(provider="ec2", image="i", size="s", labels={"linux": ""}, max=1000)
JOB = '#!/bin/sh\n# /// script\n# [tool.rota]\n# labels = "cloudy"\n# ///\n'
SETTINGS = """
[cloud.aws]
provider = "ec2"
endpoint = "{url}"
region = "{region}"
image = "{image}"
size = "t3.micro"
labels = ["cloudy"]
max = 1000
"""


def run(setting: Setting) -> Result:
    """Measure all three."""
    logging.getLogger("rota").setLevel(logging.CRITICAL)  # stories have many troubles
    result = Result()
    _call(result, setting)
    _look(result, setting)
    _stories(result, setting)
    return result


def _call(result: Result, setting: Setting) -> None:
    """Ask for builds, one after the other, and see when the provider is called for each."""
    os.environ |= KEYS
    with moto() as url:
        front, account = Front(url), Account(url)
        cloud = replace(
            AWS, image=account.image, size="t3.micro", region=REGION, endpoint=front.url
        )
        alone_ms = asyncio.run(_alone(cloud))
        front.calls.clear()
        with running(setting.data()) as agent, agent.connect() as connection:
            connection.put("cloudy", JOB)
            text = SETTINGS.format(url=front.url, region=REGION, image=account.image)
            _push(agent.data, setting, text)
            times = []
            for number in range(setting.size(20, 5)):
                began = time.monotonic()
                connection.call("POST", "/v1/jobs/cloudy/builds", b"{}")
                while (
                    len(front_calls := [c for c in front.calls if c.action == "RunInstances"])
                    <= number
                ):
                    if time.monotonic() - began > 30:
                        raise AssertionError("no machine was called for within 30 s")
                    time.sleep(0.002)
                times.append((front_calls[number].at - began) * 1000)
        front.close()
    result.figures.append(
        Figure(
            what="a build waits → launch is called",
            value=statistics.median(times),
            unit="ms",
            reach=500.0,
            floor=alone_ms,
            floor_name="call",
        )
    )


async def _no_secrets(name: str) -> bytes:
    raise NotFoundError(name)


async def _alone(cloud: Cloud) -> float:
    provider = await LibcloudProviders().open("bench", cloud, _no_secrets)
    times = []
    for number in range(10):
        began = time.perf_counter()
        await provider.launch(Order(machine=f"m{number}", cluster="bench", user_data="x" * 1000))
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def _push(data: object, setting: Setting, text: str) -> None:
    clone = setting.folder / "store"
    who = ["-c", "user.name=bench", "-c", "user.email=bench@here"]
    rota("--data", str(data), "clone", str(clone))
    (clone / "settings.toml").write_text(text)
    for words in (["add", "."], [*who, "commit", "-qm", "a cloud"], ["push", "-q"]):
        subprocess.run(["git", "-C", str(clone), *words], check=True)


def _look(result: Result, setting: Setting) -> None:
    """Let a leader look at ten thousand builds, a thousand agents and five hundred machines."""
    cluster = Cluster()

    def fold(event: Event) -> None:
        apply(cluster, cluster.picture.seq + 1, event)

    agents, builds = setting.size(1000, 100), setting.size(10_000, 1000)
    for number in range(agents):
        fold(AgentStarted(at=AT, agent=f"a{number}", labels={"linux": ""}, slots=0))
    for number in range(agents // 2):
        machine = f"aws-{number}"
        fold(CloudWanted(at=AT, cloud="aws", machine=machine, labels={"linux": "", "cloud": "aws"}))
    for number in range(builds):
        fold(BuildRequested(at=AT, build=f"b{number}", job="p/j", spec=Spec(labels="linux")))
    view = CloudView(clouds={"aws": AWS}, nodes={"aws": ()})
    steps(cluster, view, AT)
    least = min(_took_ms(lambda: steps(cluster, view, AT)) for _ in range(20))
    labels = [it.labels for it in cluster.picture.agents.values()]
    floor = min(_took_ms(lambda: sum(satisfies("linux", it) for it in labels)) for _ in range(20))
    result.figures.append(
        Figure(
            what="a look, 10,000 builds, 500 machines",
            value=least,
            unit="ms",
            reach=50.0,
            floor=floor,
            floor_name="looks",
        )
    )


def _took_ms(call: object) -> float:
    began = time.perf_counter()
    call()  # type: ignore[operator]  # one of the two above
    return (time.perf_counter() - began) * 1000


def _stories(result: Result, setting: Setting) -> None:
    """Tell stories of a hundred builds each; the most that any launched, and what was left."""
    launched, calls, dead, fair = [], 0, 0, 0
    for seed in range(setting.size(40, 5)):
        ways = random_ways(seed)
        story = tell(seed, 100, ways, kill_at=kills(seed, 10, 250))
        launched.append(len(story.sky.instances))
        calls, dead = calls + story.sky.calls, dead + story.kills
        fair += not (ways.dud or ways.spot)
        assert not story.sky.alive  # 300 s after the last build, and nothing in the journal either
    result.figures.append(
        Figure(what="launched for 100 builds, the most", value=max(launched), unit="", reach=100)
    )
    result.notes.append(
        f"{len(launched)} stories, {dead} leaders killed, {calls} calls, {sum(launched)} launched:"
        " orphans 5 minutes after the last build: 0"
    )
    result.raw["launched"] = [float(it) for it in launched]
