"""Real agents, a room, and people who go on talking while whoever leads is killed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tests.harness.chat_server import chat_server_aside
from tests.harness.daemon import wait_until
from tests.harness.lab import lab, leader, until_settled
from tests.harness.talking import ask, push_files

FILES = {
    "settings.toml": """
[agents]
lost_after = "4s"
[chat.team]
kind = "bridge"
server = "{server}"
rooms = ["#room"]
""",
    "jobs/web": "#!/bin/sh\n# /// script\n# [tool.rota.params]\n# n = {{ default = 0 }}\n# ///\n",
    "jobs/deploy": "#!/bin/sh\n# /// script\n# [tool.rota]\n# approve = {{}}\n# ///\n",
}
#: So that nobody writes too fast.
PEOPLE = tuple(f"ann{number}" for number in range(8))
FILES |= {f"users/{it}.toml": f'notify = []\n[chat]\nteam = ["account:{it}"]\n' for it in PEOPLE}
RUNS, WAITING = 40, 6


@pytest.mark.fault
@pytest.mark.slow
def test_a_leader_that_dies_while_people_talk_loses_nothing_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    with chat_server_aside(tmp_path / "s") as room, lab(tmp_path / "lab", spaces=False) as made:
        hosts = made.cluster(3, slots=4)
        files = {name: text.format(server=room.server.setting) for name, text in FILES.items()}
        push_files(leader(hosts), tmp_path / "store", files)
        wait_until("three voters", lambda: ask(hosts, "/v1/status")["tolerates"] == 1)
        wait_until("the bot is there", lambda: room.server.ears)

        def hear(text: str, number: int) -> None:
            nick = PEOPLE[number % len(PEOPLE)]
            room.hear(text, who=f"account:{nick}", nick=nick)

        for number in range(WAITING):
            hear("!run deploy", number)
        wait_until("they wait", lambda: len(room.texts("#room")) >= 2 * WAITING)
        first, before = leader(hosts), len(room.texts())
        for number in range(RUNS):
            hear(f"!run web n={number}", number)
        for number in range(WAITING):
            # Neither can be done twice: the second time there is nothing to approve or to cancel.
            hear(f"!{'approve' if number % 2 else 'cancel'} deploy#{number + 1}", number)
        wait_until("it answers", lambda: len(room.texts()) >= before + RUNS // 4)
        first.slay("daemon")
        hear("!run web n=1000", 0)  # while nobody leads
        left = [it for it in hosts if it is not first]

        def answers() -> list[str]:
            return [it for it in room.ids() if it.startswith("answer-")]

        wanted = WAITING + RUNS + WAITING + 1
        wait_until("all is answered", lambda: len(set(answers())) >= wanted, 60.0)
        until_settled(left)
        builds = ask(left, "/v1/builds?limit=200")
        wait_until(
            "all ends are told",
            lambda: (
                sum(" passed in " in it or " cancelled" in it for it in room.texts("#room"))
                >= len(builds)
            ),
            60.0,
        )
        numbers = Counter(it["params"]["n"] for it in builds if it["job"] == "web")
        assert numbers == Counter([*range(RUNS), 1000])
        results = {it["number"]: it["result"] for it in builds if it["job"] == "deploy"}
        expected = {n + 1: "passed" if n % 2 else "cancelled" for n in range(WAITING)}
        assert results == expected
        assert Counter(room.ids()).most_common(1)[0][1] == 1, "the same was said twice"
        refused = [it for it in room.texts() if "waits for no approval" in it or "is over" in it]
        assert not refused, "a command was carried out twice"
