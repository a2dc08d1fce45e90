"""The bot: how soon a command is answered, and what its process costs, working and idle.

A bridge stands for the network, so that no network's own pace is measured. A command is written
down, carried out by the command line's own code, and its answer written down: two syncs to disk.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from bench import usage
from bench.agent import Agent, rota, running
from bench.case import Result, Setting
from bench.figure import Figure, percentile

SETTINGS = '[chat.bench]\nkind = "bridge"\nserver = "unix:{path}"\n'
#: So many people in as many rooms: of one, no more than a person can write is listened to.
PEOPLE = 40
USER = f"[chat]\nbench = {[f'account:ann{number}' for number in range(PEOPLE)]}\n"
WARM_UP = 5


class Room:
    """The bridge's side of one connection."""

    def __init__(self, opened: socket.socket) -> None:
        self._opened = opened
        self._lines = opened.makefile("rb")
        self._number = 0

    def begin(self) -> None:
        """Say what the network can: all at once."""
        self._write({"hello": {"every_s": 0, "burst": 1000, "has_threads": True}})
        assert "begin" in self._read()

    def ask(self, text: str) -> float:
        """Let a person say something; return after how many milliseconds the bot answered."""
        self._number += 1
        heard = {
            "id": f"m{self._number}",
            "room": f"#bench{self._number % PEOPLE}",
            "who": f"account:ann{self._number % PEOPLE}",
            "nick": "ann",
            "text": text,
            "at": datetime.now(UTC).isoformat(),
        }
        begun = time.perf_counter()
        self._write({"heard": heard})
        said = self._read()
        took = (time.perf_counter() - begun) * 1000
        self._write({"n": said["n"], "said": {"id": f"s{self._number}"}})
        return took

    def _write(self, message: object) -> None:
        self._opened.sendall(json.dumps(message).encode() + b"\n")

    def _read(self) -> dict[str, Any]:
        return dict(json.loads(self._lines.readline()))


def run(setting: Setting) -> Result:
    """Ask the bot one thing after the other, then leave it alone."""
    result = Result()
    path = setting.folder / "room"
    with listening(path) as server, running(setting.data()) as agent:
        before = usage.pss_mb(agent.daemon)
        _push(agent, setting.folder / "store", path)
        room = Room(server.accept()[0])
        room.begin()
        _commands(result, setting, agent, room)
        child = _child(agent)
        rest_s = setting.size(20, 3)
        own, used = usage.cpu(child, agent.engine).daemon, agent.cpu()
        time.sleep(rest_s)
        idle = usage.cpu(child, agent.engine).daemon - own
        spent = agent.cpu().since(used).daemon
        result.figures += [
            Figure(what="the bot's process: PSS", value=usage.pss_mb(child), unit="MB"),
            Figure(what="the bot's process, idle: CPU", value=idle / rest_s / 10, unit="%"),
            Figure(what="its daemon, idle: CPU", value=spent / rest_s / 10, unit="%"),
            Figure(what="a daemon without chat: PSS", value=before, unit="MB", reach=85),
            Figure(what="a daemon with a bot: PSS", value=usage.pss_mb(agent.daemon), unit="MB"),
        ]
    return result


def _commands(result: Result, setting: Setting, agent: Agent, room: Room) -> None:
    count = setting.size(200, 20)
    with agent.connect() as connection:
        plain = []
        for _ in range(count):
            begun = time.perf_counter()
            connection.call("GET", "/v1/status")
            plain.append((time.perf_counter() - begun) * 1000)
        connection.put("noop", "#!/bin/sh\n")
    for text, reach in (("!status", 50.0), ("!jobs", 50.0)):
        times = []
        for number in range(WARM_UP + count):
            if number >= WARM_UP:
                times.append(room.ask(text))
            else:
                room.ask(text)
            time.sleep(0.03)
        for share, most in ((0.5, reach), (0.99, None)):
            result.figures.append(
                Figure(
                    what=f"{text} → answer p{share * 100:.0f}",
                    value=percentile(times, share),
                    unit="ms",
                    reach=most,
                    floor=percentile(plain, share),
                    floor_name="REST",
                )
            )
        result.raw[f"{text}_ms"] = times


def _push(agent: Agent, clone: Path, path: Path) -> None:
    rota("--data", str(agent.data), "clone", str(clone))
    (clone / "users").mkdir()
    (clone / "users" / "ann.toml").write_text(USER)
    (clone / "settings.toml").write_text(SETTINGS.format(path=path))
    who = ["-c", "user.name=ann", "-c", "user.email=ann@here"]
    for words in (["add", "."], [*who, "commit", "-qm", "chat"], ["push", "-q"]):
        subprocess.run(["git", *words], cwd=clone, check=True, capture_output=True)


def _child(agent: Agent) -> int:
    """Return the process id of the daemon's bot."""
    for process in psutil.Process(agent.daemon).children():
        if "rota.chat" in process.cmdline():
            return process.pid
    raise LookupError("the daemon has no bot")


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Give a socket at which a bot may knock."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        server.settimeout(30)
        yield server
