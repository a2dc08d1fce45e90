"""Real agents on a real IRC server, and people there who count what they see while the leader is killed."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.harness.irc import IrcServer, Person, person
from tests.harness.lab import Host, lab, leader, until_settled
from tests.harness.talking import ask, push_files

from rota.adapters.irc.lines import parse
from rota.adapters.irc.talk import ID_TAG

PATIENCE_S = 40.0
SETTINGS = """
[agents]
lost_after = "4s"
[chat.irc]
server = "127.0.0.1"
port = {port}
tls = false
rooms = ["#web"]
pace = "200ms"
"""
JOB = """#!/bin/sh
# /// script
# [tool.rota.params]
# n = { default = 0 }
# ///
echo one
echo two
"""
NICKS = ("ann", "bob", "cid", "dan")
EACH = 4


async def link(host: Host, one: Person) -> None:
    """Have somebody known by a code, as people do."""
    told = await asyncio.to_thread(host.run, "user", "link", "--user", one.nick)
    code = re.search(r"link (\S+)", told.stdout)
    assert code, told
    one.say("rota", f"link {code[1]}")
    await one.line("you are ")


def sayings(one: Person) -> dict[str, list[str]]:
    """Return which lines of which of the bot's messages somebody saw, by the messages' ids."""
    found: dict[str, list[str]] = {}
    for raw in one.lines:
        line = parse(raw.encode())
        if line is not None and line.command == "PRIVMSG" and ID_TAG in line.tags:
            name, _, part = line.tags[ID_TAG].rpartition("/")
            found.setdefault(name, []).append(part)
    return found


async def until_heard(one: Person, fits: Any) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not fits(await one.all()):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError("\n".join(line for line in one.lines if "#web" in line)) from None


def answers(one: Person) -> set[str]:
    return {name for name in sayings(one) if name.startswith("answer-")}


async def tried(server: IrcServer, hosts: list[Host], folder: Path) -> None:
    watcher = await person(server, "eve", caps="message-tags server-time")
    await watcher.join("#web")
    watcher.send("MODE #web +H 200:1h")  # the room's history is what tells who has said what
    people = await asyncio.gather(*(person(server, nick) for nick in NICKS))
    for one in people:
        await one.join("#web")
    files = {"settings.toml": SETTINGS.format(port=server.port), "jobs/web": JOB}
    files |= {f"users/{nick}.toml": "notify = []\n" for nick in NICKS}
    await asyncio.to_thread(push_files, leader(hosts), folder / "store", files)
    await watcher.line(lambda line: ":rota!" in line and " JOIN " in line)
    for one in people:
        await link(leader(hosts), one)
    for number in range(EACH):
        for index, one in enumerate(people):
            one.say("#web", f"!run web n={number * len(people) + index}")
    await until_heard(watcher, lambda _: len(answers(watcher)) >= 3)
    first = leader(hosts)
    await asyncio.to_thread(first.slay, "daemon")
    await watcher.line(lambda line: ":rota!" in line and " QUIT " in line)
    people[0].say("#web", "!run web n=100")  # while nobody is there
    thief = await person(server, "thief")
    await thief.join("#web")
    await people[1].quit()
    thief.send("NICK bob")
    await watcher.line(" NICK ")
    thief.say("#web", "!run web n=200")
    left = [it for it in hosts if it is not first]
    wanted = EACH * len(people)
    await until_heard(watcher, lambda _: len(answers(watcher)) >= wanted + 2)

    await asyncio.to_thread(until_settled, left)
    builds = await asyncio.to_thread(ask, left, "/v1/builds?limit=200")
    numbers = Counter(int(it["params"]["n"]) for it in builds)
    assert numbers == Counter([*range(wanted), 100]), watcher.lines
    await until_heard(watcher, lambda lines: ended(lines) >= len(builds))
    for name, parts in sayings(watcher).items():
        assert len(set(parts)) == len(parts), f"{name} was said twice: {parts}"
        assert {f"{number}.{len(parts)}" for number in range(1, len(parts) + 1)} == set(parts), name
    assert any("bob: I do not know you here" in line for line in watcher.lines), watcher.lines
    joins = [line for line in watcher.lines if re.search(r":rota\S* JOIN ", line)]
    assert 2 <= len(joins) <= 3, joins  # two may think that they lead, for a moment
    for one in (watcher, thief, people[0], *people[2:]):
        one.vanish()


def ended(lines: list[str]) -> int:
    return sum(" passed in " in line or " failed in " in line for line in lines)


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.nats
def test_a_leader_that_dies_while_the_bot_speaks(tmp_path: Path, inspircd: IrcServer) -> None:
    with lab(tmp_path / "lab", spaces=False) as made:
        hosts = made.cluster(3, slots=4)
        try:
            asyncio.run(tried(inspircd, hosts, tmp_path))
        except AssertionError:
            for host in hosts:
                print(host.name, host.end_of_log(30))
            raise
