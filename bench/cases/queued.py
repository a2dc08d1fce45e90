"""Whether what waits costs anything: builds with 10,000 queued and 1,000 jobs defined, against none of it."""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor

from bench.agent import Agent, running
from bench.case import Result, Setting
from bench.cases.burst import SCRIPT, burst
from bench.figure import Figure

JOB = "jobs/here"
ELSEWHERE = '#!/bin/sh\n# /// script\n# [tool.rota]\n# labels = "nowhere"\n# ///\ntrue\n'
CONNECTIONS = 8


def run(setting: Setting) -> Result:
    """Queue builds that no agent can take, each of a job in turn; run others there and elsewhere in turns."""
    jobs, queued = setting.size(1_000, 50), setting.size(10_000, 200)
    count, rounds = setting.size(100, 20), setting.size(5, 2)
    costs: dict[str, dict[str, list[float]]] = {
        n: {"CPU": [], "wall": []} for n in ("full", "bare")
    }
    with running(setting.data()) as full, running(setting.data()) as bare:
        for agent in (full, bare):
            with agent.connect() as connection:
                connection.put(JOB, SCRIPT)
        _fill(full, jobs, queued)
        full.settle(queued)
        for _ in range(rounds):
            for name, agent in (("full", full), ("bare", bare)):
                before = agent.cpu()
                waiting = queued if agent is full else 0
                _, took_s = burst(agent, JOB, count, waiting)
                agent.settle(waiting)
                costs[name]["CPU"].append(agent.cpu().since(before).all / count)
                costs[name]["wall"].append(took_s * 1000 / count)
    return Result(
        figures=[
            Figure(
                what=f"{kind} a build, {queued} wait, over none",
                value=statistics.median(costs["full"][kind])
                / statistics.median(costs["bare"][kind]),
                unit="x",
                reach=1.2,
            )
            for kind in ("CPU", "wall")
        ],
        notes=[f"{queued} builds of {jobs} jobs wait for a label that no agent has"],
        raw={"costs": costs},
    )


def _fill(agent: Agent, jobs: int, queued: int) -> None:
    names = [f"far/job-{number}" for number in range(jobs)]
    with agent.connect() as connection:
        for name in names:
            connection.put(name, ELSEWHERE)

    def queue(share: range) -> None:
        with agent.connect() as connection:
            for number in share:
                connection.run(names[number % jobs])

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(queue, (range(i, queued, CONNECTIONS) for i in range(CONNECTIONS))))
