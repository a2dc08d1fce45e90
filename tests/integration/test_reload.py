"""`agent.toml` read anew while the agent runs: by command, by SIGHUP; and a log that says it all."""

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.daemon import Daemon, wait_until

WAITS = "#!/bin/sh\nexec sleep 600\n"


class Plain(Daemon):
    """A daemon whose command line says nothing that its file could say."""

    def __init__(self, data: Path, *options: str) -> None:
        super().__init__(data)
        self._options = ("--name", "here", *options)

    def write(self, text: str) -> None:
        (self.data / "agent.toml").write_text(text)

    def log(self) -> str:
        return (self.data / "agent.log").read_text()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plain]:
    running = Plain(tmp_path_factory.mktemp("data"))
    running.write("slots = 1\n[log]\nformat = 'json'\n")
    running.start()
    yield running
    running.end()


def test_more_slots_take_more_builds_at_once(here: Plain) -> None:
    here.add("waits", WAITS)
    for _ in range(2):
        here.ok("run", "waits")
    here.until("waits#1", "running")
    assert here.build("waits#2")["state"] == "queued"
    here.write("slots = 2\n[log]\nformat = 'json'\n")
    assert "changed: slots" in here.ok("reload")
    here.until("waits#2", "running")
    assert here.json("status")["slots"] == 2
    assert here.json("agents")[0]["slots"] == 2
    for ref in ("waits#1", "waits#2"):
        here.ok("cancel", ref)
        here.until(ref, "finished")


def test_a_label_is_carried_at_once_after_a_sighup(here: Plain) -> None:
    here.add("special", "#!/bin/sh\n# /// script\n# [tool.rota]\n# labels = 'special'\n# ///\n")
    here.ok("run", "special")
    here.write("slots = 2\nlabels = ['special']\n[log]\nformat = 'json'\n")
    os.kill(here.pid, signal.SIGHUP)
    assert here.until("special#1", "finished")["result"] == "passed"
    here.write("slots = 2\n[log]\nformat = 'json'\n")
    here.ok("reload")
    assert "special" not in here.json("status")["labels"]


def test_a_file_with_faults_changes_nothing_and_they_are_named(here: Plain) -> None:
    before = here.json("status")
    here.write("slots = 'x'\nlisten = '0.0.0.0:1'\nlabls = 'a'\n")
    done = here.run("reload")
    assert done.returncode == 2
    path = here.data / "agent.toml"
    assert f"{path} has 2 faults" in done.stderr
    assert f"{path}:1:9: slots must be an integer" in done.stderr
    assert f"{path}:3:1: unknown key labls (did you mean 'labels'?)" in done.stderr
    assert "nothing was changed" in done.stderr
    here.write("slots = 'y'\nslots = 3\n")
    os.kill(here.pid, signal.SIGHUP)
    wait_until("it says so", lambda: here.log().count("is not taken over") == 2)
    after = here.json("status")
    assert (after["slots"], after["url"]) == (before["slots"], before["url"])
    here.write("slots = 2\n[log]\nformat = 'json'\n")
    here.ok("reload")


def status_of(url: str) -> int:
    try:
        urllib.request.urlopen(f"{url}/health", timeout=10).close()
    except urllib.error.URLError:
        return 0
    return 200


def test_it_listens_elsewhere_and_says_so(here: Plain) -> None:
    old = here.json("status")["url"]
    port = old.rpartition(":")[2]
    here.write(f"slots = 2\nlisten = '0.0.0.0:{port}'\n[log]\nformat = 'json'\n")
    assert "changed: listen" in here.ok("reload")
    assert status_of(old) == 200
    assert here.json("status")["url"] == f"http://0.0.0.0:{port}"
    here.write("slots = 2\nlisten = '127.0.0.1:0'\n[log]\nformat = 'json'\n")
    here.ok("reload")
    new = here.json("status")["url"]
    assert status_of(new) == 200
    if new != old:
        assert status_of(old) == 0


def test_where_it_cannot_listen_it_stays_where_it_was(here: Plain) -> None:
    url = here.json("status")["url"]
    here.write("slots = 2\nlisten = '192.0.2.1:7070'\n[log]\nformat = 'json'\n")
    done = here.run("reload")
    assert done.returncode != 0
    assert "cannot listen on 192.0.2.1:7070" in done.stderr
    assert here.json("status")["url"] == url
    assert status_of(url) == 200
    here.write("slots = 2\n[log]\nformat = 'json'\n")
    done = here.run("reload")
    assert "nothing changed" in done.stdout
    assert "not yet: listen: where nothing is said of it" in done.stderr


def test_a_level_for_a_while_and_a_log_without_secrets(here: Plain) -> None:
    here.write("slots = 2\n[log]\nformat = 'json'\nrequests = true\n")
    assert "logs from debug on" in here.ok("reload", "--log-level", "debug")
    value = "xyzzy-the-value-of-a-secret"
    here.ok("secret", "set", "deploy", stdin=value)
    token = (here.data / "token").read_text().strip()
    url = here.json("status")["url"]
    asked = urllib.request.Request(
        f"{url}/v1/jobs?token={value}&x=%0A%1b",
        headers={"Authorization": f"Bearer {token}", "X-Request-ID": "proxy-17"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked, timeout=10)
    assert refused.value.headers["X-Request-ID"] == "proxy-17"
    refused.value.close()
    here.add(
        "uses",
        f"#!/bin/sh\n# /// script\n# [tool.rota]\n# secrets = ['deploy']\n# ///\necho {value}\n",
    )
    here.ok("run", "uses", "--wait")

    def found() -> list[dict[str, str]]:
        lines = [json.loads(it) for it in here.log().splitlines() if it.startswith("{")]
        return [it for it in lines if it.get("request") == "proxy-17"]

    [line] = wait_until("the request is logged", found)
    assert (line["message"], line["verb"], line["status"]) == ("GET /v1/jobs", "jobs", "400")
    assert float(line["ms"]) >= 0
    assert line["agent"] == "here"
    text = here.log()
    assert value not in text
    assert token not in text
    here.write("slots = 2\n[log]\nformat = 'json'\n")
    here.ok("reload")
    assert "nothing changed" in here.ok("reload")
