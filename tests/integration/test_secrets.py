"""Secrets with a real daemon: set, given, hidden, and taken away again, whatever is killed."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.daemon import Daemon, daemon, wait_until

pytestmark = [pytest.mark.nats, pytest.mark.slow]

TOKEN = "tok3n-" + "Zq8/x+W2'\"m$%" + "7Yk1"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAE\nQyNTUxOQAAACBuL3W6tV0cKk9Xh1yq\n-----END OPENSSH PRIVATE KEY-----\n"


@pytest.fixture(scope="module")
def here() -> Iterator[Daemon]:
    folder = Path(tempfile.mkdtemp(prefix="rota-sec-"))
    try:
        with daemon(folder / "data") as running:
            yield running
    finally:
        shutil.rmtree(folder)


def put(here: Daemon, name: str, value: str, *rules: str) -> None:
    here.ok("secret", "set", name, *rules, "--file", "-", stdin=value)


def job(header: str, body: str) -> str:
    lines = "".join(f"# {line}\n" for line in header.strip().split("\n"))
    return f"#!/bin/bash\n# /// script\n# [tool.rota]\n{lines}# ///\n{body}"


def finished(here: Daemon, name: str) -> Any:
    here.run("run", name, "--wait")
    return last(here, name)


def last(here: Daemon, name: str) -> Any:
    """Return the last build of a job."""
    return here.json("show", here.json("builds", name, "-n", "1")[0]["id"])


def files_of(here: Daemon) -> list[Path]:
    shm = Path("/dev/shm")
    return [
        it
        for base in shm.glob("rota-*")
        for it in base.rglob("*")
        if str(here.data) and it.is_file()
    ]


def test_a_script_gets_its_secrets_and_its_log_does_not_show_them(here: Daemon) -> None:
    put(here, "NPM_TOKEN", TOKEN, "--jobs", "web/*", "--description", "publishes")
    put(here, "deploy-key", KEY)
    header = """secrets = ["NPM_TOKEN", { name = "deploy-key", file = "id_x", env = "KEY" }]
finally = 'echo "last: $NPM_TOKEN"; base64 -w0 "$KEY"; rota artifacts put late.txt 2>/dev/null; true'"""
    body = """
echo "token: $NPM_TOKEN" && printf %s "$NPM_TOKEN" | sha256sum
sha256sum <"$KEY" && stat -c '%a %U' "$KEY" "$(dirname "$KEY")" && cat "$KEY"
set -x; true "$NPM_TOKEN"; set +x
printf %s "$NPM_TOKEN" | base64; printf %s "$NPM_TOKEN" | xxd 2>/dev/null || true
echo "::error file=$NPM_TOKEN::it is $NPM_TOKEN"
echo "::group::step $NPM_TOKEN"; echo ::endgroup::
echo "$KEY" >place
ls /proc/*/cmdline | while read it; do tr '\\0' ' ' <$it | grep -q "$NPM_TOKEN" && echo "seen in $it"; done 2>/dev/null
true
"""
    here.add("web/publish", job(header, body))
    build = finished(here, "web/publish")
    log = here.ok("log", "web/publish")
    assert build["result"] == "passed", log
    assert f"token: {'*' * len(TOKEN)}" in log
    assert (
        subprocess.run(["sha256sum"], input=TOKEN.encode(), capture_output=True)
        .stdout.split()[0]
        .decode()
        in log
    )
    assert (
        subprocess.run(["sha256sum"], input=KEY.encode(), capture_output=True)
        .stdout.split()[0]
        .decode()
        in log
    )
    assert "400 root\n700 root" in log or os.geteuid() != 0
    assert "seen in" not in log
    assert shown_nowhere(log, TOKEN, KEY)
    assert shown_nowhere(json.dumps(build), TOKEN, KEY)
    assert build["annotations"][0]["message"] == f"it is {'*' * len(TOKEN)}"
    assert not [it for it in files_of(here) if it.name == "id_x"]


def again(here: Daemon, name: str, script: str) -> None:
    here.ok("add", "--force", name, "-", stdin=script)


def shown_nowhere(text: str, *values: str) -> bool:
    """Whether no line of a value is in a text, as it is, in base64 or in hex."""
    for value in values:
        for line in (it for it in value.splitlines() if not it.startswith("-----")):
            raw = line.encode()
            forms = {line, raw.hex(), raw.hex().upper(), json.dumps(line)[1:-1]}
            for shift in range(3):
                coded = base64.b64encode(b"x" * shift + raw).decode()
                forms.add(coded[4 if shift else 0 : -4])
            if any(form in text for form in forms):
                return False
    return True


def test_nobody_finds_a_value_in_what_the_agent_writes_down(here: Daemon) -> None:
    """A hostile reader: the store cloned, every file of the data folder, all events."""
    clone = here.data.parent / "clone"
    here.ok("clone", str(clone))
    assert "publishes" in (clone / "secrets" / "NPM_TOKEN.toml").read_text()
    texts = subprocess.run(
        ["git", "-C", str(clone), "log", "--all", "-p"], capture_output=True, text=True, check=True
    ).stdout
    texts += here.ok("events", "--json")
    assert shown_nowhere(texts, TOKEN, KEY)
    for path in here.data.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert shown_nowhere(path.read_bytes().decode("latin-1"), TOKEN, KEY), path
    assert [it["name"] for it in here.json("secret")] == ["NPM_TOKEN", "deploy-key"]
    assert "value" not in here.json("secret")[0]


def test_a_daemon_that_was_killed_hides_the_same_values_and_takes_the_files_away(
    here: Daemon,
) -> None:
    header = """secrets = ["NPM_TOKEN", { name = "deploy-key", file = "id_y", env = "KEY" }]
finally = 'echo "fin $NPM_TOKEN $(sha256sum <$KEY)"'"""
    here.add(
        "web/long",
        job(
            header,
            'echo "a $NPM_TOKEN"; while [ ! -e "$0.go" ]; do sleep 0.05; done; echo "b $NPM_TOKEN"; cat $KEY; exit 3',
        ),
    )
    here.ok("run", "web/long")
    wait_until("it prints", lambda: "a *" in here.run("log", "web/long").stdout)
    assert [it for it in files_of(here) if it.name == "id_y"]
    os.kill(here.pid, signal.SIGKILL)
    [script] = here.data.glob("scripts/*/long")
    here.start()
    # What is given next is another value: what the script has is hidden all the same.
    put(here, "NPM_TOKEN", "an0ther-value-altogether")
    Path(f"{script}.go").touch()
    wait_until("it is over", lambda: last(here, "web/long")["state"] == "finished")
    log = here.ok("log", "web/long")
    stars = "*" * len(TOKEN)
    assert f"a {stars}\nb {stars}\n" in log
    assert f"fin {stars} " in log
    assert shown_nowhere(log, TOKEN, KEY)
    assert not [it for it in files_of(here) if it.name == "id_y"]
    # The workspace of the failed build stays; its log in clear does not.
    [home] = here.data.glob(f"builds/{last(here, 'web/long')['id']}/1")
    wait_until("it is tidied", lambda: not (home / "log").exists())
    assert (home / "work").exists()
    put(here, "NPM_TOKEN", TOKEN)


def test_what_is_left_of_an_attempt_that_nobody_ended_is_taken_away_at_the_next_start(
    here: Daemon,
) -> None:
    header = 'secrets = ["NPM_TOKEN", { name = "deploy-key", file = "id_z", env = "KEY" }]'
    here.add("web/lost", job(header, 'echo "$NPM_TOKEN"; exec sleep 600'))
    here.ok("run", "web/lost")
    wait_until("it prints", lambda: "**" in here.run("log", "web/lost").stdout)
    build = last(here, "web/lost")["id"]
    os.kill(here.pid, signal.SIGKILL)
    home = here.data / "builds" / build / "1"
    for line in (home / "pid").read_text().splitlines()[1:]:
        os.kill(int(line.split()[0]), signal.SIGKILL)
    here.start()
    wait_until("it is over", lambda: here.json("show", build)["state"] == "finished")
    assert not [it for it in files_of(here) if it.name == "id_z"]
    assert shown_nowhere(here.ok("log", build), TOKEN)
    wait_until("no log stays", lambda: not (home / "log").exists())


def test_rules_keep_a_secret_from_other_jobs_and_branches(here: Daemon, tmp_path: Path) -> None:
    put(here, "RELEASE", "r3lease-s3cret", "--branches", "main,release/*")
    repo = tmp_path / "repo"
    git = ["git", "-C", str(repo), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(repo)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    subprocess.run([*git, "branch", "try"], check=True)
    header = f"""secrets = ["RELEASE"]
scm = {{ git = "{repo}", branch = "{{branch}}" }}
params = {{ branch = "main" }}"""
    here.add("web/release", job(header, 'echo "got ${#RELEASE}"'))
    assert finished(here, "web/release")["result"] == "passed"
    assert "got 14" in here.ok("log", "web/release")
    here.run("run", "web/release", "branch=try", "--wait")
    build = last(here, "web/release")
    why = "the secret RELEASE is not given to web/release#2: it is for branches main, release/*, not for try"
    assert (build["result"], build["reason"], build["message"]) == ("errored", "agent-error", why)
    assert f"rota: {why}\n" in here.ok("log", "web/release")
    done = here.run("secret", "check", "web/release", "--branch", "try")
    assert done.returncode == 1
    assert done.stdout == "RELEASE: not given: it is for branches main, release/*, not for try\n"
    assert here.ok("secret", "check", "web/release", "--branch", "main") == (
        "RELEASE: given as $RELEASE\n"
    )
    other = job('secrets = ["NPM_TOKEN"]', "true\n")
    done = here.run("add", "db/x", "-", stdin=other)
    assert done.returncode == 2
    assert (
        "the secret NPM_TOKEN is not given to this job: it is for jobs web/*, not for db/x"
        in done.stderr
    )


def test_a_build_cannot_write_a_value_where_everybody_reads(here: Daemon) -> None:
    here.add("web/child", job('params = { x = "" }', "true\n"))
    body = """rota run web/child "x=$NPM_TOKEN" 2>&1; rota emit a.b "t=$NPM_TOKEN" 2>&1
echo hi >"$(printf %s "$NPM_TOKEN" | base64 -w0 | tr / _)"; true"""
    here.add("web/leaky", job('secrets = ["NPM_TOKEN"]\nartifacts = ["*"]', body))
    build = finished(here, "web/leaky")
    log = here.ok("log", "web/leaky")
    said = "the request has the value of a secret of this build in it; nothing was written"
    assert log.count(said) == 2, log
    assert re.search(r"artifact \*+=*: a secret is in its name", build["message"]), build["message"]
    assert build["artifacts"] == []
    assert here.json("builds", "web/child") == []
    assert shown_nowhere(here.ok("events", "--json"), TOKEN)


def test_what_was_changed_by_hand_is_given_to_nobody(here: Daemon, tmp_path: Path) -> None:
    put(here, "ONE", "value-of-one", "--jobs", "web/one")
    put(here, "TWO", "value-of-two")
    clone = tmp_path / "clone"
    here.ok("clone", str(clone))
    one, two = clone / "secrets" / "ONE.toml", clone / "secrets" / "TWO.toml"
    sealed = one.read_text().partition("value = ")[2]
    two.write_text(two.read_text().partition("value = ")[0] + "value = " + sealed)
    one.write_text(one.read_text().replace('["web/one"]', '["*"]'))
    push(clone)
    here.add("web/hand", job('secrets = ["ONE", "TWO"]', "true\n"))
    assert here.run("secret", "check", "web/hand").stdout == (
        "ONE: not given: the secret ONE is not given to anybody: its file was changed by hand, and has"
        " other rules than it was set with\n"
        "TWO: not given: the secret TWO is not given to anybody: its file was changed by hand, and has"
        " the value of another one, ONE\n"
    )
    build = finished(here, "web/hand")
    assert build["result"] == "errored"
    assert "its file was changed by hand" in build["message"]
    # And a job that names what a push takes away is told, with its place.
    one.unlink()
    refused = push(clone, ok=False)
    assert "jobs/web/hand:4:14: no secret is called 'ONE'" in refused
    put(here, "ONE", "value-of-one", "--jobs", "")
    put(here, "TWO", "value-of-two")
    assert finished(here, "web/hand")["result"] == "passed"


def push(clone: Path, *, ok: bool = True) -> str:
    git = ["git", "-C", str(clone), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "pull", "-q", "--rebase", "--autostash"], check=True)
    subprocess.run([*git, "commit", "-qam", "by hand"], check=True)
    done = subprocess.run([*git, "push", "-q"], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is ok, done.stderr
    return done.stderr


def test_a_provider_is_a_program_whose_words_are_not_repeated(here: Daemon, tmp_path: Path) -> None:
    vault = tmp_path / "vault-read"
    vault.write_text(
        '#!/bin/sh\ncase $1 in\nkv/web#token) echo "fr0m-the-vault";;\n'
        'hang) sleep 60;;\n*) echo "h4lf-a-secret"; echo "no such path $1, h4lf-a-secret" >&2; exit 4;;\nesac\n'
    )
    vault.chmod(0o755)
    clone = tmp_path / "clone"
    here.ok("clone", str(clone))
    (clone / "settings.toml").write_text(
        f'[secrets.provider.vault]\ncommand = ["{vault}", "{{path}}"]\ntimeout = "0.5s"\njobs = ["web/*"]\n'
    )
    git = ["git", "-C", str(clone)]
    subprocess.run([*git, "add", "."], check=True)
    push(clone)
    use = '{{ name = "vault:{}", env = "T" }}'
    here.add(
        "web/vault", job(f"secrets = [{use.format('kv/web#token')}]", 'echo "$T"; echo ${#T}\n')
    )
    assert finished(here, "web/vault")["result"] == "passed"
    assert here.ok("log", "web/vault").endswith("**************\n14\n")
    again(here, "web/vault", job(f"secrets = [{use.format('nowhere')}]", "true\n"))
    build = finished(here, "web/vault")
    assert (build["result"], build["message"]) == ("errored", "vault-read exited with 4")
    again(here, "web/vault", job(f"secrets = [{use.format('hang')}]", "true\n"))
    assert finished(here, "web/vault")["message"] == "vault-read did not answer within 0.5 s"
    again(here, "web/vault", job('secrets = [{ name = "pass:x", env = "T" }]', "true\n"))
    message = finished(here, "web/vault")["message"]
    assert message.startswith("no provider of secrets is called 'pass' (settings.toml: ")
    here.add("db/vault", job(f"secrets = [{use.format('kv/web#token')}]", "true\n"))
    assert finished(here, "db/vault")["message"] == (
        "the secret vault:kv/web#token is not given to db/vault#1: it is for jobs web/*, not for db/vault"
    )


def test_mistakes_are_told_and_change_nothing(here: Daemon) -> None:
    before = here.json("secret")
    for args, stdin, said in (
        (("set", "X"), "abc", "the value has less than 4 bytes"),
        (
            ("set", "X", "v4lue"),
            "",
            "a value on the command line would stand in the shell's history",
        ),
        (("set", "X Y"), "v4lue", "bad secret name 'X Y'"),
        (("set", "npm_token"), "v4lue", "there is a secret NPM_TOKEN, which differs only in case"),
        (("set", "X", "--file", "/nowhere"), "", "cannot read /nowhere: No such file or directory"),
        (("set", "NPM_TOKEN", "--branches", "!"), "", "--branches has '!', which is no pattern"),
        (("set", "Y", "--branches", "main"), "", "no secret 'Y'"),
        (("rm", "Y"), "", "no secret 'Y'"),
        (("rm", "NPM_TOKEN"), "", "NPM_TOKEN was not removed: web/leaky"),
        (("frob",), "", "secret: 'frob' is none of its forms"),
        (("rm", "X", "--branch", "x"), "", "--branch goes not with rota secret rm"),
    ):
        done = here.run("secret", *args, stdin=stdin)
        assert done.returncode in (2, 4, 5, 6, 1), (args, done)
        assert said in done.stderr, (args, done.stderr)
        assert "v4lue" not in done.stderr
    assert here.json("secret") == before


def test_rota_exec_takes_secrets_from_the_callers_own_environment(
    tmp_path: Path, here: Daemon
) -> None:
    script = tmp_path / "job.sh"
    script.write_text(job('secrets = ["MY_SECRET"]', 'echo "it is $MY_SECRET"\n'))
    script.chmod(0o755)
    done = here.run("exec", str(script), env={"MY_SECRET": "0nly-mine"})
    assert done.stdout == "it is *********\n"
    done = here.run("exec", str(script))
    assert done.returncode != 0
    assert "no secret 'MY_SECRET'" in done.stdout + done.stderr
    assert "MY_SECRET=… rota exec" in done.stdout + done.stderr
