"""How soon a build begins, and how soon its end is known.

The script prints bash's $EPOCHREALTIME first and last. That is CLOCK_REALTIME, the clock that is
read here right before the trigger is sent and right after the long poll is answered. So the start
of bash itself (a millisecond or two) counts for us, and a step of the clock would show.
"""

from __future__ import annotations

import time

from bench.agent import running
from bench.case import Result, Setting
from bench.figure import Figure, percentile
from bench.rest import Connection

#: It lasts long enough for the long poll to wait before the end comes.
SCRIPT = "#!/bin/bash\necho $EPOCHREALTIME\nsleep 0.02\necho $EPOCHREALTIME\n"
WARM_UP = 10


def run(setting: Setting) -> Result:
    """Trigger builds one after the other on an agent that is idle otherwise."""
    result = Result()
    with running(setting.data()) as agent:
        for way in ("unix", "tcp"):
            with agent.connect(is_tcp=way == "tcp") as connection:
                connection.put("latency", SCRIPT)
                for _ in range(WARM_UP):
                    _one(connection)
                times = [_one(connection) for _ in range(setting.size(300, 50))]
            _note(result, setting, way, [t[0] for t in times], [t[1] for t in times])
    return result


def _one(connection: Connection) -> tuple[float, float]:
    """Return milliseconds from the trigger to the first line, and from the last to the answer."""
    asked = time.time_ns()
    build = connection.run("latency")["id"]
    connection.wait(build)
    told = time.time_ns()
    first, last = (float(line) * 1000 for line in connection.log(build).split())
    return first - asked / 1e6, told / 1e6 - last


def _note(
    result: Result, setting: Setting, way: str, begins: list[float], ends: list[float]
) -> None:
    for what, values, share, reach in (
        ("trigger → first instruction", begins, 0.5, 10.0),
        ("trigger → first instruction", begins, 0.99, 60.0),
        ("script's end → result known", ends, 0.5, 10.0),
    ):
        result.figures.append(
            Figure(
                what=f"{what}, {way} p{share * 100:.0f}",
                value=percentile(values, share),
                unit="ms",
                reach=reach,
                floor=setting.spawn_ms,
            )
        )
    result.raw |= {f"{way}_begin_ms": begins, f"{way}_end_ms": ends}
