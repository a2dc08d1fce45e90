"""Editing a job: what a person wrote is stored, or it is kept."""

import json
import os
import pty
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.fake_agent import Asked, FakeAgent, Reply, answer, fake_agent, problem

from rota.cli.commands.edit import suffix_of

REFUSAL = problem(400, "web/test was not taken", problems=["jobs/web/test:2:3: unknown key x"])


class Store:
    """A job that accepts what its ETag allows, and refuses scripts with the word ``bad``."""

    def __init__(self) -> None:
        self.script = "#!/bin/bash\necho one\n"
        self.etag = 1

    def respond(self, asked: Asked) -> Reply:
        if asked.method == "GET":
            return answer({"name": "web/test", "script": self.script, "etag": str(self.etag)})
        if asked.headers.get("if-match") != f'"{self.etag}"':
            return problem(412, "web/test was changed meanwhile")
        if b"bad" in asked.body:
            return REFUSAL
        self.script, self.etag = asked.body.decode(), self.etag + 1
        return answer(
            {"job": "web/test", "commit": "c" * 40, "etag": str(self.etag), "changed": True}
        )


class Editing:
    """Runs ``rota edit`` with editors that are scripts."""

    def __init__(self, folder: Path, agent: FakeAgent) -> None:
        self.folder = folder
        self.agent = agent
        self.drafts = folder / "drafts"
        self.drafts.mkdir()

    def editor(self, *texts: str) -> str:
        """An editor that writes these texts, one each time it is called."""
        for number, text in enumerate(texts):
            (self.folder / f"text{number}").write_text(text)
        path = self.folder / "editor"
        path.write_text(
            f"#!/bin/sh\ncd {self.folder}\nn=$(cat count 2>/dev/null || echo 0)\n"
            'echo $((n + 1)) >count\necho "$1" >>names\ncat text$n >"$1"\n'
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    def command(self, *words: str) -> tuple[list[str], dict[str, str]]:
        env = {key: value for key, value in os.environ.items() if not key.startswith("ROTA_")}
        env |= {"TMPDIR": str(self.drafts), "EDITOR": str(self.folder / "editor")}
        env.pop("VISUAL", None)
        return [
            sys.executable,
            "-m",
            "rota",
            "--at",
            self.agent.url,
            "edit",
            "web/test",
            *words,
        ], env

    def run(self, *words: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        command, env = self.command(*words)
        return subprocess.run(
            command, env=env | more, input=stdin, capture_output=True, text=True, check=False
        )

    def type(self, keys: str) -> tuple[int, str]:
        """Run at a terminal, and type these keys when asked."""
        command, env = self.command()
        ours, theirs = pty.openpty()
        process = subprocess.Popen(command, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        os.write(ours, keys.encode())
        said = b""
        try:
            while piece := os.read(ours, 4096):
                said += piece
        except OSError:  # EIO: the last process with the terminal has gone
            pass
        os.close(ours)
        return process.wait(30), said.decode()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def editing(store: Store, tmp_path: Path) -> Iterator[Editing]:
    with fake_agent(store.respond, tmp_path / "rota.sock") as agent:
        yield Editing(tmp_path, agent)


def test_what_the_editor_saved_is_stored(editing: Editing, store: Store) -> None:
    editing.editor("echo two\n")
    done = editing.run()
    assert (done.returncode, done.stdout) == (0, "web/test changed in cccccccccc\n")
    assert store.script == "echo two\n"
    assert (editing.folder / "names").read_text().strip().endswith(".sh")
    assert list(editing.drafts.iterdir()) == []


def test_visual_is_stronger_and_may_have_arguments(editing: Editing, store: Store) -> None:
    editor = editing.editor("echo two\n")
    done = editing.run(VISUAL=f"sh {editor}", EDITOR="false")
    assert done.returncode == 0
    assert store.script == "echo two\n"


def test_nothing_is_stored_when_nothing_was_changed(editing: Editing, store: Store) -> None:
    done = editing.run(EDITOR="true")
    assert (done.returncode, done.stdout) == (0, "web/test is so already\n")
    assert [asked.method for asked in editing.agent.asked] == ["GET"]
    assert list(editing.drafts.iterdir()) == []


@pytest.mark.parametrize(
    ("editor", "error"),
    [
        ("false", "error: the editor 'false' ended with status 1; nothing was changed"),
        ("/nope/vi", "error: cannot start the editor '/nope/vi': No such file or directory"),
    ],
)
def test_an_editor_that_fails_changes_nothing(editing: Editing, editor: str, error: str) -> None:
    done = editing.run(EDITOR=editor)
    assert done.returncode == 2
    assert done.stderr.startswith(error)
    assert len(editing.agent.asked) == 1
    assert list(editing.drafts.iterdir()) == []


def test_a_refused_text_is_kept_in_a_file(editing: Editing, store: Store) -> None:
    editing.editor("bad\n")
    done = editing.run()
    (draft,) = editing.drafts.iterdir()
    assert done.returncode == 2
    assert done.stderr == (
        "error: web/test was not taken\njobs/web/test:2:3: unknown key x\n"
        f"\nhint: your text is in {draft}\n"
    )
    assert draft.read_text() == "bad\n"


def test_a_person_is_asked_to_edit_again(editing: Editing, store: Store) -> None:
    editing.editor("bad\n", "good\n")
    status, said = editing.type("\n")
    assert status == 0
    assert "unknown key x" in said
    assert "edit again? [Y/n]" in said
    assert store.script == "good\n"
    assert list(editing.drafts.iterdir()) == []


def test_a_person_may_give_up_and_keep_the_text(editing: Editing, store: Store) -> None:
    editing.editor("bad\n")
    status, said = editing.type("n\n")
    (draft,) = editing.drafts.iterdir()
    assert status == 2
    assert f"your text is in {draft}" in said
    assert draft.read_text() == "bad\n"


def test_a_lost_race_keeps_both_texts(editing: Editing, store: Store) -> None:
    editing.editor("mine\n", "merged\n")
    editor = editing.folder / "editor"
    respond = store.respond

    def racing(asked: Asked) -> Reply:
        if asked.method == "PUT" and asked.body == b"mine\n":
            store.script, store.etag = "theirs\n", store.etag + 1
        return respond(asked)

    editing.agent.respond = racing
    assert editor.exists()
    status, said = editing.type("\n")
    assert status == 0
    assert "changed meanwhile" in said
    assert store.script == "merged\n"
    (theirs,) = editing.drafts.iterdir()
    assert theirs.name.endswith(".theirs.sh")
    assert theirs.read_text() == "theirs\n"


def test_a_file_replaces_the_script_without_an_editor(editing: Editing, store: Store) -> None:
    done = editing.run("-", "--json", stdin="echo piped\n", EDITOR="false")
    assert json.loads(done.stdout)["etag"] == "2"
    assert store.script == "echo piped\n"


@pytest.mark.parametrize(
    ("job", "script", "suffix"),
    [
        ("a", "echo", ".sh"),
        ("a", "#!/usr/bin/env -S python3.11 -u\n", ".py"),
        ("a", "#!/usr/bin/env bash\n", ".sh"),
        ("a", "#!/opt/thing\n", ".txt"),
        ("a", "#!\n", ".sh"),
        ("web/a.pl", "#!/bin/sh\n", ".pl"),
    ],
)
def test_the_draft_has_the_suffix_of_its_language(job: str, script: str, suffix: str) -> None:
    assert suffix_of(job, script) == suffix
