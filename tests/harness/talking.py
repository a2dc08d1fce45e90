"""Clusters of real agents that are on a chat network or a mail server: set up by a push, asked by REST."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.harness.daemon import wait_until
from tests.harness.lab import Host, lab, leader


def push_files(host: Host, clone: Path, files: Mapping[str, str]) -> None:
    """Write files into a clone of the store and push them."""
    assert host.run("clone", str(clone)).returncode == 0
    for name, text in files.items():
        file = clone / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
    who = ["-c", "user.name=ann", "-c", "user.email=ann@here"]
    for words in (["add", "."], [*who, "commit", "-qm", "chat"], ["push", "-q"]):
        pushed = host.execute(["git", "-C", str(clone), *words])
        assert pushed.returncode == 0, pushed.stderr


def ask(hosts: list[Host], target: str, method: str = "GET", body: bytes | None = None) -> Any:
    """Return what the leader of those that are up answers."""
    with leader([it for it in hosts if it.is_up]).rest(30.0) as rest:
        return rest.call(method, target, body)


def cluster_with_secret(
    folder: Path, secret: str, files: Mapping[str, str]
) -> tuple[list[Host], Callable[[], None]]:
    """Return three voters that have a password and those files, and what ends them."""
    made = lab(folder / "lab", spaces=False)
    hosts = made.__enter__().cluster(3, slots=4)

    def close() -> None:
        made.__exit__(None, None, None)

    try:
        first = leader(hosts)
        first.ok("secret", "set", secret, "--file", "-", stdin="pwrota")
        push_files(first, folder / "store", files)
        wait_until("three voters", lambda: ask(hosts, "/v1/status")["tolerates"] == 1)
    except BaseException:
        close()
        raise
    return hosts, close


async def code_for(hosts: list[Host], user: str) -> str:
    """Return a code that makes whoever says it that user."""
    told = await asyncio.to_thread(lambda: leader(hosts).ok("user", "link", "--user", user))
    found = re.search(r"[A-Z0-9]{4}-[A-Z0-9]{4}", told)
    assert found is not None, told
    return found[0]
