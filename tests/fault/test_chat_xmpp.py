"""Real agents, a real Prosody, and a person's client: whoever leads, everything is said once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.lab import Host, leader, until_settled
from tests.harness.people import until
from tests.harness.prosody import ROOMS, Prosody, XmppPerson, prosody
from tests.harness.talking import ask, cluster_with_secret, code_for

ROOM = f"web@{ROOMS}"
FILES = {
    "settings.toml": """
[agents]
lost_after = "4s"
[chat.xmpp]
server = "127.0.0.1"
port = {port}
tls = "starttls"
ca = "{ca}"
account = "rota@localhost"
password = "chat-xmpp"
rooms = ["{room}"]
""",
    "jobs/web": "#!/bin/sh\n# /// script\n# [tool.rota.params]\n# n = {{ default = 0 }}\n# ///\necho built\n",
    "jobs/ship": '#!/bin/sh\nanswer=$(rota ask "Ship it?" --choices yes,no)\necho "it says $answer"\n',
    "users/ann.toml": "role = 'builder'\n",
}
RUNS = 8


@pytest.fixture
def server() -> Iterator[Prosody]:
    made = prosody()
    yield made
    made.close()


@pytest.mark.fault
@pytest.mark.slow
def test_a_person_on_xmpp_and_leaders_that_die(server: Prosody, tmp_path: Path) -> None:
    asyncio.run(_talk(server, tmp_path))


async def _talk(server: Prosody, tmp_path: Path) -> None:
    async with XmppPerson(server, "ann", ROOM) as ann:
        files = {
            name: text.format(port=server.port, ca=server.ca, room=ROOM)
            for name, text in FILES.items()
        }
        hosts, close = await asyncio.to_thread(cluster_with_secret, tmp_path, "chat-xmpp", files)
        try:
            await _link(ann, hosts)
            await _answer(ann)
            await _lose_the_leader(ann, hosts)
        finally:
            await asyncio.to_thread(close)


async def _link(ann: XmppPerson, hosts: list[Host]) -> None:
    """A code makes whoever says it to the bot alone that user; before, it does nothing."""
    await until(lambda: "rota" in ann.nicks)
    await ann.write(ROOM, "!run web")
    await ann.shows(lambda text: "I do not know you" in text)
    await ann.write("rota@localhost", f"link {await code_for(hosts, 'ann')}")
    await ann.shows(lambda text: "ann" in text and "you are" in text.lower())


async def _answer(ann: XmppPerson) -> None:
    await ann.write(ROOM, "!run ship")
    await ann.shows(lambda text: "Ship it?" in text)
    await ann.write(ROOM, "!answer ship#1 yes")
    await ann.shows(lambda text: "ship#1" in text and "passed" in text)


async def _lose_the_leader(ann: XmppPerson, hosts: list[Host]) -> None:
    def answers() -> list[str]:
        return [each.id for each in ann.shown if each.id.startswith("answer-")]

    before = len(answers())
    for number in range(RUNS):
        await ann.write(ROOM, f"!run web n={number + 1}")
    await until(lambda: len(answers()) > before + 2)
    first = await asyncio.to_thread(leader, hosts)
    await asyncio.to_thread(first.slay, "daemon")
    await ann.write(ROOM, "!run web n=1000")  # while nobody leads
    left = [host for host in hosts if host is not first]
    await until(
        lambda: len(set(answers())) >= before + RUNS + 1,
        60.0,
        what=lambda: [(each.id, each.text) for each in ann.shown],
    )
    await asyncio.to_thread(until_settled, left)
    builds = await asyncio.to_thread(ask, left, "/v1/builds?limit=200")
    numbers = Counter(it["params"]["n"] for it in builds if it["job"] == "web")
    assert numbers == Counter([*range(1, RUNS + 1), 1000])
    ends = [f"web#{it['number']} passed" for it in builds if it["job"] == "web"]
    await until(lambda: all(any(end in each.text for each in ann.shown) for end in ends), 60.0)
    assert [key for key, count in Counter(each.id for each in ann.shown).items() if count > 1] == []
