"""An agent that has nothing to do: its memory and its CPU, engine included."""

from __future__ import annotations

import time

from bench import usage
from bench.agent import running
from bench.case import Result, Setting
from bench.figure import Figure


def run(setting: Setting) -> Result:
    """Leave it alone for a minute, then watch it for half a minute."""
    rest_s, watch_s = setting.size(60, 5), setting.size(30, 5)
    with running(setting.data()) as agent:
        time.sleep(rest_s)
        daemon, engine = usage.pss_mb(agent.daemon), usage.pss_mb(agent.engine)
        before = agent.cpu()
        time.sleep(watch_s)
        used = agent.cpu().since(before)
    return Result(
        figures=[
            Figure(what="idle, engine included: PSS", value=daemon + engine, unit="MB", reach=85),
            Figure(
                what=f"idle, engine included: CPU in {watch_s} s",
                value=used.all / watch_s / 10,
                unit="%",
                reach=0.5,
            ),
        ],
        notes=[f"daemon {daemon:.0f} MB, engine {engine:.0f} MB; CPU ms: {used.each(1)}"],
        raw={"daemon_mb": daemon, "engine_mb": engine, "cpu_ms": used._asdict()},
    )
