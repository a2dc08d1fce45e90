"""What it costs that somebody has a token of his own, and that many have rules.

The same request over one warm connection each, in turns: by the agent's own token, which may
everything, and by the token of a user to whom the last of many rules gives what is asked for.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from bench.agent import Agent, running
from bench.case import Result, Setting
from bench.figure import Figure, percentile
from bench.rest import Connection

#: What a user's token may cost more, in milliseconds.
MORE_MS = 0.1
BLOCK = 50


def run(setting: Setting) -> Result:
    """Measure with one user and one rule, then with many."""
    result = Result()
    with running(setting.data()) as agent:
        with agent.connect() as connection:
            connection.put("web/a", "#!/bin/sh\n")
        clone = _cloned(agent, setting.folder / "clone")
        for users in (1, setting.size(300, 100)):
            _push(clone, users)
            with agent.connect() as connection:
                made = connection.call("POST", "/v1/access/tokens", b'{"user": "cho"}')
            token = str(made["token"])
            own, his = _times(agent, token, setting.size(2000, 300))
            result.figures.append(
                Figure(
                    what=f"a request by a user's token, {users} users and rules, p50",
                    value=percentile(his, 0.5),
                    unit="ms",
                    reach=percentile(own, 0.5) + MORE_MS,
                    floor=percentile(own, 0.5),
                    floor_name="own token",
                )
            )
            result.raw |= {f"own_{users}_ms": own, f"his_{users}_ms": his}
    return result


def _times(agent: Agent, token: str, count: int) -> tuple[list[float], list[float]]:
    """Return milliseconds of each request by the agent's token, and by the user's."""
    own, his = [], []
    with agent.connect(is_tcp=True) as one, agent.connect(is_tcp=True) as other:
        other.show(token)
        for _ in range(count // BLOCK):
            for connection, times in ((one, own), (other, his)):
                times += [_ms(connection) for _ in range(BLOCK)]
    return own[BLOCK:], his[BLOCK:]


def _ms(connection: Connection) -> float:
    began = time.perf_counter()
    connection.call("GET", "/v1/jobs/web/a")
    return (time.perf_counter() - began) * 1000


def _cloned(agent: Agent, folder: Path) -> Path:
    host = (agent.data / "listen").read_text().strip()
    token = (agent.data / "token").read_text().strip()
    _git("clone", "-q", f"http://admin:{token}@{host}/store.git", str(folder))
    return folder


def _push(clone: Path, users: int) -> None:
    """Have so many users, and as many rules, of which the last is the one that counts."""
    rules = [
        f'[[access]]\njobs = "team{n}/**"\nwho = "user{n}"\nrole = "builder"\n'
        for n in range(users - 1)
    ]
    rules.append('[[access]]\njobs = "web/**"\nwho = "cho"\nrole = "maintainer"\n')
    (clone / "settings.toml").write_text("".join(rules))
    folder = clone / "users"
    folder.mkdir(exist_ok=True)
    for number in range(users - 1):
        (folder / f"user{number}.toml").write_text('role = "none"\n')
    (folder / "cho.toml").write_text('role = "none"\n')
    _git("-C", str(clone), "add", ".")
    _git("-C", str(clone), "commit", "-qm", f"{users} users")
    _git("-C", str(clone), "push", "-q")


def _git(*words: str) -> None:
    who = {
        f"GIT_{it}_{key}": value
        for it in ("AUTHOR", "COMMITTER")
        for key, value in (("NAME", "b"), ("EMAIL", "b@b"))
    }
    subprocess.run(["git", *words], check=True, env={**os.environ, **who})
