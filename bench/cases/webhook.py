"""How soon a push that a webhook tells of has its job's first instruction run, checkout included.

As in ``latency`` the script prints bash's $EPOCHREALTIME first. The commit is one that the agent's
mirror has; then one that it has to fetch first.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from bench.agent import running
from bench.case import Result, Setting
from bench.figure import Figure, percentile
from bench.rest import Connection, RefusedError

SCRIPT = """#!/bin/bash
# /// script
# [tool.rota]
# scm = {{ git = "{repo}", branch = "main" }}
# on = [ {{ push = "main" }} ]
# ///
echo $EPOCHREALTIME
"""
WARM_UP = 5
PATIENCE_S = 30.0


def run(setting: Setting) -> Result:
    """Tell an agent that is idle otherwise of one push after the other."""
    result = Result()
    repo = setting.folder / "repo.git"
    # So many that no call is like one of the same second: that would be a repetition.
    ring = _make(repo, 60)
    with running(setting.data()) as agent, agent.connect() as connection:
        connection.put("hooked", SCRIPT.format(repo=repo))
        hook = connection.call("PUT", "/v1/hooks/bench", json.dumps({"repo": str(repo)}).encode())
        known = _pushes(ring[0], (ring[1:] + ring[:1]) * setting.size(3, 1))
        times = [_one(connection, hook, old, new) for old, new in known][WARM_UP:]
        _note(result, setting, "commit there", times, 60.0)
        fresh = _pushes(ring[0], _more(repo, setting.size(50, 10)))
        times = [_one(connection, hook, old, new) for old, new in fresh]
        _note(result, setting, "commit fetched", times, None)
    return result


def _pushes(at: str, commits: list[str]) -> Iterator[tuple[str, str]]:
    for commit in commits:
        yield at, commit
        at = commit


def _one(connection: Connection, hook: dict[str, str], old: str, new: str) -> float:
    """Return milliseconds from the call to the script's first line."""
    number = _last(connection)
    body = f"{old} {new} refs/heads/main\n".encode()
    url = urlsplit(hook["url"])
    asked = time.time_ns()
    at = str(asked // 10**9)
    sign = hmac.new(hook["secret"].encode(), at.encode() + b"." + body, hashlib.sha256)
    headers = {"X-Rota-Event": "push", "X-Rota-Signature": f"t={at},v1={sign.hexdigest()}"}
    caller = http.client.HTTPConnection(url.netloc)
    caller.request("POST", url.path, body, headers)
    answer = caller.getresponse()
    assert answer.status == 202, answer.read()
    caller.close()
    give_up_at = time.monotonic() + PATIENCE_S
    while _last(connection) == number:
        if time.monotonic() > give_up_at:
            raise RefusedError(f"the push of {new} started nothing within {PATIENCE_S:g} s")
        time.sleep(0.01)  # to ask more often would hold up what is measured
    build = connection.call("GET", "/v1/builds/hooked")["id"]
    connection.wait(build)
    line = connection.log(build).split()[-1]
    return float(line) * 1000 - asked / 1e6


def _last(connection: Connection) -> int:
    found = connection.call("GET", "/v1/builds?job=hooked&limit=1")
    return int(found[0]["number"]) if found else 0


def _note(
    result: Result, setting: Setting, what: str, times: list[float], reach: float | None
) -> None:
    for share, most in ((0.5, reach), (0.99, None)):
        result.figures.append(
            Figure(
                what=f"webhook → script, {what} p{share * 100:.0f}",
                value=percentile(times, share),
                unit="ms",
                reach=most,
                floor=setting.spawn_ms,
            )
        )
    result.raw[f"{what}_ms"] = times


def _make(repo: Path, commits: int) -> list[str]:
    _git(repo.parent, "init", "-q", "--bare", "-b", "main", str(repo))
    return _more(repo, commits)


def _more(repo: Path, count: int) -> list[str]:
    """Add commits to a bare repository's main; return them."""
    stream = []
    for number in range(count):
        start = "from refs/heads/main^0\n" if number == 0 and _heads(repo) else ""
        stream.append(
            "commit refs/heads/main\n"
            f"committer bench <b@x> {1_700_000_000 + number} +0000\ndata 1\nx\n{start}"
            f"M 644 inline f/{time.time_ns()}\ndata 1\nx\n"
        )
    subprocess.run(
        ["git", "fast-import", "--quiet"], input="".join(stream).encode(), cwd=repo, check=True
    )
    return _git(repo, "rev-list", "--reverse", f"-n{count}", "main").split()


def _heads(repo: Path) -> bool:
    return bool(_git(repo, "for-each-ref"))


def _git(cwd: Path, *args: str) -> str:
    return subprocess.run(
        ["git", *args], cwd=cwd, check=True, capture_output=True, text=True
    ).stdout
