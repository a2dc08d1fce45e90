"""Completion: candidates, and the scripts in the shells themselves."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.fake_agent import BUILD, Asked, FakeAgent, Reply, answer, fake_agent

from rota.cli.candidates import candidates
from rota.cli.commands.completion import SCRIPTS, complete_words
from rota.cli.table import COMMANDS

PARAMS = {"suite": {"choices": ["fast", "full"], "description": "which\ntests"}, "who": {}}


def respond(asked: Asked) -> Reply:
    if asked.path == "/v1/jobs":
        return answer(
            [{"name": name, "description": f"job {name}"} for name in ("web/test", "deploy")]
        )
    if asked.path == "/v1/jobs/web/test":
        return answer({"params": PARAMS})
    if asked.path == "/v1/agents":
        return answer([{"name": "a1", "state": "up"}, {"name": "b2", "state": "lost"}])
    if asked.path == "/v1/access/tokens":
        return answer([{"id": "3f2a901b77", "user": "ann", "note": ""}])
    if asked.path == "/v1/tokens":
        return answer([{"id": "3f2a", "expires_at": "2026-01-02T03:04:05Z"}])
    return answer([BUILD, {**BUILD, "number": 8, "result": None, "state": "running"}])


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    with fake_agent(respond, tmp_path / "rota.sock") as agent:
        yield agent


def found(agent: FakeAgent, *words: str) -> list[str]:
    return [value for value, _ in candidates(list(words), {"at": agent.url})]


def test_agents_and_join_tokens_are_completed(agent: FakeAgent) -> None:
    assert found(agent, "drain", "") == ["a1", "b2"]
    assert found(agent, "leave", "b") == ["b2"]
    assert found(agent, "label", "a") == ["a1"]
    assert found(agent, "agents", "--forget", "") == ["a1", "b2"]
    assert found(agent, "token", "") == ["create", "list", "revoke"]
    assert found(agent, "token", "revoke", "") == ["3f2a901b77", "3f2a"]
    assert found(agent, "token", "create", "--u") == ["--uses"]


def test_commands_are_completed_but_the_hidden(agent: FakeAgent) -> None:
    assert found(agent, "re") == [
        "reload",
        "recover",
        "restore",
        "resume",
        "retry",
        "reject",
        "repl",
    ]
    assert set(found(agent, "")) == {it.name for it in COMMANDS if not it.is_hidden}
    assert found(agent, "--c") == ["--color"]
    assert agent.asked == []


def test_options_are_completed_with_the_commands_own_first(agent: FakeAgent) -> None:
    assert found(agent, "run", "x", "--") == [
        "--wait", "--follow", "--priority", "--key", "--only", "--keep-workspace", "--keep-on-failure",
        "--json", "--at", "--color", "--data",
    ]  # fmt: skip
    assert found(agent, "agent", "--re") == []
    assert found(agent, "completion", "") == ["bash", "zsh", "fish"]
    assert found(agent, "jobs", "--color", "a") == ["auto", "always"]
    assert found(agent, "builds", "--state", "r") == []


def test_jobs_builds_and_parameters_are_completed(agent: FakeAgent) -> None:
    assert found(agent, "run", "w") == ["web/test"]
    assert found(agent, "run", "web/test", "") == ["suite=", "who="]
    assert found(agent, "run", "web/test", "--wait", "suite=f") == ["suite=fast", "suite=full"]
    assert found(agent, "log", "web/test#") == ["web/test#7", "web/test#8"]
    assert agent.asked[-1].query["job"] == "web/test"
    assert found(agent, "show", "web") == ["web/test", "web/test#7", "web/test#8"]
    assert list(candidates(["log", ""], {"at": agent.url})) == [
        ("web/test#7", "passed"),
        ("web/test#8", "running"),
    ]


def test_files_are_left_to_the_shell(agent: FakeAgent) -> None:
    assert found(agent, "add", "x", "scr") == [":file"]
    assert found(agent, "artifacts", "put", "") == [":file"]
    assert found(agent, "agent", "--data", "") == [":file"]


def test_the_agent_that_the_line_names_is_asked(agent: FakeAgent) -> None:
    words = ["--at", agent.url, "run", "de"]
    assert [value for value, _ in candidates(words, {})] == ["deploy"]
    words = ["run", f"--at={agent.url}", "de"]
    assert [value for value, _ in candidates(["run", "--at", agent.url, "de"], {})] == ["deploy"]


def test_nobody_hears_of_an_agent_that_is_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complete_words(["run", ""], {"data": str(tmp_path)}) == 0
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def path(tmp_path: Path, agent: FakeAgent) -> dict[str, str]:
    """An environment whose ``rota`` is this one, and whose agent is the fake one."""
    program = tmp_path / "bin" / "rota"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m rota "$@"\n')
    program.chmod(0o755)
    env = {key: value for key, value in os.environ.items() if not key.startswith("ROTA_")}
    return env | {"PATH": f"{program.parent}:{env['PATH']}", "ROTA_SOCKET": str(agent.path)}


BASH_TEST = """
eval "$(rota completion bash)"
compopt() { options="$*"; }
for line in "$@"; do
    COMP_LINE=$line COMP_POINT=${#line} options=
    read -ra COMP_WORDS <<<"$line"
    [[ $line == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _rota
    echo "${COMPREPLY[*]}|$options"
done
"""


def test_bash_completes(path: dict[str, str]) -> None:
    expected = {
        "rota ru": "run|",
        "rota run w": "web/test|",
        "rota run web/test su": "suite=|-o nospace",
        "rota run web/test suite=fu": "full|",
        "rota log 'web/test#": "web/test#7 web/test#8|",
        "rota add x ": "|-o default",
    }
    command = ["bash", "--norc", "-c", BASH_TEST, "bash", *expected]
    done = subprocess.run(command, env=path, capture_output=True, text=True, check=True)
    assert dict(zip(expected, done.stdout.splitlines(), strict=True)) == expected
    assert done.stderr == ""


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes(path: dict[str, str]) -> None:
    script = "rota completion fish | source; complete -C 'rota run w'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script], env=path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "web/test\tjob web/test\n"


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_takes_the_script() -> None:
    subprocess.run(["zsh", "-nf", "-c", SCRIPTS["zsh"]], check=True)
