"""Secrets among several agents: who joins reads them, who was removed reads none that came later."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.daemon import wait_until
from tests.harness.lab import Host, Lab, lab

pytestmark = [pytest.mark.fault, pytest.mark.nats, pytest.mark.slow]

VALUE = "cluster-wide-s3cret"


@pytest.fixture
def made() -> Iterator[Lab]:
    with (
        tempfile.TemporaryDirectory(prefix="rota-s") as folder,
        lab(Path(folder), spaces=False) as it,
    ):
        yield it


def keys(host: Host) -> list[str]:
    """Return the public keys of the identities that a host holds, the last one last."""
    path = host.data / "tls" / "secrets.key"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.removeprefix("# public key: ") for line in lines if line.startswith("# public")]


def built(at: Host, on: Host) -> Any:
    """Run a job that says what it got on a host; return the build."""
    header = f"# /// script\n# [tool.rota]\n# labels = 'host={on.name}'\n# secrets = ['S']\n# ///\n"
    script = f'#!/bin/sh\n{header}printf %s "$S" | sha256sum\necho $S\n'
    name = f"on-{on.name}"
    at.ok("add", "--force", name, "-", stdin=script)
    at.run("run", name, "--wait")
    return json.loads(at.ok("builds", name, "-n", "1", "--json"))[0]


def test_members_hand_the_key_on_and_a_removed_one_does_not_get_the_next(made: Lab) -> None:
    one, two, three = made.add("one"), made.add("two"), made.add("three")
    one.labels, two.labels, three.labels = "host=one", "host=two", "host=three"
    made.join(one)
    one.ok("secret", "set", "S", "--file", "-", stdin=VALUE)
    [first] = keys(one)
    soon_lost(one, made.folder / "clone")

    # Who joins gets the key at the door, and runs a job with the secret at once.
    made.join(two)
    assert keys(two) == [first]
    assert built(one, on=two)["result"] == "passed"
    assert VALUE not in two.ok("log", "on-two")

    # Who is away while the key changes asks for it when it is back.
    made.join(three)
    assert keys(three) == [first]
    three.slay()
    said = one.ok("secret", "rotate")
    assert "it has: this agent, two" in said
    assert "will ask for it, did not answer now: three" in said
    assert "S, set" in said
    second = keys(one)[-1]
    assert keys(one) == keys(two) == [first, second]
    assert keys(three) == [first]
    assert f"\n{second}\n" in "\n" + _main(one, "secrets/recipients.txt")
    three.start()
    wait_until("three has the key", lambda: keys(three) == [first, second])
    assert built(two, on=three)["result"] == "passed"

    # Who was removed holds old keys, is refused the new one, and cannot read what is set now.
    three.slay()
    wait_until("three is lost", lambda: "lost" in one.ok("agents"))
    said = one.run("agents", "--forget", "three").stderr
    assert "three had the key of the secrets, and may know their values" in said
    assert "hint: where that matters: rota secret rotate" in said
    one.ok("secret", "rotate")
    third = keys(one)[-1]
    assert third not in keys(three)
    assert keys(two)[-1] == third
    one.send("daemon", signal.SIGKILL)
    one.start()
    assert built(two, on=one)["result"] == "passed"


def soon_lost(host: Host, clone: Path) -> None:
    """Let agents that are silent be given up sooner than usual."""
    host.ok("clone", str(clone))
    (clone / "settings.toml").write_text('[agents]\nlost_after = "2s"\n')
    git = ["git", "-C", str(clone), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["add", "."], ["commit", "-qm", "soon lost"], ["push", "-q"]):
        assert host.execute([*git, *command]).returncode == 0


def _main(host: Host, path: str) -> str:
    done = host.execute(["git", "-C", str(host.data / "store.git"), "show", f"main:{path}"])
    return str(done.stdout)


def test_a_key_that_is_lost_is_told_and_what_cannot_be_read_is_removed_on_request(
    made: Lab,
) -> None:
    one = made.add("one")
    one.labels = "host=one"
    made.join(one)
    one.ok("secret", "set", "S", "--file", "-", stdin=VALUE)
    path = one.data / "tls" / "secrets.key"
    path.unlink()
    build = built(one, on=one)
    assert build["result"] == "errored"
    assert build["message"] == (
        "the secret S cannot be read: it is encrypted for a key that this agent has not, nor any"
        " member that answers (see: rota secret rotate --help, about lost keys)"
    )
    refused = one.run("secret", "set", "T", "--file", "-", stdin=VALUE)
    assert "nobody who answers has the key of secrets/recipients.txt" in refused.stderr
    refused = one.run("secret", "rotate")
    assert refused.returncode != 0
    assert "S cannot be read by any member that answers" in refused.stderr
    assert "rota secret rotate --drop-lost" in refused.stderr
    assert "removed, nobody could read them: S" in one.ok("secret", "rotate", "--drop-lost")
    one.ok("secret", "set", "S", "--file", "-", stdin=VALUE)
    assert built(one, on=one)["result"] == "passed"
