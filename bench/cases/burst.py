"""Many trivial builds queued at once: how many a second, and what each costs.

Every acknowledged step is on disk; that is the agent's default and only way. The CPU counts daemon,
engine, supervisors, scripts and gits until the last build stands in the history.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from bench.agent import Agent, running
from bench.case import Result, Setting
from bench.figure import Figure
from bench.rest import Connection

SCRIPT = "#!/bin/sh\necho hello\n"
CONNECTIONS = 20
WARM_UP = 20


def run(setting: Setting) -> Result:
    """Queue them, and wait until none is left."""
    count = setting.size(500, 100)
    with running(setting.data()) as agent:
        with agent.connect() as connection:
            connection.put("burst", SCRIPT)
        burst(agent, "burst", WARM_UP)
        agent.settle()
        cpu, client = agent.cpu(), time.process_time()
        queued_s, took_s = burst(agent, "burst", count)
        client_ms = (time.process_time() - client) * 1000
        agent.settle()
        used = agent.cpu().since(cpu)
    return Result(
        figures=[
            Figure(
                what=f"{count} builds at once: rate",
                value=count / took_s,
                unit="/s",
                reach=200,
                at_least=True,
                floor=setting.spawn_ms,
            ),
            Figure(
                what=f"{count} builds at once: CPU each",
                value=used.all / count,
                unit="ms",
                reach=5,
                floor=setting.spawn_ms,
            ),
        ],
        notes=[
            (
                f"CPU ms a build: {used.each(count)}; this client, not counted, "
                f"{client_ms / count:.2f}; all were queued after {queued_s:.2f} s of {took_s:.2f} s"
            )
        ],
        raw={"cpu_ms": used._asdict(), "client_ms": client_ms, "queued_s": queued_s},
    )


def burst(agent: Agent, job: str, count: int, waiting: int = 0) -> tuple[float, float]:
    """Run ``count`` builds; return seconds until all were queued, and until all were over.

    ``waiting`` others are queued for good.
    """
    with ThreadPoolExecutor(CONNECTIONS) as pool, agent.connect() as connection:
        opened = list(pool.map(lambda _: agent.connect(), range(CONNECTIONS)))
        shares = [range(i, count, CONNECTIONS) for i in range(CONNECTIONS)]
        began = time.perf_counter()
        last = max(
            pool.map(
                lambda share: _trigger(share[0], job, len(share[1])),
                zip(opened, shares, strict=True),
            ),
            key=lambda build: build[0],
        )
        queued = time.perf_counter()
        connection.wait(last[1])
        while connection.unfinished() > waiting:
            time.sleep(0.005)
        over = time.perf_counter()
        for each in opened:
            each.__exit__()
    return queued - began, over - began


def _trigger(connection: Connection, job: str, count: int) -> tuple[int, str]:
    """Trigger builds one after the other; return number and id of the last."""
    last = (0, "")
    for _ in range(count):
        build = connection.run(job)
        last = (build["number"], build["id"])
    return last
