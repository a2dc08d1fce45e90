"""A build that prints 100 MB, and somebody who asks for the status all the while.

The text lies in a file that the script copies out, so the script itself takes no time to speak of;
the same script without rota, its output to a file, is the floor.
"""

from __future__ import annotations

import hashlib
import time

from bench import floor
from bench.agent import Agent, running
from bench.case import Result, Setting
from bench.cases import text
from bench.figure import Figure, percentile
from bench.prober import Prober

TIMES = 3


def run(setting: Setting) -> Result:
    """Run it some times and take the median; every log is read back and compared."""
    size = setting.size(100, 10) * 1_000_000
    source = setting.folder / "text"
    digest = text.write(source, size)
    script = setting.folder / "print"
    script.write_text(f"#!/bin/sh\nexec cat {source}\n")
    script.chmod(0o755)
    bare = sorted(_bare_s(setting, [str(script)]) for _ in range(TIMES))[TIMES // 2]
    with running(setting.data()) as agent:
        with agent.connect() as connection:
            connection.put("log", script.read_text())
        rounds = [_round(agent, digest) for _ in range(TIMES)]
    took = sorted(seconds for seconds, _ in rounds)[TIMES // 2]
    slowest = sorted(max(prober.answers_ms) for _, prober in rounds)[TIMES // 2]
    hiccup = sorted(max(prober.hiccups_ms) for _, prober in rounds)[TIMES // 2]
    answers = [ms for _, prober in rounds for ms in prober.answers_ms]
    return Result(
        figures=[
            Figure(
                what=f"{size // 1_000_000} MB printed: all of it stored",
                value=took,
                unit="s",
                reach=0.4,
                floor=bare,
                floor_name="bare",
            ),
            Figure(
                what="  slowest answer to anybody meanwhile",
                value=slowest,
                unit="ms",
                reach=50,
                floor=hiccup,
                floor_name="sleep",
            ),
        ],
        notes=[
            (
                f"answers meanwhile: {len(answers)}, p50 {percentile(answers, 0.5):.1f} ms, "
                f"p99 {percentile(answers, 0.99):.1f} ms; the log read back is the same by SHA-256"
            )
        ],
        raw={"took_s": [seconds for seconds, _ in rounds], "answers_ms": answers},
    )


def _bare_s(setting: Setting, argv: list[str]) -> float:
    return floor.timed_ms(lambda: floor.run(argv, setting.folder / "bare.log")) / 1000


def _round(agent: Agent, digest: str) -> tuple[float, Prober]:
    with agent.connect() as connection, Prober(agent) as prober:
        time.sleep(0.1)
        began = time.perf_counter()
        build = connection.run("log")["id"]
        connection.wait(build)
        took = time.perf_counter() - began
    check(agent, build, digest)
    agent.settle()
    return took, prober


def check(agent: Agent, build: str, digest: str, *, follow: bool = False) -> None:
    """Read a build's log to its end.

    Raises:
        ValueError: it is not what the script wrote.
    """
    found = hashlib.sha256()
    with agent.connect() as connection:
        for piece in connection.stream(f"/v1/builds/{build}/log{'?follow' if follow else ''}"):
            found.update(piece)
    if found.hexdigest() != digest:
        raise ValueError(f"the log of {build} is not what its script wrote")
