"""Approvals and questions on a real agent, whose daemon is killed meanwhile."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from typing import Any

import pytest
from tests.harness.daemon import Daemon, wait_until

pytestmark = [pytest.mark.nats, pytest.mark.slow]
ME = getpass.getuser()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("people") / "data")
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.end()


def script(*lines: str, header: str = "") -> str:
    head = f"# /// script\n# [tool.rota]\n# {header}\n# ///\n" if header else ""
    return "#!/bin/sh\n" + head + "\n".join(lines) + "\n"


def asked(daemon: Daemon, build: str, count: int = 1) -> list[dict[str, Any]]:
    def look() -> list[dict[str, Any]] | None:
        found = [it for it in daemon.json("asks") if it["build"] == build]
        return found if len(found) == count else None

    return wait_until(f"{build} asks {count}", look)


def test_an_answer_comes_out_of_a_script_whose_daemon_was_killed_while_it_asked(
    daemon: Daemon,
) -> None:
    daemon.add("asks", script("size=$(rota ask 'How many?' --type int) && echo \"it is $size\""))
    daemon.ok("run", "asks")
    (question,) = asked(daemon, "asks#1")
    assert (question["question"], question["text"], question["type"]) == (1, "How many?", "int")
    assert "it asks somebody: 'How many?'" in daemon.ok("why", "asks#1")
    assert "1 How many?" in daemon.ok("show", "asks#1")
    wrong = daemon.run("answer", "asks#1", "many")
    assert (wrong.returncode, wrong.stderr.splitlines()[0]) == (
        2,
        "error: the answer to 'How many?' must be an integer, not 'many'",
    )
    daemon.kill()
    daemon.start()
    daemon.ok("answer", "asks#1", "42")
    build = daemon.until("asks#1", "finished")
    assert build["result"] == "passed"
    assert daemon.ok("log", "asks#1") == "it is 42\n"
    late = daemon.run("answer", "asks#1", "43")
    assert "asks#1 asks nothing now" in late.stderr


def test_several_questions_each_get_their_answer_and_time_that_is_over_the_default(
    daemon: Daemon,
) -> None:
    daemon.add(
        "several",
        script(
            "rota ask 'Where?' --choices web-1,web-2 >a &",
            "rota ask 'Now?' --type bool --default false --timeout 0.2s >b",
            "rota ask 'Nobody?' --timeout 0.2s >c; echo \"exit $?\"",
            "wait; cat a b c",
        ),
    )
    daemon.ok("run", "several")

    def only_where() -> bool:
        build = daemon.build("several#1")
        return bool(sum(it.get("timed_out", False) for it in build.get("questions", ())) == 2)

    wait_until("two questions are settled by time", only_where)
    wrong = daemon.run("answer", "several#1", "web-3")
    assert "cannot be 'web-3', only 'web-1', 'web-2'" in wrong.stderr
    daemon.ok("answer", "several#1", "web-2")
    daemon.until("several#1", "finished")
    log = daemon.ok("log", "several#1")
    assert "error: nobody answered in time: Nobody?\nexit 1\n" in log
    assert log.endswith("web-2\nfalse\n")


def test_only_who_is_asked_may_answer_or_approve(daemon: Daemon) -> None:
    daemon.add("ann", script("rota ask 'Ann?' --who ann,@none"))
    daemon.ok("run", "ann")
    asked(daemon, "ann#1")
    refused = daemon.run("answer", "ann#1", "yes")
    assert refused.returncode == 4
    assert f"question 1 of ann#1 is for ann, @none, {ME} is not" in refused.stderr
    assert "settings.toml has no group none" in refused.stderr
    daemon.ok("cancel", "ann#1")
    daemon.add("gate", script("echo deployed", header='approve = { who = ["ann"], self = false }'))
    daemon.ok("run", "gate")
    for verb in ("approve", "reject"):
        refused = daemon.run(verb, "gate#1")
        assert refused.returncode == 4
        assert f"gate#1 is for ann, {ME} is not" in refused.stderr
    daemon.add("other", script("true", header="approve = { self = false }"))
    daemon.ok("run", "other")
    refused = daemon.run("approve", "other#1")
    assert refused.returncode == 4
    assert f"{ME} asked for other#1, and somebody else has to approve it" in refused.stderr
    daemon.ok("cancel", "other#1")
    daemon.ok("cancel", "gate#1")


def test_a_build_begins_when_it_is_approved_and_not_when_it_is_rejected(daemon: Daemon) -> None:
    header = f'approve = {{ who = ["{ME}"], text = "Deploy {{version}}?" }}\n# params = {{ version = "1" }}'
    daemon.add("deploy", script("echo deployed", header=header))
    daemon.ok("run", "deploy", "version=1.4")
    (wanted,) = asked(daemon, "deploy#1")
    assert (wanted["question"], wanted["text"]) == (0, "Deploy 1.4?")
    assert f"{ME} must approve it: 'Deploy 1.4?'" in daemon.ok("why", "deploy#1")
    daemon.kill()
    daemon.start()
    assert "approved by" in daemon.ok("approve", "deploy#1", "-m", "fine")
    assert daemon.until("deploy#1", "finished")["result"] == "passed"
    again = daemon.run("reject", "deploy#1")
    assert f"deploy#1 was approved by {ME}" in again.stderr
    daemon.ok("run", "deploy")
    daemon.ok("reject", "deploy#2", "-m", "not on a Friday")
    build = daemon.build("deploy#2")
    assert (build["result"], build["reason"]) == ("cancelled", "rejected")
    assert f"rejected by {ME}: not on a Friday" in daemon.ok("why", "deploy#2")


def test_nobody_approving_in_time_ends_a_build(daemon: Daemon) -> None:
    daemon.add("soon", script("true", header='approve = { timeout = "0.2s" }'))
    daemon.ok("run", "soon")
    build = daemon.until("soon#1", "finished")
    assert (build["result"], build["reason"]) == ("timed-out", "timeout")
    assert "timed out: nobody approved it within 200ms" in daemon.ok("why", "soon#1")


def test_asking_outside_of_a_build_is_refused(daemon: Daemon) -> None:
    done = daemon.run("ask", "Anybody?")
    assert done.returncode == 2
    assert "only a build asks: this is none" in done.stderr
