"""What it costs to find out who is to be told, and whether a mail server that hangs is felt.

First without an agent: 1,000 ends of builds are looked at for 50 users with rules of their own and
ten channels, and what comes of it is folded; the floor is to fold these builds' own events. Then an
agent of whose every build people are told: trigger to first instruction while nobody is told, and while a mail
server takes connections and never says a word; and how many such builds a second.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench.agent import ROTA, Agent, running
from bench.case import Result, Setting
from bench.cases.burst import burst
from bench.figure import Figure, percentile
from bench.rest import Connection
from rota.core.build import Trigger
from rota.core.cluster import Cluster
from rota.core.events import (
    AgentJoined,
    AgentStarted,
    BuildCheckedOut,
    BuildFinished,
    BuildRequested,
    BuildStarted,
)
from rota.core.fold import apply
from rota.core.job import Reason, Spec
from rota.core.notices import Audience, audience, look_at_end
from rota.core.outbox import Outbox, fold_queued
from rota.core.preferences import Preference
from rota.core.scm import Source
from rota.core.targets import Target
from rota.core.users import Claim, User, Users

SCRIPT = "#!/bin/bash\necho $EPOCHREALTIME\n"
SETTINGS = """
[mail]
server = "smtp+plain://127.0.0.1:{port}"
from = "rota@ci.example"
[[notify]]
on = "always"
to = ["mail:a@ci.example", "mail:b@ci.example", "mail:c@ci.example"]
"""
AT = datetime(2026, 1, 1, tzinfo=UTC)
ENDS, USERS, CHANNELS = 1000, 50, 10
WARM_UP = 10


def run(setting: Setting) -> Result:
    """Look, then run builds on an agent that tells nobody, and on one whose mail server hangs."""
    result = Result()
    _look(result)
    with running(setting.data()) as quiet, running(setting.data()) as told, hanging() as port:
        _set(told, setting.folder / "store", SETTINGS.format(port=port))
        agents = {"nobody is told": quiet, "mail hangs": told}
        times: dict[str, list[float]] = {what: [] for what in agents}
        with contextlib.ExitStack() as stack:
            opened = {what: stack.enter_context(it.connect()) for what, it in agents.items()}
            for connection in opened.values():
                connection.put("told", SCRIPT)
            # In turn, so that whatever else the machine does is felt by both.
            for number in range(WARM_UP + setting.size(200, 40)):
                for what, connection in opened.items():
                    took_ms = _one(connection)
                    if number >= WARM_UP:
                        times[what].append(took_ms)
        rates: dict[str, list[float]] = {what: [] for what in agents}
        for _ in range(setting.size(3, 1)):
            for what, agent in agents.items():
                count = setting.size(200, 50)
                rates[what].append(count / burst(agent, "told", count)[1])
    _note(result, setting, times, rates)
    return result


def _note(
    result: Result,
    setting: Setting,
    times: dict[str, list[float]],
    rates: dict[str, list[float]],
) -> None:
    quiet_ms, told_ms = (percentile(found, 0.5) for found in times.values())
    quiet, told = (statistics.median(found) for found in rates.values())
    first, last = "trigger → first line", "builds at once"
    result.figures += [
        Figure(
            what=f"{first}, nobody told, p50", value=quiet_ms, unit="ms", floor=setting.spawn_ms
        ),
        Figure(
            what=f"{first}, mail hangs, p50",
            value=told_ms,
            unit="ms",
            reach=1.15 * quiet_ms,
            floor=quiet_ms,
            floor_name="nobody told",
        ),
        Figure(
            what=f"{last}, nobody told",
            value=quiet,
            unit="/s",
            at_least=True,
            floor=setting.spawn_ms,
        ),
        Figure(
            what=f"{last}, mail hangs",
            value=told,
            unit="/s",
            reach=0.8 * quiet,
            at_least=True,
            floor=1000 / quiet,
            floor_name="nobody told",
        ),
    ]
    result.raw |= {"times_ms": times, "rates": rates}


def _one(connection: Connection) -> float:
    """Return milliseconds from the trigger to the first line."""
    asked = time.time_ns()
    build = connection.run("told")["id"]
    connection.wait(build)
    return float(connection.log(build).split()[0]) * 1000 - asked / 1e6


@contextlib.contextmanager
def hanging() -> Iterator[int]:
    """Take connections and never say a word; give the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(server.accept()[0])

        threading.Thread(target=take, daemon=True).start()
        yield server.getsockname()[1]
        for one in taken:
            one.close()


def _set(agent: Agent, clone: Path, text: str) -> None:
    """Push settings, as a person would."""
    subprocess.run(
        [ROTA, "clone", str(clone), "--data", str(agent.data)], check=True, capture_output=True
    )
    (clone / "settings.toml").write_text(text)
    who = ["-c", "user.name=bench", "-c", "user.email=bench@x"]
    for words in (["add", "."], [*who, "commit", "-qm", "mail"], ["push", "-q"]):
        subprocess.run(["git", "-C", str(clone), *words], check=True, capture_output=True)


# -- without an agent -------------------------------------------------------------------------------


def _look(result: Result) -> None:
    whom, cluster = _whom(), Cluster()
    began = time.perf_counter()
    ids = _ended(cluster)
    floor_us = (time.perf_counter() - began) * 1e6 / ENDS
    outbox, told = Outbox(), 0
    began = time.perf_counter()
    for id_ in ids:
        build = cluster.picture.builds[id_]
        telling = look_at_end(whom, build, (), outbox.broken, AT)
        if telling is not None:
            fold_queued(outbox, cluster.picture.builds, [telling], AT)
            told += sum(len(tale.notices) for tale in telling.tales)
    took_us = (time.perf_counter() - began) * 1e6 / ENDS
    result.figures.append(
        Figure(
            what=f"an end, {USERS} users' rules",
            value=took_us,
            unit="µs",
            reach=1000.0,
            floor=floor_us,
            floor_name="its events",
        )
    )
    result.notes.append(f"{ENDS} ends gave {told} notices to {len(outbox.queues)} targets")


def _whom() -> Audience:
    files = {}
    for number in range(USERS):
        address = f"user{number}@ci.example"
        mine = Preference(to=(Target("mail"),), on=("first-failure", "fixed"))
        every = Preference(to=(Target("mail"),), on=("failed",), jobs=("job1*",), whose="all")
        user = User(emails=(address,), preferences=(mine, every))
        files[f"user{number}"] = (user, (Claim("mail", address),))
    channels = [
        Preference(
            to=(Target("irc", f"#team{number}"),),
            on=("first-failure", "fixed"),
            jobs=(f"job{number}*",),
            whose="all",
        )
        for number in range(CHANNELS)
    ]
    return audience(Users(files), channels, networks=["irc", "mail"])


def _ended(cluster: Cluster) -> list[str]:
    """Fold builds of a hundred jobs that failed, with two committers each."""
    events: list[object] = [
        AgentJoined(at=AT, name="a", pin="p"),
        AgentStarted(at=AT, agent="a", slots=ENDS + 1),
    ]
    ids = [f"b{number}" for number in range(ENDS)]
    for number, id_ in enumerate(ids):
        culprits = tuple(f"U <user{(number + n) % USERS}@ci.example>" for n in range(2))
        source = Source(url="u", commit="c" * 40, branch="main", culprits=culprits)
        events += [
            BuildRequested(
                at=AT, build=id_, job=f"job{number % 100}", spec=Spec(), trigger=Trigger()
            ),
            BuildStarted(at=AT, agent="a", build=id_, attempt=1),
            BuildCheckedOut(at=AT, agent="a", build=id_, attempt=1, source=source),
            BuildFinished(
                at=AT, agent="a", build=id_, attempt=1, reason=Reason.SCRIPT, exit_code=number % 3
            ),
        ]
    for seq, event in enumerate(events, 1):
        apply(cluster, seq, event)  # type: ignore[arg-type]  # they are events
    return ids
