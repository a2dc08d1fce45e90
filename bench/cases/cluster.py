"""Three agents as a cluster: how soon others go on where one is gone, and how fast all are together.

Hosts are network namespaces of this machine, and share its cores. What dies dies by SIGKILL, and
what is cut off loses every packet without a word; each time is taken by one clock, from the blow.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.harness.daemon import wait_until
from tests.harness.lab import Host, Lab, leader

from bench.case import Result, Setting
from bench.figure import Figure, percentile
from bench.group import PATIENCE_S, Watch, cluster, until_whole, why_not

LATENCY = "#!/bin/bash\necho $EPOCHREALTIME\n"
SLEEPER = """#!/bin/sh
# /// script
# [tool.rota]
# retry = { times = 5, on = ["lost"] }
# ///
sleep 600
"""
CONNECTIONS = 4


def takeover(setting: Setting) -> Result:
    """Kill the leader's daemon; its engine's server lives on."""
    with cluster(setting) as lab:
        duties: list[float] = []
        for _ in range(setting.size(10, 2)):
            struck = leader(lab.hosts)
            with Watch(_others(lab, struck)) as watch:
                time.sleep(1.0)
                at = time.monotonic()
                struck.slay("daemon")
                duties.append(watch.first_event(at, _duty_of_another(struck)))
            struck.start()
            until_whole(lab.hosts)
    return Result(
        figures=[_figure("leader's daemon dies → next duty", duties, 0.95, 3.5)],
        raw={"duty_s": duties},
    )


def host_lost(setting: Setting) -> Result:
    """Cut the leader's host off, or kill all that runs there, in turns."""
    duties: list[float] = []
    triggers: list[float] = []
    with cluster(setting) as lab:
        for number in range(setting.size(10, 2)):
            struck = leader(lab.hosts)
            is_cut = number % 2 == 0 and not why_not()
            with Watch(_others(lab, struck)) as watch:
                time.sleep(1.0)
                at = time.monotonic()
                struck.cut() if is_cut else struck.slay("host")
                # What was on its way is answered yet: the next one counts that was sent later.
                triggers.append(watch.first_ack(at + 0.05) + 0.05)
                duties.append(watch.first_event(at, _duty_of_another(struck)))
            struck.heal() if is_cut else struck.start()
            until_whole(lab.hosts)
    return Result(
        figures=[
            _figure("leader's host is gone → next duty", duties, 0.95, 10.0),
            _figure("leader's host is gone → next trigger", triggers, 0.95, 10.0),
        ],
        notes=["the engine's own election takes 4 to 8 s where its leader was on that host"],
        raw={"duty_s": duties, "trigger_s": triggers},
    )


def planned(setting: Setting) -> Result:
    """Stop each agent by plan, the leader among them; triggers go to the two others."""
    gaps: list[float] = []
    took: list[float] = []
    with cluster(setting) as lab:
        for number in range(setting.size(6, 3)):
            stopped = lab.hosts[number % len(lab.hosts)]
            with Watch(_others(lab, stopped), pause_s=0.005) as watch:
                time.sleep(1.0)
                began = time.monotonic()
                stopped.ok("stop")
                over = time.monotonic()
                time.sleep(1.0)
                gaps.append(watch.longest_gap_s(began, over + 1.0))
                took.append(over - began)
            stopped.start()
            until_whole(lab.hosts)
    return Result(
        figures=[_figure("planned stop: longest gap", gaps, 1.0, 0.5)],
        notes=[f"`rota stop` itself took up to {max(took):.1f} s"],
        raw={"gap_s": gaps, "stop_s": took},
    )


def agent_lost(setting: Setting) -> Result:
    """Kill the host that runs a build; it is tried again elsewhere."""
    times: list[float] = []
    with cluster(setting) as lab:
        for _ in range(setting.size(5, 1)):
            with leader(lab.hosts).rest(PATIENCE_S) as rest:
                rest.call("PUT", "/v1/jobs/sleeper", SLEEPER.encode())
                build = rest.call("POST", "/v1/jobs/sleeper/builds", {})["id"]
                running = wait_until(
                    "it runs", functools.partial(_agent_of, rest, build), PATIENCE_S
                )
            struck = lab.host(running)
            with Watch(_others(lab, struck), pause_s=0.5) as watch:
                time.sleep(0.5)
                at = time.monotonic()
                struck.slay("host")
                times.append(watch.first_event(at, _started_again(build)))
            struck.start()
            until_whole(lab.hosts)
            with lab.hosts[0].rest(PATIENCE_S) as rest:
                rest.call("POST", f"/v1/builds/{build}/cancel", {})
    return Result(
        figures=[_figure("agent lost → its build runs elsewhere", times, 1.0, 15.0)],
        raw={"restart_s": times},
    )


def latency(setting: Setting) -> Result:
    """Trigger at each agent in turn; any of the three takes the build."""
    times: list[float] = []
    with cluster(setting) as lab:
        with lab.hosts[0].rest(PATIENCE_S) as rest:
            rest.call("PUT", "/v1/jobs/latency", LATENCY.encode())
        time.sleep(1.0)
        clients = [host.rest(PATIENCE_S) for host in lab.hosts]
        for number in range(setting.size(300, 50) + 10):
            client = clients[number % len(clients)]
            asked = time.time_ns()
            build = client.call("POST", "/v1/jobs/latency/builds", {})["id"]
            client.call("GET", f"/v1/builds/{build}?wait=60")
            first = float(client.get_bytes(f"/v1/builds/{build}/log"))
            times.append(first * 1000 - asked / 1e6)
        for client in clients:
            client.__exit__()
    times = times[10:]
    return Result(
        figures=[
            Figure(
                what=f"3 voters: trigger → first instr., p{share * 100:.0f}",
                value=percentile(times, share),
                unit="ms",
                reach=reach,
                floor=setting.spawn_ms,
            )
            for share, reach in ((0.5, 40.0), (0.99, None))
        ],
        raw={"begin_ms": times},
    )


def burst(setting: Setting) -> Result:
    """Queue many trivial builds at all agents at once, and wait until none is left."""
    count = setting.size(500, 100)
    with cluster(setting) as lab:
        _queue(lab, 30)
        began = time.monotonic()
        _queue(lab, count)
        took_s = time.monotonic() - began
    return Result(
        figures=[
            Figure(
                what=f"3 agents of 2 slots, {count} builds: rate",
                value=count / took_s,
                unit="/s",
                reach=60,
                at_least=True,
                floor=setting.spawn_ms,
            )
        ],
        raw={"took_s": took_s},
    )


def _queue(lab: Lab, count: int) -> None:
    def ask(number: int) -> None:
        with lab.hosts[number % len(lab.hosts)].rest(PATIENCE_S) as rest:
            for _ in range(number, count, CONNECTIONS * len(lab.hosts)):
                rest.call("POST", "/v1/jobs/quick/builds", {})

    with ThreadPoolExecutor(CONNECTIONS * len(lab.hosts)) as pool:
        list(pool.map(ask, range(CONNECTIONS * len(lab.hosts))))
    with lab.hosts[0].rest(PATIENCE_S) as rest:
        wait_until("all are over", lambda: _is_idle(rest), 2 * PATIENCE_S)


def _is_idle(rest: Any) -> bool:
    status = rest.call("GET", "/v1/status")
    return not status["queued"] and not rest.call("GET", "/v1/builds?state=live&limit=1")


def _others(lab: Lab, host: Host) -> list[Host]:
    return [other for other in lab.hosts if other is not host]


def _duty_of_another(struck: Host) -> Callable[[Mapping[str, Any]], bool]:
    return lambda event: event["kind"] == "history.sealed" and event["agent"] != struck.name


def _started_again(build: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda event: (
        event["kind"] == "build.started" and event["build"] == build and event["attempt"] > 1
    )


def _agent_of(rest: Any, build: str) -> str | None:
    found = rest.call("GET", f"/v1/builds/{build}")
    return str(found["agent"]) if found["state"] == "running" else None


def _figure(what: str, values: list[float], share: float, reach: float) -> Figure:
    name = "max" if share >= 1 else f"p{share * 100:.0f}"
    return Figure(
        what=f"{what}, {name}",
        value=percentile(values, share) if share < 1 else max(values),
        unit="s",
        reach=reach,
    )
