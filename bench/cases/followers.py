"""A build that prints 1 GB while 20 readers follow it, and what that costs the daemon in memory."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from bench import usage
from bench.agent import Agent, running
from bench.case import Result, Setting
from bench.cases import text
from bench.cases.log import check
from bench.figure import Figure

FOLLOWERS = 20
PART_BYTES = 50_000_000


def run(setting: Setting) -> Result:
    """Let all readers hash what they get; sample the daemon's memory meanwhile."""
    size = setting.size(1000, 100) * 1_000_000
    source = setting.folder / "text"
    digest = text.write(source, size)
    with running(setting.data()) as agent:
        with agent.connect() as connection:
            connection.put("small", "#!/bin/sh\necho hello\n")
            connection.put("large", f"#!/bin/sh\nexec cat {source}\n")
            check(agent, connection.run("small")["id"], _HELLO, follow=True)
            agent.settle()
            usage.forget_peak(agent.daemon)
            before = usage.rss_peak_mb(agent.daemon), usage.pss_mb(agent.daemon)
            began = time.perf_counter()
            build = connection.run("large")["id"]
            with _Sampler(agent) as sampler, ThreadPoolExecutor(FOLLOWERS) as pool:
                readers = [
                    pool.submit(check, agent, build, digest, follow=True) for _ in range(FOLLOWERS)
                ]
                connection.wait(build)
                stored_s = time.perf_counter() - began
                for reader in readers:
                    reader.result()
            took_s = time.perf_counter() - began
        peak = usage.rss_peak_mb(agent.daemon)
    name = f"{size // 1_000_000} MB, {FOLLOWERS} followers"
    return Result(
        figures=[
            Figure(what=f"{name}: RSS peak +", value=peak - before[0], unit="MB", reach=20),
            Figure(
                what=f"{name}: PSS peak +",
                value=max(sampler.pss_mb) - before[1],
                unit="MB",
                reach=20,
            ),
        ],
        notes=[
            (
                f"daemon {before[0]:.0f} MB before, {peak:.0f} MB at most; engine at most "
                f"{max(sampler.engine_mb):.0f} MB; result after {stored_s:.1f} s, all {FOLLOWERS} "
                f"readers had every byte (SHA-256) after {took_s:.1f} s"
            )
        ],
        raw={"rss_before_mb": before[0], "pss_mb": sampler.pss_mb, "engine_mb": sampler.engine_mb},
    )


_HELLO = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"


class _Sampler:
    """Notes the memory of both processes ten times a second."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.pss_mb: list[float] = []
        self.engine_mb: list[float] = []

    def __enter__(self) -> _Sampler:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(0.1):
            self.pss_mb.append(usage.pss_mb(self._agent.daemon))
            self.engine_mb.append(usage.pss_mb(self._agent.engine))
