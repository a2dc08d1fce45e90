"""Real agents and a real mail server: whoever leads dies while people are told, and none is missed."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from tests.harness.daemon import wait_until
from tests.harness.lab import lab, leader, until_settled
from tests.harness.mail_server import MailServer, mail_server_aside
from tests.harness.talking import ask, push_files

SETTINGS = """
[agents]
lost_after = "4s"
[mail]
server = "smtp+plain://127.0.0.1:{port}"
from = "rota@ci.example"
[[notify]]
on = "failed"
to = "mail:all@ci.example"
"""
JOB = b"""#!/bin/sh
# /// script
# [tool.rota]
# notify = [{ to = "mail:team%d@ci.example", on = "failed" }]
# ///
exit 3
"""
JOBS, EACH = 20, 10


def told(server: MailServer) -> dict[str, set[str]]:
    """Return by build which messages told of it."""
    found = defaultdict(set)
    pattern = re.compile(r"^(?:- )?(web\d+)(#\d+(?:, #\d+)*) failed", re.MULTILINE)
    for message in list(server.taken):
        for job, numbers in pattern.findall(message.get_content()):
            for number in numbers.split(", "):
                found[job + number].add(str(message["Message-ID"]))
    return found


@pytest.mark.fault
@pytest.mark.slow
def test_a_leader_that_dies_while_it_tells_leaves_nobody_out_and_tells_nobody_anew(
    tmp_path: Path,
) -> None:
    with mail_server_aside() as server, lab(tmp_path / "lab", spaces=False) as made:
        hosts = made.cluster(3, slots=4)
        push_files(
            leader(hosts), tmp_path / "store", {"settings.toml": SETTINGS.format(port=server.port)}
        )
        for number in range(JOBS):
            ask(hosts, f"/v1/jobs/web{number}", "PUT", JOB % number)
        wait_until("three voters", lambda: ask(hosts, "/v1/status")["tolerates"] == 1)
        server.each_s, server.is_closed = 0.05, True
        first = leader(hosts)
        with first.rest(30.0) as rest:
            for _ in range(EACH):
                for number in range(JOBS):
                    rest.call("POST", f"/v1/jobs/web{number}/builds", b"{}")
        until_settled(hosts)
        server.is_closed = False
        wait_until("it tells", lambda: len(server.taken) >= JOBS // 2)
        with next(it for it in hosts if it is not first).rest(30.0) as rest:
            owed = rest.call("GET", "/v1/notices?limit=1000")
        assert len(owed) > JOBS, "others ask whoever leads"
        first.slay("daemon")
        left = [it for it in hosts if it is not first]
        wanted = {f"web{job}#{n}" for job in range(JOBS) for n in range(1, EACH + 1)}
        try:
            wait_until("all are told of", lambda: told(server).keys() >= wanted, 60.0)
        except AssertionError as error:
            missing = sorted(wanted - told(server).keys())
            error.add_note(f"missing {missing}; {ask(left, '/v1/notices?limit=5')}")
            raise
        wait_until("no more is owed", lambda: not ask(left, "/v1/notices"))
        found = told(server)
        assert found.keys() == wanted
        twice = {ref: ids for ref, ids in found.items() if len(ids) > 1}
        assert not twice, "by another message than the first"
        again = Counter({it: n - 1 for it, n in server.ids.items() if n > 1})
        # What was under way when the leader died nobody can know of: one message a target at most.
        assert again.total() <= JOBS
        to = Counter(str(message["To"]) for message in server.taken)
        assert "all@ci.example" not in to, "the headers say who is told"
