"""Whether the past costs anything: lists and builds with very many builds behind, against 1,000."""

from __future__ import annotations

import asyncio
import statistics
import time

from bench import past, usage
from bench.agent import Agent, running
from bench.case import Result, Setting
from bench.cases.burst import SCRIPT, burst
from bench.figure import Figure
from bench.floor import timed_ms

ASKED = {
    "last 20": "/v1/builds?limit=20",
    "last 20 of a job": f"/v1/builds?limit=20&job={past.JOB}",
    "last 20 failed": "/v1/builds?limit=20&result=failed",
}


def run(setting: Setting) -> Result:
    """With 100,000."""
    return _compared(setting, setting.size(100_000, 5_000))


def million(setting: Setting) -> Result:
    """With 1,000,000: takes some minutes to be made."""
    return _compared(setting, setting.size(1_000_000, 10_000))


def _compared(setting: Setting, many: int) -> Result:
    """Fill two stores, let an agent on each make its index, and run builds there in turns."""
    few = setting.size(1_000, 100)
    large, small = setting.data(), setting.data()
    filled_s = timed_ms(lambda: asyncio.run(past.fill(large, many))) / 1000
    asyncio.run(past.fill(small, few))
    began = time.perf_counter()
    with running(large) as old:
        ready_s = time.perf_counter() - began
        with running(small) as young:
            _define(old, many)
            _define(young, few)
            listed = {name: _list_ms(old, path) for name, path in ASKED.items()}
            costs = _costs(setting, old, young)
            memory = usage.pss_mb(old.daemon) + usage.pss_mb(old.engine)
    return Result(
        figures=[*_lists(setting, many, listed), *_ratios(setting, many, few, costs)],
        notes=[
            (
                f"{many} builds written to the store in {filled_s:.1f} s; the agent's index made from "
                f"them in {ready_s:.1f} s (start included); then {memory:.0f} MB with its engine"
            ),
        ],
        raw={"filled_s": filled_s, "ready_s": ready_s, "listed_ms": listed, "costs": costs},
    )


def _define(agent: Agent, count: int) -> None:
    """Define the job that the past is of; its next build must go on where the past ended.

    Raises:
        ValueError: it does not.
    """
    with agent.connect() as connection:
        connection.put(past.JOB, SCRIPT)
        build = connection.run(past.JOB)
        connection.wait(build["id"])
        if build["number"] != past.last_number(count) + 1:
            raise ValueError(f"the history has {past.last_number(count)}, next is {build}")
    agent.settle()


def _list_ms(agent: Agent, path: str) -> float:
    with agent.connect() as connection:
        return statistics.median(timed_ms(lambda: connection.call("GET", path)) for _ in range(100))


def _costs(setting: Setting, old: Agent, young: Agent) -> dict[str, dict[str, list[float]]]:
    """Return CPU and wall milliseconds a build at both, measured in turns."""
    count = setting.size(100, 40)
    costs: dict[str, dict[str, list[float]]] = {
        name: {"CPU": [], "wall": []} for name in ("old", "young")
    }
    for _ in range(setting.size(7, 3)):
        for name, agent in (("old", old), ("young", young)):
            before = agent.cpu()
            _, took_s = burst(agent, past.JOB, count)
            agent.settle()
            costs[name]["CPU"].append(agent.cpu().since(before).all / count)
            costs[name]["wall"].append(took_s * 1000 / count)
    return costs


def _lists(setting: Setting, many: int, listed: dict[str, float]) -> list[Figure]:
    return [
        Figure(
            what=f"{name}, {many} in the history",
            value=median,
            unit="ms",
            reach=10,
            floor=setting.spawn_ms,
        )
        for name, median in listed.items()
    ]


def _ratios(
    setting: Setting, many: int, few: int, costs: dict[str, dict[str, list[float]]]
) -> list[Figure]:
    return [
        Figure(
            what=f"{kind} a build, {many} over {few}",
            value=statistics.median(costs["old"][kind]) / statistics.median(costs["young"][kind]),
            unit="x",
            reach=1.2,
        )
        for kind in ("CPU", "wall")
    ]
