"""Real agents and a real Synapse: a thread, an answer in it, and leaders that die while the bot speaks."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.lab import Host, leader, until_settled
from tests.harness.synapse import MatrixPerson, Synapse, synapse
from tests.harness.talking import ask, cluster_with_secret, code_for

from rota.adapters.matrix.events import MARK

BOT, ROOM = "@rota:localhost", "#web:localhost"
FILES = {
    "settings.toml": """
[agents]
lost_after = "4s"
[chat.matrix]
server = "{server}"
account = "@rota:localhost"
password = "chat-matrix"
rooms = ["#web:localhost"]
""",
    "jobs/web": "#!/bin/sh\n# /// script\n# [tool.rota.params]\n# n = {{ default = 0 }}\n# ///\necho built\n",
    "jobs/ship": '#!/bin/sh\nanswer=$(rota ask "Ship it?" --choices yes,no)\necho "it says $answer"\n',
    "users/ann.toml": "role = 'builder'\nnotify = []\n",
}
RUNS = 8


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synapse]:
    made = synapse(tmp_path_factory.mktemp("synapse"))
    yield made
    made.close()


@pytest.mark.fault
@pytest.mark.slow
def test_a_person_on_matrix_and_leaders_that_die(server: Synapse, tmp_path: Path) -> None:
    asyncio.run(_talk(server, tmp_path))


async def _talk(server: Synapse, tmp_path: Path) -> None:
    async with MatrixPerson(server, "ann") as ann:
        ann.room = await ann.make_room("web")
        files = {name: text.format(server=server.url) for name, text in FILES.items()}
        hosts, close = await asyncio.to_thread(cluster_with_secret, tmp_path, "chat-matrix", files)
        try:
            await _link(ann, hosts)
            await _answer_in_a_thread(ann)
            await _lose_the_leader(ann, hosts)
        finally:
            await asyncio.to_thread(close)


async def _link(ann: MatrixPerson, hosts: list[Host]) -> None:
    await ann.write(BOT, f"link {await code_for(hosts, 'ann')}")
    await ann.shows(lambda text: "you are ann here" in text)


async def _answer_in_a_thread(ann: MatrixPerson) -> None:
    await ann.write(ROOM, "!run ship")
    asked = await ann.shows(lambda text: "Ship it?" in text)
    await ann.write(ROOM, "yes", thread=asked.thread)
    ended = await ann.shows(lambda text: "ship#1 passed" in text)
    assert ended.thread == asked.thread


async def _lose_the_leader(ann: MatrixPerson, hosts: list[Host]) -> None:
    def marks() -> list[str]:
        return [json.loads(each.raw)["content"].get(MARK, "") for each in ann.shown]

    def answers() -> set[str]:
        return {mark for mark in marks() if mark.startswith("answer-")}

    before = len(answers())
    for number in range(RUNS):
        await ann.write(ROOM, f"!run web n={number + 1}")
    while len(answers()) <= before + 2:
        await ann.sees(len(ann.shown) + 1)
    first = await asyncio.to_thread(leader, hosts)
    await asyncio.to_thread(first.slay, "daemon")
    await ann.write(ROOM, "!run web n=1000")  # while nobody leads
    left = [host for host in hosts if host is not first]
    while len(answers()) < before + RUNS + 1:
        await ann.sees(len(ann.shown) + 1, within_s=60.0)
    await asyncio.to_thread(until_settled, left)
    builds = await asyncio.to_thread(ask, left, "/v1/builds?limit=200")
    numbers = Counter(it["params"]["n"] for it in builds if it["job"] == "web")
    assert numbers == Counter([*range(1, RUNS + 1), 1000])
    ends = [f"web#{it['number']} passed" for it in builds if it["job"] == "web"]
    while not all(any(end in each.text for each in ann.shown) for end in ends):
        await ann.sees(len(ann.shown) + 1, within_s=60.0)
    assert [mark for mark, count in Counter(marks()).items() if mark and count > 1] == []
