"""Commands as a person types them: what is asked, what is printed where, and the exit status."""

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.harness.fake_agent import (
    BUILD,
    STATUS,
    Asked,
    FakeAgent,
    Reply,
    answer,
    fake_agent,
    problem,
)

from rota import __version__
from rota.cli.commands.completion import FISH
from rota.cli.main import main

QUEUED = {
    **BUILD,
    "state": "queued",
    "result": None,
    "attempt": 0,
    "started_at": None,
    "finished_at": None,
}
JOB: dict[str, Any] = {
    "name": "web/test", "description": "unit tests", "params": {}, "spec": {}, "paused": None,
    "etag": "e1", "commit": "c1", "script": "echo hi\n", "last": None,
}  # fmt: skip
AGENT: dict[str, Any] = {
    "name": "a1", "state": "up", "since": "2026-01-02T03:04:05.000000Z", "labels": {"linux": ""},
    "slots": 4, "running": 2, "url": "http://127.0.0.1:7070", "peer": "https://10.0.0.1:7071",
    "version": "0.1.0", "draining": False, "leaving": False, "is_leader": True, "is_voter": True,
}  # fmt: skip
OTHER = {**AGENT, "is_leader": False, "slots": 2}
AGENTS = [
    AGENT,
    {**OTHER, "name": "a2", "draining": True, "is_voter": False, "running": 0, "labels": {}, "url": "http://127.0.0.1:7072"},
    {**OTHER, "name": "a3", "state": "lost", "running": 1, "labels": {"gpu": "", "java": "17"}, "url": ""},
]  # fmt: skip
COMMITTED = {"job": "web/test", "commit": "0123456789abcdef", "etag": "e2", "changed": True}


class Said(NamedTuple):
    """What a command left."""

    status: int
    out: str
    err: str


class Rota:
    """Runs commands in this process against an agent that answers from a table of routes."""

    def __init__(self, agent: FakeAgent, capfd: pytest.CaptureFixture[str]) -> None:
        self.agent = agent
        self.routes: dict[str, Reply | list[Reply | None] | Callable[[Asked], Reply]] = {}
        self._capfd = capfd
        agent.respond = self._respond

    def __call__(self, *words: str) -> Said:
        status = main(["--at", self.agent.url, *words])
        out, err = self._capfd.readouterr()
        return Said(status, out, err)

    @property
    def last(self) -> Asked:
        """The last request."""
        return self.agent.asked[-1]

    def _respond(self, asked: Asked) -> Reply | None:
        found = self.routes.get(f"{asked.method} {asked.path}")
        if found is None:
            return problem(404, f"no {asked.path}")
        if isinstance(found, list):
            return found.pop(0)
        return found(asked) if callable(found) else found


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("ROTA_") or name in ("VISUAL", "EDITOR", "NO_COLOR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def rota(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Rota]:
    with fake_agent(lambda _: None, tmp_path / "rota.sock") as agent:
        yield Rota(agent, capfd)


def plain(capfd: pytest.CaptureFixture[str], *words: str) -> Said:
    status = main(words)
    out, err = capfd.readouterr()
    return Said(status, out, err)


# -- usage --------------------------------------------------------------------------------------


def test_the_version_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    assert plain(capfd, "--version") == (0, f"rota {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "status", "out", "err"),
    [
        (["--version"], 0, f"rota {__version__}\n", ""),
        (["completion", "fish"], 0, FISH, ""),
        (["jbos"], 2, "", "error: no command 'jbos'\n\nhint: did you mean 'jobs'?\n"),
    ],
)
def test_a_process_says_all_it_has_to_before_it_ends(
    words: list[str], status: int, out: str, err: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rota", *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, out, err)


def test_all_commands_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    said = plain(capfd, "--help")
    assert said.status == 0
    assert "  run         request a build of a job\n" in said.out
    assert plain(capfd, "help").out == said.out
    assert plain(capfd) == (2, "", said.out)
    assert "usage: rota run" in plain(capfd, "help", "run").out
    assert "examples:\n  rota run web/test" in plain(capfd, "run", "--help").out


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (["jbos"], "no command 'jbos'", "did you mean 'jobs'?"),
        (["qqq"], "no command 'qqq'", "see which there are: rota --help"),
        (["--wat", "jobs"], "unknown option --wat", "see how: rota --help"),
        (["--at"], "--at needs a value", "see how: rota --help"),
        (["run"], "missing: NAME", "see how: rota run --help"),
        (["run", "a", "--wiat"], "unknown arguments: --wiat", "did you mean '--wait'?"),
        (["run", "a", "--priority", "x"], "argument --priority: invalid int value: 'x'", "see how: rota run --help"),
        (["run", "a", "suite"], "'suite' is not name=value", "such as suite=full"),
        (["run", "a", "=x"], "'=x' is not name=value", "such as suite=full"),
        (["--at", "ftp://x", "jobs"], "--at: 'ftp://x' is no address of an agent", "http://HOST:PORT, https://HOST, unix:/PATH/rota.sock, or a data folder"),
        (["emit", "a", "--data", "{"], "--data is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)", "such as '{\"version\": 7}'"),
        (["emit", "a", "--data", "[]"], "--data is no JSON object", "such as '{\"version\": 7}'"),
        (["emit", "a", "b=c", "--data", "{}"], "both --data and name=value", "give one of them"),
        (["artifacts", "get"], "artifacts: 'get' is none of list, get, put, promote and demote", "[list] BUILD | get BUILD [PATH…] | put FILE [NAME] | promote BUILD [GLOB…] --to NAME | demote NAME"),
        (["artifacts", "promote", "a#1"], "promote needs a name", "--to release-1.4"),
        (["artifacts", "promote", "a#1", "--to", "x", "--keep", "long"], "--keep 'long' is not a duration, write it as 30s, 20m, 1h30m or 2d", "such as --keep 365d"),
        (["artifacts", "put", "/nope"], "no build to keep the file for", "inside a build it is that one; else --build"),
        (["log", "a", "-f", "--limit", "3"], "--limit and --follow do not go together", "rota log -f … | head -c N"),
        (["login"], "missing: URL", "such as rota login http://build-1:7070"),
        (["login", "unix:/x"], "unix:/x needs no login: the kernel says who is calling", "name it with --at or --data"),
    ],
)  # fmt: skip
def test_bad_usage_is_named_and_hinted(
    capfd: pytest.CaptureFixture[str], words: list[str], error: str, hint: str
) -> None:
    assert plain(capfd, *words) == (2, "", f"error: {error}\n\nhint: {hint}\n")


def test_a_parameter_given_twice_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert plain(capfd, "run", "a", "x=1", "x=2").err == "error: x is given twice: '1' and '2'\n"


def test_nobody_there_is_status_three(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = plain(capfd, "jobs", "--data", str(tmp_path))
    assert said == (
        3,
        "",
        (
            f"error: no agent at unix:{tmp_path}/rota.sock (from --data): No such file or directory\n"
            "\nhint: start one: rota agent --daemon\n"
        ),
    )


@pytest.mark.parametrize(("status", "code"), [(400, 2), (401, 4), (403, 4), (404, 5), (409, 6)])
def test_an_error_of_the_agent_is_told_with_its_exit_status(
    rota: Rota, status: int, code: int
) -> None:
    rota.routes["GET /v1/jobs"] = problem(
        status, "so it is", hint="do this", problems=["jobs/a:1: bad"]
    )
    problems = "jobs/a:1: bad\n" if status == 400 else ""
    assert rota("jobs") == (code, "", f"error: so it is\n{problems}\nhint: do this\n")


def test_colours_are_told_before_or_after_the_command(rota: Rota) -> None:
    rota.routes["GET /v1/builds"] = answer([BUILD])
    assert "\x1b" not in rota("builds").out
    assert "\x1b" not in rota("--color", "always", "builds").out  # a pipe has no cells to colour
    assert rota("--color=always", "nope").err.startswith("\x1b[31merror\x1b[0m: ")
    assert rota("why", "x", "--color", "always").err.startswith("\x1b[31merror\x1b[0m: ")
    assert rota("--color", "blue", "jobs").err == "error: --color is auto, always or never\n"


# -- jobs ---------------------------------------------------------------------------------------


def test_jobs_are_listed_or_given_as_json(rota: Rota) -> None:
    body = [{"name": "web/test", "description": "unit tests", "paused": None, "last": None}]
    rota.routes["GET /v1/jobs"] = answer(body)
    assert rota("jobs") == (0, "web/test  -  -  unit tests\n", "")
    assert "match" not in rota.last.query
    assert rota("jobs", "web/*", "--json") == (0, json.dumps(body) + "\n", "")
    assert rota.last.query == {"match": "web/*"}


def test_a_job_is_added_only_if_there_is_none(rota: Rota, tmp_path: Path) -> None:
    script = tmp_path / "t.sh"
    script.write_bytes(b"echo hi\n")
    rota.routes["PUT /v1/jobs/web/test"] = answer(COMMITTED)
    assert rota("add", "web/test", str(script)) == (0, "web/test added in 0123456789\n", "")
    assert rota.last.body == b"echo hi\n"
    assert rota.last.headers["if-none-match"] == "*"
    rota("add", "web/test", str(script), "--force", "-m", "more & better")
    assert "if-none-match" not in rota.last.headers
    assert rota.last.query == {"message": "more & better"}


def test_adding_the_same_text_again_is_fine_another_one_is_not(rota: Rota, tmp_path: Path) -> None:
    script = tmp_path / "t.sh"
    script.write_bytes(b"echo hi\n")
    rota.routes["GET /v1/jobs/web/test"] = answer(JOB)
    unchanged = answer({**COMMITTED, "changed": False})
    rota.routes["PUT /v1/jobs/web/test"] = [problem(409, "there is one"), unchanged]
    assert rota("add", "web/test", str(script)) == (0, "web/test is so already\n", "")
    assert rota.last.headers["if-match"] == '"e1"'
    script.write_bytes(b"echo other\n")
    rota.routes["PUT /v1/jobs/web/test"] = problem(409, "there is one")
    assert rota("add", "web/test", str(script)) == (
        6,
        "",
        (
            "error: there is a job web/test already, with another script\n\n"
            "hint: replace it: rota edit web/test FILE, or add --force\n"
        ),
    )


def test_a_folder_in_the_way_is_told_as_it_is(rota: Rota, tmp_path: Path) -> None:
    (tmp_path / "t.sh").touch()
    rota.routes["PUT /v1/jobs/web"] = problem(409, "web is the folder of web/test")
    said = rota("add", "web", str(tmp_path / "t.sh"))
    assert (said.status, said.err) == (6, "error: web is the folder of web/test\n")


def test_a_script_that_cannot_be_read_is_named(rota: Rota) -> None:
    said = rota("add", "web/test", "/nope.sh")
    assert (said.status, said.err) == (
        2,
        "error: cannot read /nope.sh: No such file or directory\n",
    )


def test_a_job_or_a_build_is_shown(rota: Rota) -> None:
    rota.routes["GET /v1/jobs/web/test"] = answer(JOB)
    rota.routes["GET /v1/builds/web%2Ftest%237"] = answer(BUILD)
    rota.routes["GET /v1/builds/0123"] = answer(BUILD)
    assert (
        rota("show", "web/test").out
        == "job          web/test\ndescription  unit tests\netag         e1\n"
    )
    assert rota("show", "web/test", "--script").out == "echo hi\n"
    assert rota("show", "web/test#7").out.startswith("build      web/test#7 passed in 2m03s\n")
    assert json.loads(rota("show", "0123", "--json").out) == BUILD
    assert rota("show", "web/test#7", "--script").out == "echo hi\n"
    assert rota("show", "nope") == (5, "", "error: no /v1/jobs/nope\n")


def test_definitions_are_removed_paused_and_resumed(rota: Rota) -> None:
    rota.routes["DELETE /v1/jobs/web/test"] = answer(COMMITTED)
    rota.routes["POST /v1/jobs/web/test/pause"] = answer(COMMITTED)
    rota.routes["POST /v1/jobs/web/test/resume"] = answer({**COMMITTED, "changed": False})
    assert rota("rm", "web/test", "-m", "bye").out == "web/test removed in 0123456789\n"
    assert rota.last.query == {"message": "bye"}
    assert rota("pause", "web/test", "house", "moves").out == "web/test paused in 0123456789\n"
    assert rota.last.json == {"reason": "house moves"}
    assert rota("resume", "web/test").out == "web/test is so already\n"


def test_every_setting_a_template_explains_is_a_good_one() -> None:
    from rota.builders.catalogue import SCRIPTS, known
    from rota.cli.commands.check import problems_of

    for path in (known()[name] for name in SCRIPTS):
        text = path.read_text().replace("# # labels", "# labels").replace('", …', '"')
        for key in ("idle_timeout", "grace", "retry", "priority", "stdin", "artifacts", "env"):
            text = text.replace(f"# # {key} =", f"# {key} =")
        assert problems_of(path.name, text.encode()) == []


def test_check_knows_a_clones_calendars(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    script = tmp_path / "jobs" / "web" / "test"
    script.parent.mkdir(parents=True)
    on = '{ cron = "0 9 * * *", calendar = "office" }'
    script.write_text(f"#!/bin/sh\n# /// script\n# [tool.rota]\n# on = [{on}]\n# ///\n")
    assert plain(capfd, "check", str(script)) == (0, "", "")  # no clone that could know
    calendar = tmp_path / "calendars" / "ofice.toml"
    calendar.parent.mkdir()
    calendar.write_text('hours = { mon = "9-5" }\n')
    assert plain(capfd, "check", str(script), str(calendar)) == (
        2,
        (
            f"{script}:4:42: no calendar is called 'office' (did you mean 'ofice'?)\n"
            f"{calendar}:1:17: hours.mon has no such hours: '9-5' (09:00-17:00)\n"
        ),
        "",
    )


def test_a_check_prints_places_and_needs_no_agent(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.sh"
    bad.write_text('# /// script\n# [tool.rota]\n# timeot = "2m"\n# ///\n')
    good = tmp_path / "good.sh"
    good.write_text("echo hi\n")
    line = f"{bad}:3:3: unknown key timeot (did you mean 'timeout'?)\n"
    assert plain(capfd, "check", str(bad), str(good)) == (2, line, "")
    assert plain(capfd, "check", str(good)) == (0, "", "")
    found = json.loads(plain(capfd, "check", str(bad), "--json").out)
    assert found["ok"] is False
    assert found["problems"][0]["line"] == 3
    said = plain(capfd, "check", "/nope")
    assert (said.status, said.err) == (2, "error: cannot read /nope: No such file or directory\n")


# -- builds -------------------------------------------------------------------------------------


def test_a_build_is_requested_with_its_parameters_and_a_key(rota: Rota) -> None:
    rota.routes["POST /v1/jobs/web/test/builds"] = [None, answer(QUEUED, 201), answer(QUEUED, 201)]
    said = rota("run", "web/test", "suite=full", "query=a=b", "empty=")
    assert said == (0, "web/test#7 queued\n", "")
    assert rota.last.json == {"params": {"suite": "full", "query": "a=b", "empty": ""}}
    keys = [asked.headers["idempotency-key"] for asked in rota.agent.asked]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    rota("run", "web/test", "--priority", "-5", "--key", "release 1")
    assert rota.last.json == {"params": {}, "priority": -5}
    assert rota.last.headers["idempotency-key"] == "release 1"


def test_options_may_stand_between_parameters(rota: Rota) -> None:
    rota.routes["POST /v1/jobs/a/builds"] = answer(QUEUED, 201)
    assert rota("run", "a", "x=1", "--priority", "3", "y=2").status == 0
    assert rota.last.json == {"params": {"x": "1", "y": "2"}, "priority": 3}


@pytest.mark.parametrize(
    ("result", "code", "status"), [("passed", 0, 0), ("failed", 3, 1), ("cancelled", None, 1)]
)
def test_a_watched_build_decides_the_exit_status(
    rota: Rota, result: str, code: int | None, status: int
) -> None:
    build = {**BUILD, "result": result, "exit_code": code}
    running = {**build, "state": "running", "result": None, "finished_at": None}
    rota.routes["POST /v1/jobs/web/test/builds"] = answer(QUEUED, 201)
    rota.routes["GET /v1/builds/0123456789abcdef"] = [answer(running), answer(build)]
    said = rota("run", "web/test", "--wait")
    tail = ", exit code 3" if code == 3 else ""
    assert said == (status, "", f"web/test#7 queued\nweb/test#7 {result} in 2m03s{tail}\n")
    assert float(rota.last.query["wait"]) > 0
    rota.routes["GET /v1/builds/0123456789abcdef"] = answer(build)
    said = rota("run", "web/test", "--wait", "--json")
    assert (said.status, json.loads(said.out), said.err) == (status, build, "")


def test_a_followed_build_prints_its_log_and_then_its_result(rota: Rota) -> None:
    rota.routes["POST /v1/jobs/web/test/builds"] = answer(QUEUED, 201)
    rota.routes["GET /v1/builds/0123456789abcdef"] = answer(BUILD)
    rota.routes["GET /v1/builds/0123456789abcdef/log"] = Reply(b"\xffraw\x1b[2J\n", chunk=3)
    status = main(["--at", rota.agent.url, "run", "web/test", "-f"])
    captured = rota._capfd.readouterr()
    assert status == 0
    assert captured.err == "web/test#7 queued\nweb/test#7 passed in 2m03s\n"
    said = rota("run", "web/test", "-f", "--json")
    assert json.loads(said.out) == BUILD
    assert "raw" in said.err


def test_a_retry_is_followed_from_its_new_attempt(rota: Rota) -> None:
    again = {**BUILD, "attempt": 2, "log_bytes": 4}
    rota.routes["GET /v1/builds/web%2Ftest%237"] = answer(BUILD)
    rota.routes["POST /v1/builds/web%2Ftest%237/retry"] = answer({**QUEUED, "attempt": 1})
    rota.routes["GET /v1/builds/0123456789abcdef"] = answer(again)
    rota.routes["GET /v1/builds/0123456789abcdef/log"] = Reply(b"new\n", chunk=9)
    assert rota("retry", "web/test#7", "-f").out == "new\n"
    logs = [asked for asked in rota.agent.asked if asked.path.endswith("/log")]
    assert [asked.query["attempt"] for asked in logs] == ["2"]


def test_builds_are_listed_with_all_filters(rota: Rota) -> None:
    rota.routes["GET /v1/builds"] = answer([BUILD])
    line = "web/test#7  passed  2m03s  2026-01-02T03:06:04.000000Z  by anna\n"
    assert rota("builds", "web/test", "-n", "5", "--result", "passed", "--before", "9") == (
        0,
        line,
        "",
    )
    assert rota.last.query == {"job": "web/test", "limit": "5", "result": "passed", "before": "9"}
    assert rota("ps").out == line
    assert rota.last.query == {"state": "live", "limit": "1000"}


def test_a_log_goes_into_a_pipe_byte_for_byte(rota: Rota, tmp_path: Path) -> None:
    log = bytes(range(256)) * 1000
    rota.routes["GET /v1/builds/a/log"] = Reply(log, headers=(("Rota-Log-Offset", "0"),), chunk=999)
    command = [sys.executable, "-m", "rota", "--at", rota.agent.url, "log", "a", "--tail", "5"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == log
    assert rota.last.query == {"tail": "5"}


def test_whoever_reads_only_the_beginning_hears_no_complaint(rota: Rota) -> None:
    rota.routes["GET /v1/builds/a/log"] = Reply(b"x\n" * 500_000, chunk=10_000)
    script = '"$0" -m rota --at "$1" log a | head -n 1; exit ${PIPESTATUS[0]}'
    command = ["bash", "-c", script, sys.executable, rota.agent.url]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (141, b"x\n", b"")


def test_a_build_is_cancelled_with_a_reason(rota: Rota) -> None:
    running = {**BUILD, "state": "running", "result": None}
    rota.routes["POST /v1/builds/a/cancel"] = answer(running)
    assert rota("cancel", "a", "wrong", "branch").out == "web/test#7 running, is being ended\n"
    assert rota.last.json == {"why": "wrong branch"}


def test_why_is_one_sentence_and_then_the_details(rota: Rota) -> None:
    refused = [
        {"agent": "a1", "because": "has no docker"},
        {"agent": "long-name", "because": "is arm"},
    ]
    why = {
        "build": "a#1",
        "state": "queued",
        "text": "no agent satisfies 'docker'",
        "refused": refused,
    }
    rota.routes["GET /v1/builds/a/why"] = answer(why)
    assert rota("why", "a").out == (
        "a#1: no agent satisfies 'docker'\n  a1         has no docker\n  long-name  is arm\n"
    )


def test_text_is_sent_with_a_line_end_unless_not_wanted(
    rota: Rota, monkeypatch: pytest.MonkeyPatch
) -> None:
    rota.routes["POST /v1/builds/a/input"] = answer({"bytes": 4})
    rota("send", "a", "yes", "please")
    assert rota.last.json == {"text": "yes please\n"}
    rota("send", "a", "-n", "yes")
    assert rota.last.json == {"text": "yes"}
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * 40_000))
    assert rota("send", "a", "-", "--eof").status == 0
    sent = [asked.json for asked in rota.agent.asked[2:]]
    assert "".join(it.get("text", "") for it in sent) == "x" * 40_000
    assert sent[-1] == {"eof": True}


def test_artifacts_are_listed_fetched_and_kept(
    rota: Rota, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rota.routes["GET /v1/builds/a%231/artifacts"] = answer(
        [{"path": "d/x", "size": 3, "sha256": "0f"}]
    )
    whole = Reply(b"abc")
    rota.routes["GET /v1/builds/a%231/artifacts/d/x"] = [whole._replace(break_at=1), whole, whole]
    assert rota("artifacts", "a#1").out == "d/x  3  0f  -  -\n"
    assert rota("artifacts", "list", "a#1").out == "d/x  3  0f  -  -\n"
    assert rota("artifacts", "get", "a#1", "d/x").err == "x: 3 B\n"
    assert (tmp_path / "x").read_bytes() == b"abc"
    assert sorted(it.name for it in tmp_path.iterdir()) == ["rota.sock", "x"]
    assert rota("artifacts", "get", "a#1", "d/x", "-o", "-").out == "abc"
    rota.routes["PUT /v1/builds/me/artifacts/d/y"] = answer(
        {"path": "d/y", "size": 3, "sha256": "0f"}, 201
    )
    monkeypatch.setenv("ROTA_BUILD", "me")
    assert rota("artifacts", "put", "x", "d/y").status == 0
    assert rota.last.body == b"abc"
    said = rota("artifacts", "put", "nope")
    assert (said.status, said.err) == (2, "error: cannot read nope: no such file\n")
    missing = rota("artifacts", "get", "a#1", "nope")
    assert missing.status == 5
    assert not (tmp_path / "nope").exists()


# -- the cluster --------------------------------------------------------------------------------


def test_agents_are_drained_and_taken_back(rota: Rota) -> None:
    rota.routes["GET /v1/status"] = answer(STATUS)
    rota.routes["POST /v1/agents/a1/drain"] = answer({**AGENT, "draining": True})
    assert rota("drain") == (0, "a1 takes no more builds; 2 builds are still running\n", "")
    assert rota.last.json == {"off": False}
    rota.routes["POST /v1/agents/a2/drain"] = answer(AGENTS[1])
    assert rota("drain", "a2").out == "a2 takes no more builds and runs none\n"
    assert rota("drain", "a2", "--off").out == "a2 takes builds again\n"
    assert rota.last.json == {"off": True}
    assert json.loads(rota("drain", "a2", "--json").out) == AGENTS[1]


def test_a_drain_is_waited_for(rota: Rota, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rota.cli.commands.cluster.LOOK_S", 0.01)
    rota.routes["POST /v1/agents/a1/drain"] = answer({**AGENT, "running": 1})
    rota.routes["GET /v1/agents"] = [
        answer([{**AGENT, "running": 1}]),
        answer([{**AGENT, "running": 1}]),
        answer([{**AGENT, "running": 0}]),
    ]
    assert rota("drain", "a1", "--wait") == (
        0,
        "a1 takes no more builds and runs none\n",
        "a1 takes no more builds; 1 build is still running\n",
    )


def test_an_agent_leaves_and_is_waited_for(rota: Rota, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rota.cli.commands.cluster.LOOK_S", 0.01)
    rota.routes["POST /v1/agents/a2/leave"] = answer({**AGENT, "name": "a2", "running": 1})
    rota.routes["GET /v1/agents"] = [answer(AGENTS), answer(AGENTS[:1])]
    assert rota("leave", "a2") == (
        0,
        "a2 has left the cluster\n",
        "a2 leaves once it has finished: 1 build is still running\n",
    )


def test_an_agent_that_leaves_now_has_its_builds_cancelled(rota: Rota) -> None:
    rota.routes["POST /v1/agents/a2/leave"] = answer({**AGENT, "name": "a2"})
    rota.routes["GET /v1/agents"] = answer(AGENTS[:1])
    builds = [{**BUILD, "id": "1", "agent": "a1"}, {**BUILD, "id": "2", "agent": "a2"}]
    rota.routes["GET /v1/builds"] = answer(builds)
    rota.routes["POST /v1/builds/2/cancel"] = answer(BUILD)
    assert rota("leave", "a2", "--now") == (0, "a2 has left the cluster\n", "")
    cancels = [asked for asked in rota.agent.asked if asked.path.endswith("/cancel")]
    assert [asked.json for asked in cancels] == [{"why": "a2 leaves the cluster"}]


def test_the_agent_that_is_asked_leaves_and_then_answers_no_more(rota: Rota) -> None:
    rota.routes["GET /v1/status"] = answer(STATUS)
    rota.routes["POST /v1/agents/a1/leave"] = answer({**AGENT, "running": 0})

    def gone(_: Asked) -> Reply:
        threading.Thread(target=rota.agent.die).start()
        return answer([AGENT])

    rota.routes["GET /v1/agents"] = gone
    assert rota("leave").out == "a1 has left the cluster\n"


def test_labels_are_changed_and_printed(rota: Rota) -> None:
    rota.routes["GET /v1/status"] = answer(STATUS)
    rota.routes["GET /v1/agents"] = answer(AGENTS)
    rota.routes["POST /v1/agents/a1/labels"] = answer(
        {**AGENT, "labels": {"java": "21", "gpu": ""}}
    )
    assert rota("label", "java=21", "gpu", "-docker").out == "a1: java=21, gpu\n"
    assert rota.last.json == {"labels": {"java": "21", "gpu": "", "docker": None}}
    assert rota("label", "a1", "-d", "--json").status == 0
    assert rota.last.json == {"labels": {"d": None}}
    assert rota("label", "gpu").status == 0
    assert rota.last.json == {"labels": {"gpu": ""}}
    assert rota("label", "a3").out == "gpu\njava=17\n"
    assert rota("label").out == "linux\n"
    assert json.loads(rota("label", "a3", "--json").out) == {"gpu": "", "java": "17"}


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (["label", "=x"], "'=x' is no label", "name=value or name; -name takes it away"),
        (["label", "-x=1"], "'-x=1' is no label", "name=value or name; -name takes it away"),
        (["label", "x=1", "-x"], "x is given twice", ""),
        (["label", "x=1", "--zzzz"], "unknown arguments: --zzzz", "see how: rota label --help"),
        (["token", "mint"], "token: 'mint' is none of create, list and revoke", "[list] | create [--for NAME] | revoke ID"),
        (["token", "revoke"], "token: 'revoke' is none of create, list and revoke", "[list] | create [--for NAME] | revoke ID"),
        (["token", "create", "--role", "viewer"], "--role is for tokens of users, and this one is for a machine", "say whose: rota token create --for NAME"),
        (["token", "create", "--for", "me", "--uses", "2"], "--uses is for the tokens of machines; a user's is used as often as it holds", ""),
        (["token", "create", "--expires", "10"], "--expires: '10' has no unit, write 10s or 10m", ""),
        (["agent", "--invite"], "--invite needs --daemon", "or, once it runs: rota token create"),
        (["agent", "--install", "--join", "rota1.x"], "--install is for an agent that is a member already", "first: rota join TOKEN, and rota stop; then: rota agent --install"),
        (["agent", "--join", "", "--daemon"], "no join token", "make one on a member: rota token create"),
        (["agent", "--join", "x", "--from-clone", "d", "--daemon"], "--join and --from-clone do not go together", "who joins gets the store from the cluster; a clone begins another one"),
        (["join"], "missing: TOKEN", "see how: rota join --help"),
    ],
)  # fmt: skip
def test_bad_usage_around_the_cluster_is_named_and_hinted(
    rota: Rota,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    error: str,
    hint: str,
) -> None:
    monkeypatch.setenv("ROTA_DATA", str(tmp_path / "none"))
    rota.routes["GET /v1/status"] = answer(STATUS)
    rota.routes["GET /v1/agents"] = answer(AGENTS)
    tail = f"\nhint: {hint}\n" if hint else ""
    assert rota(*words) == (2, "", f"error: {error}\n{tail}")


def test_an_unknown_agent_is_named(rota: Rota) -> None:
    said = problem(404, "no agent 'a9'", hint="did you mean 'a1'?")
    rota.routes["POST /v1/agents/a9/drain"] = said
    assert rota("drain", "a9") == (5, "", "error: no agent 'a9'\n\nhint: did you mean 'a1'?\n")


def test_join_tokens_are_made_listed_and_revoked(rota: Rota) -> None:
    token = {
        "id": "3f2a",
        "expires_at": "2026-01-02T04:04:05.000000Z",
        "uses": 0,
        "token": "rota1.x",
    }
    rota.routes["POST /v1/tokens"] = answer(token, 201)
    assert rota("token", "create") == (0, "rota1.x\n", "")
    assert rota.last.json == {}
    rota("token", "create", "--expires", "1h30m", "--uses", "2")
    assert rota.last.json == {"expires_s": 5400.0, "uses": 2}
    rota.routes["GET /v1/access/tokens"] = answer([])
    rota.routes["GET /v1/tokens"] = answer(
        [{**token, "token": ""}, {**token, "uses": 1}, {**token, "uses": 3}]
    )
    assert rota("token").out == (
        "3f2a  a machine  joins  until 2026-01-02T04:04:05.000000Z  any number of uses  -\n"
        "3f2a  a machine  joins  until 2026-01-02T04:04:05.000000Z  1 use left  -\n"
        "3f2a  a machine  joins  until 2026-01-02T04:04:05.000000Z  3 uses left  -\n"
    )
    rota.routes["DELETE /v1/access/tokens/3f2a"] = problem(404, "no token '3f2a'")
    rota.routes["DELETE /v1/tokens/3f2a"] = answer({**token, "token": ""})
    assert rota("token", "revoke", "3f2a").out == "3f2a admits nobody any more\n"


def test_tokens_of_users_are_made_listed_and_revoked(rota: Rota) -> None:
    token: dict[str, object] = {
        "id": "3f2a901b77", "user": "ann", "role": "", "jobs": [], "made_at": "2026-01-02T03:04:05Z",
        "by": "root", "expires_at": "2026-04-02T03:04:05Z", "used_at": None, "revoked_at": None,
        "revoked_by": "", "note": "", "login": False, "token": "rota_x",
    }  # fmt: skip
    rota.routes["POST /v1/access/tokens"] = answer(token, 201)
    assert rota("token", "create", "--for", "me") == (
        0,
        "rota_x\n",
        "3f2a901b77 is ann's, all that the user may, until 2026-04-02T03:04:05Z; it is not shown again:\n",
    )
    assert rota.last.json == {"user": "@me"}
    rota("token", "create", "--for", "ann", "--role", "builder", "--jobs", "web/**, db", "--expires",
         "30d", "--note", "deploys")  # fmt: skip
    assert rota.last.json == {
        "user": "ann", "role": "builder", "jobs": ["web/**", "db"], "expires_s": 30 * 86400.0,
        "note": "deploys",
    }  # fmt: skip
    rota("token", "create", "--for", "ann", "--expires", "never")
    assert rota.last.json == {"user": "ann", "expires_s": 0}
    shown = {**token, "token": "", "role": "builder", "jobs": ["web/**"], "note": "deploys"}
    rota.routes["GET /v1/access/tokens"] = answer(
        [shown, {**token, "expires_at": None, "login": True}]
    )
    rota.routes["GET /v1/tokens"] = problem(403, "ann is a builder; `invitations` needs an admin")
    assert rota("token").out == (
        "3f2a901b77  ann  builder at most on web/**  until 2026-04-02T03:04:05Z  not used  deploys\n"
        "3f2a901b77  ann  all that the user may  without end  not used  login\n"
    )
    rota.routes["DELETE /v1/access/tokens/3f2a901b77"] = answer({**token, "token": ""})
    assert rota("token", "revoke", "3f2a901b77").out == "3f2a901b77 opens nothing any more\n"
    gone = problem(404, "no token 'x'", hint="see which there are: rota token list")
    rota.routes["DELETE /v1/access/tokens/x"] = gone
    rota.routes["DELETE /v1/tokens/x"] = problem(404, "this agent keeps no join token 'x'")
    assert rota("token", "revoke", "x") == (
        5,
        "",
        "error: no token 'x'\n\nhint: see which there are: rota token list\n",
    )


def test_an_agent_is_forgotten(rota: Rota) -> None:
    rota.routes["DELETE /v1/agents/a3"] = answer(AGENTS[2])
    assert rota("agents", "--forget", "a3").out == "a3 is no member any more\n"


def test_an_agent_whose_machine_was_stolen_is_revoked_and_the_rest_is_said(rota: Rota) -> None:
    done = {
        "agent": AGENTS[1], "given_up": ["a#1", "b#2"], "secrets": [{"name": "T"}],
        "recipient": "age1x", "todo": ["it knew these values, make new ones where they are from: T"],
    }  # fmt: skip
    rota.routes["POST /v1/agents/a2/revoke"] = answer(done)
    assert rota("agents", "--revoke", "a2").out == (
        "a2 is no member any more, and its key opens nothing\n"
        "given up: a#1, b#2\n"
        "secrets are encrypted for a new key: 1\n"
        "to do: it knew these values, make new ones where they are from: T\n"
    )
    assert json.loads(rota("agents", "--revoke", "a2", "--json").out) == done


def test_agents_get_other_keys_one_by_one(rota: Rota) -> None:
    rota.routes["GET /v1/agents"] = answer([AGENTS[0], AGENTS[1]])
    for one in AGENTS[:2]:
        key = f"POST /v1/agents/{one['name']}/rotate"
        rota.routes[key] = answer({**one, "pin": one["name"] * 32})
    assert rota("agents", "--rotate", "a1").out == "a1 has another key: a1a1a1a1a1a1a1a1…\n"
    assert rota("agents", "--rotate-all").out == (
        "a1 has another key: a1a1a1a1a1a1a1a1…\na2 has another key: a2a2a2a2a2a2a2a2…\n"
    )


DIAGNOSIS = {
    "agents": ["a1", "a2"],
    "findings": [
        {"check": "quorum", "agent": "", "what": "no quorum", "hint": "start them", "severity": "trouble"},
        {"check": "git", "agent": "a2", "what": "many packs", "hint": "wait", "severity": "warning"},
    ],
    "checks": [{"name": "git", "looks_at": "the store"}], "now": "2026-01-02T03:04:05.000000Z",
}  # fmt: skip


def test_a_doctor_says_what_is_wrong_and_what_to_do(rota: Rota) -> None:
    rota.routes["GET /v1/doctor"] = answer(DIAGNOSIS)
    assert rota("doctor") == (
        1,
        "trouble  quorum  no quorum\n    start them\nwarning  git  a2: many packs\n    wait\n",
        "2 found by 1 checks on 2 agents\n",
    )
    assert rota("doctor", "--json")[0] == 1
    assert rota("doctor", "--checks").out == "git  the store\n"
    rota.routes["GET /v1/doctor"] = answer({**DIAGNOSIS, "findings": [], "agents": ["a1"]})
    assert rota("doctor") == (0, "nothing is wrong: 1 checks on 1 agent\n", "")


def test_a_doctor_without_an_agent_looks_at_its_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--data", str(tmp_path)]) == 1
    out, err = capfd.readouterr()
    assert f"no agent was ever started in {tmp_path}\n    rota agent --data" in out
    assert f"looking at its folder {tmp_path}" in err
    assert main(["doctor", "--data", str(tmp_path), "--json"]) == 1
    assert json.loads(capfd.readouterr()[0])["cold"] == str(tmp_path)


def test_a_recovery_lists_what_may_be_missing(rota: Rota) -> None:
    done = {
        "voters": ["a1"], "removed": ["a2", "a3"], "seq": 41,
        "last_event_at": "2026-01-02T03:04:05.000000Z", "may_miss": ["events after 41", "the end of a#1"],
    }  # fmt: skip
    rota.routes["POST /v1/recover"] = answer(done)
    assert rota("recover").out == (
        "voters now: a1\n"
        "removed: a2, a3\n"
        "last event: 41, 2026-01-02T03:04:05.000000Z\n"
        "may be missing: events after 41\n"
        "may be missing: the end of a#1\n"
    )
    assert json.loads(rota("recover", "--json").out) == done


def test_a_recovery_is_asked_for_twice_at_a_terminal(
    rota: Rota, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("no\n"))
    said = rota("recover")
    assert (said.status, rota.agent.asked) == (2, [])
    assert said.err.startswith("This re-forms the cluster from the voters that are left.")
    assert said.err.endswith("nothing was done\n")


class Terminal(io.StringIO):
    """Standard input that is a person's."""

    def isatty(self) -> bool:
        return True


def test_agents_fit_eighty_columns(rota: Rota, monkeypatch: pytest.MonkeyPatch) -> None:
    from rota.cli.commands import cluster
    from rota.cli.render import Look, table

    look = Look(width=80, now=datetime(2026, 1, 2, 3, 9, 5, tzinfo=UTC))
    wide = {**AGENT, "labels": {f"label{n}": "value" for n in range(20)}, "name": "build-machine-7"}
    lines = table([cluster._row(one, look) for one in [*AGENTS, wide]], look, shrink=(5, 6))
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].startswith("a1               up        leader  voter  2/4  linux")
    assert lines[0].endswith("5 min ago")
    assert cluster._row(AGENT, look._replace(width=100))[4].text == "██░░ 2/4"


# -- the rest -----------------------------------------------------------------------------------


def test_events_are_lines_or_one_json_a_line(rota: Rota) -> None:
    events: list[dict[str, Any]] = [
        {"seq": seq, "kind": "custom", "type": "a.b", "data": {}} for seq in (1, 2)
    ]
    rota.routes["GET /v1/events"] = answer(events)
    assert [json.loads(line) for line in rota("events", "--json").out.splitlines()] == events
    rota("events", "--after", "0", "--kind", "build.*", "-n", "9")
    assert rota.last.query == {"after": "0", "kind": "build.*", "limit": "9"}


def test_events_are_followed_from_now_on(rota: Rota) -> None:
    data = json.dumps({"seq": 42, "kind": "custom", "type": "a"})
    stream = f": hi\n\nid: 42\nevent: custom\ndata: {data}\n\n".encode()
    rota.routes["GET /v1/status"] = answer(STATUS)
    rota.routes["GET /v1/events"] = Reply(stream, chunk=5)
    assert rota("events", "-f", "-n", "1", "--json").out == data + "\n"
    assert rota.last.headers["last-event-id"] == "41"


def test_an_event_is_emitted(rota: Rota) -> None:
    rota.routes["POST /v1/events"] = answer({"seq": 9}, 201)
    assert rota("emit", "deploy.done", "version=1=2") == (0, "", "")
    assert rota.last.json == {"type": "deploy.done", "data": {"version": "1=2"}}
    rota("emit", "deploy.done", "--data", '{"n": [1]}')
    assert rota.last.json == {"type": "deploy.done", "data": {"n": [1]}}


def test_a_status_is_told(rota: Rota) -> None:
    rota.routes["GET /v1/status"] = answer(STATUS)
    rota.routes["GET /v1/agents"] = answer(AGENTS)
    assert rota("status").out.startswith("agent       a1, rota 0.1.0, pid 4242\n")
    assert rota("agents").out == (
        "a1  up  leader  voter  2/4  linux  http://127.0.0.1:7070  2026-01-02T03:04:05.000000Z\n"
        "a2  draining  -  -  0/2  -  http://127.0.0.1:7072  2026-01-02T03:04:05.000000Z\n"
        "a3  lost  -  voter  1/2  gpu, java=17  -  2026-01-02T03:04:05.000000Z\n"
    )


def test_a_login_is_saved_for_its_owner_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def respond(asked: Asked) -> Reply:
        if asked.headers.get("authorization") != "Bearer sesame":
            return problem(401, "the token is not known here")
        return answer(STATUS)

    path = tmp_path / "config" / "rota" / "login.json"
    with fake_agent(respond) as agent:
        monkeypatch.setattr("sys.stdin", io.StringIO("wrong\n"))
        assert plain(capfd, "login", agent.url) == (
            4,
            "",
            "error: the token is not known here\n\nhint: say who you are: rota login URL, or $ROTA_TOKEN\n",
        )
        assert not path.exists()
        monkeypatch.setattr("sys.stdin", io.StringIO("sesame\n"))
        assert plain(capfd, "login", agent.url + "/").out == f"logged in to a1 at {agent.url}\n"
        assert path.stat().st_mode & 0o777 == 0o600
        assert plain(capfd, "status").status == 0
        (tmp_path / "token").write_text("two words\nx")
        said = plain(capfd, "login", agent.url, "--token-file", str(tmp_path / "token"))
        assert said.err.startswith("error: that is no token\n\nhint: ")
    assert plain(capfd, "login", "--forget").out == "no login is saved\n"
    assert not path.exists()


def test_git_is_told_the_token_for_the_agent_alone(
    rota: Rota, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rota.routes["GET /v1/status"] = answer(STATUS)
    (tmp_path / "token").write_text("sesame\n")
    question = "protocol=http\nhost=127.0.0.1:7070\npath=store.git\n\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(question))
    assert rota("git-credential", "get").out == "username=rota\npassword=sesame\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(question.replace("127.0.0.1", "evil")))
    assert rota("git-credential", "get") == (0, "", "")
    monkeypatch.setattr("sys.stdin", io.StringIO(question))
    assert rota("git-credential", "store") == (0, "", "")


def test_what_an_agent_says_cannot_drive_the_terminal(rota: Rota) -> None:
    rota.routes["GET /v1/jobs"] = problem(400, "a\x1b[2Jb", hint="c\x07", problems=["d\x1b]0;e"])
    assert rota("jobs").err == "error: a\\x1b[2Jb\nd\\x1b]0;e\n\nhint: c\\x07\n"


def test_a_job_is_run_here_and_now(capfd: pytest.CaptureFixture[str]) -> None:
    said = plain(capfd, "exec", "/nope.sh")
    assert (said.status, said.err) == (2, "error: cannot read /nope.sh: no such file\n")


CLOUD = {
    "name": "aws", "state": "failing", "provider": "ec2", "size": "t3.micro", "image": "ami-1",
    "region": "eu-central-1", "labels": {}, "spot": True, "slots": 2, "min": 0, "max": 10,
    "launched": 4, "failed": 1, "machine_s": 99.0, "error": "VcpuLimitExceeded: no more",
    "failed_at": "2026-01-02T03:04:05.000000Z", "next_try_at": "2026-01-02T03:10:05.000000Z",
    "machines": [
        {
            "name": "aws-1", "cloud": "aws", "state": "joined", "node": "i-1", "slots": 2, "running": 1,
            "since": "2026-01-02T03:04:05.000000Z", "wanted_at": "2026-01-02T03:04:05.000000Z",
            "launched_at": None, "joined_at": None, "why": "web/test#7", "agent_state": "up", "age_s": 99.0,
        },
    ],
}  # fmt: skip


def test_clouds_are_shown_with_their_machines_and_errors(rota: Rota) -> None:
    lost = {**CLOUD["machines"][0], "name": "aws-2", "agent_state": "lost"}  # type: ignore[index]
    both = {**CLOUD, "machines": [*CLOUD["machines"], lost]}  # type: ignore[misc]
    rota.routes["GET /v1/clouds"] = answer([both])
    assert rota("clouds").out == (
        "aws  failing  2 of max 10  ec2 t3.micro eu-central-1, spot  launched 4, failed 1\n"
        "  VcpuLimitExceeded: no more; tried again 2026-01-02T03:10:05.000000Z\n"
        "  aws-1  joined  2026-01-02T03:04:05.000000Z  1/2  age 1m39s  web/test#7  i-1\n"
        "  aws-2  joined, lost  2026-01-02T03:04:05.000000Z  1/2  age 1m39s  web/test#7  i-1\n"
    )
    assert json.loads(rota("clouds", "--json").out) == [both]


def test_clouds_are_paused_and_machines_ended_by_hand(rota: Rota) -> None:
    rota.routes["POST /v1/clouds/aws/pause"] = answer(CLOUD)
    rota.routes["POST /v1/machines/aws-1/end"] = answer(CLOUD["machines"][0])  # type: ignore[index]
    assert rota("clouds", "--pause", "aws").out == "aws launches no more machines\n"
    assert rota("clouds", "--resume", "aws").out == "aws launches machines again\n"
    assert rota.last.json == {"off": True}
    assert rota("clouds", "--drain", "aws-1").out == (
        "aws-1 takes no more builds, and is ended then; it runs 1\n"
    )
    assert rota("clouds", "--terminate", "aws-1").out == "aws-1 is being ended; it runs 1\n"
    assert rota.last.json == {"now": True}
    both = rota("clouds", "--pause", "aws", "--drain", "aws-1")
    assert both.status == 2
    assert both.err.startswith("error: one thing at a time: --pause, --resume, --drain or")


def test_who_comes_and_goes_is_marked(rota: Rota) -> None:
    rota.routes["GET /v1/agents"] = answer([{**AGENTS[1], "ephemeral": True, "draining": False}])
    assert rota("agents").out.startswith("a2  up  -  ephemeral  0/2  ")
