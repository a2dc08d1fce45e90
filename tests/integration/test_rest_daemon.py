"""The real daemon by curl alone: what needs its engine, its store, its users or its processes."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from tests.harness.daemon import Daemon, daemon, wait_until

MIB = 1 << 20
#: The daemon and its engine have this much to spare for an upload, whatever its size.
ROOM = 100 * MIB

pytestmark = [pytest.mark.nats, pytest.mark.slow, pytest.mark.timeout(600)]


class Reply(NamedTuple):
    status: int
    head: str
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@pytest.fixture(scope="module")
def here() -> Iterator[Daemon]:
    """The module's daemon. Its folder is short, for the socket, and passable, for strangers."""
    folder = Path(tempfile.mkdtemp(prefix="rota-rest-"))
    try:
        with daemon(folder / "data") as running:
            yield running
    finally:
        shutil.rmtree(folder)


def curl(here: Daemon, path: str, *options: str, stdin: bytes = b"", prefix: Any = ()) -> Reply:
    return ask("--unix-socket", str(here.data / "rota.sock"), f"http://rota{path}", *options,
               stdin=stdin, prefix=prefix)  # fmt: skip


def ask(*options: str, stdin: bytes = b"", prefix: Any = ()) -> Reply:
    done = subprocess.run(
        [*prefix, "curl", "-sSi", "--path-as-is", "--max-time", "300", *options],
        input=stdin, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100"):
        head, _, body = body.partition(b"\r\n\r\n")
    return Reply(int(head.split()[1]), head.decode("latin-1"), body)


def url(here: Daemon) -> str:
    return str(curl(here, "/v1/status").json()["url"])


def token(here: Daemon) -> str:
    return (here.data / "token").read_text().strip()


def put(here: Daemon, job: str, script: str) -> str:
    reply = curl(here, f"/v1/jobs/{job}", "-T", "-", stdin=script.encode())
    assert reply.status == 200, reply.body
    return str(reply.json()["etag"])


def run(here: Daemon, job: str, body: str = "{}") -> dict[str, Any]:
    reply = curl(here, f"/v1/jobs/{job}/builds", "-d", body)
    assert reply.status == 201, reply.body
    return dict(reply.json())


def finished(here: Daemon, build: str) -> dict[str, Any]:
    reply = curl(here, f"/v1/builds/{build}?wait=50")
    assert reply.json()["state"] == "finished", reply.body
    return dict(reply.json())


def test_from_a_script_to_its_log_by_curl_alone(here: Daemon) -> None:
    script = "#!/bin/sh\n# /// script\n# [tool.rota.params]\n# who = {}\n# ///\necho hello $who\n"
    put(here, "web/hello", script)
    build = run(here, "web/hello", '{"params": {"who": "world"}}')
    assert finished(here, build["id"])["result"] == "passed"
    log = curl(here, "/v1/builds/web%2Fhello%231/log?follow")
    assert log.body == b"hello world\n"
    stream = curl(here, "/v1/builds/web%2Fhello%231/log", "-H", "Accept: text/event-stream")
    assert b'id: 12\nevent: log\ndata: {"text":"hello world\\n"}\n\nevent: end\n' in stream.body


def test_a_job_is_one_commit_with_author_and_message(here: Daemon) -> None:
    put(here, "paused", "#!/bin/sh\n")
    assert curl(here, "/v1/jobs/paused/pause", "-d", '{"reason": "for now"}').status == 200
    assert curl(here, "/v1/jobs/paused/resume", "-X", "POST").status == 200
    log = subprocess.run(
        ["git", "-C", str(here.data / "store.git"), "log", "-3", "--format=%an|%s", "main"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    me = curl(here, "/v1/events?kind=store.moved&limit=1").json()[0]["by"]
    assert log == [f"{me}|resume paused", f"{me}|pause paused: for now", f"{me}|add paused"]


def test_a_build_keeps_files_and_others_read_them(here: Daemon) -> None:
    put(here, "keeps", '#!/bin/sh\necho data >f\nrota artifacts put f "out put/f"\ncat\n')
    build = run(here, "keeps")
    done = finished(here, build["id"])
    assert done["result"] == "passed", curl(here, f"/v1/builds/{build['id']}/log").body
    listed = curl(here, "/v1/builds/keeps/artifacts").json()
    assert [it["path"] for it in listed] == ["out put/f"]
    got = curl(here, "/v1/builds/keeps/artifacts/out%20put/f")
    assert (got.status, got.body) == (200, b"data\n")
    assert curl(here, "/v1/builds/keeps/artifacts/../../status").status == 404
    late = curl(here, "/v1/builds/keeps/artifacts/late", "-T", "-", stdin=b"x")
    assert late.status == 409


def memory(pids: list[int]) -> int:
    return sum(psutil.Process(pid).memory_info().rss for pid in pids)


def test_two_hundred_megabytes_go_through_in_bounded_memory(here: Daemon, tmp_path: Path) -> None:
    put(here, "large", "#!/bin/sh\nsleep 1000\n")
    build = run(here, "large")
    wait_until(
        "it runs", lambda: curl(here, f"/v1/builds/{build['id']}").json()["state"] == "running"
    )
    file, back = tmp_path / "file", tmp_path / "back"
    digest = hashlib.sha256()
    with file.open("wb") as writer:
        for n in range(200):
            piece = hashlib.sha256(b"%d" % n).digest() * (MIB // 32)
            digest.update(piece)
            writer.write(piece)
    before = memory([here.pid])
    target = f"/v1/builds/{build['id']}/artifacts/file"
    sent = curl(here, target, "-T", str(file))
    assert (sent.status, sent.json()["sha256"]) == (201, digest.hexdigest())
    assert memory([here.pid]) - before < ROOM
    path = str(here.data / "rota.sock")
    subprocess.run(
        ["curl", "-sSf", "--unix-socket", path, f"http://rota{target}", "-o", str(back)],
        check=True,
    )
    assert hashlib.sha256(back.read_bytes()).hexdigest() == digest.hexdigest()
    assert memory([here.pid]) - before < ROOM
    curl(here, f"/v1/builds/{build['id']}/cancel", "-X", "POST")
    finished(here, build["id"])


def test_an_upload_that_is_killed_leaves_nothing(here: Daemon) -> None:
    put(here, "killed", "#!/bin/sh\nsleep 1000\n")
    build = run(here, "killed")
    wait_until(
        "it runs", lambda: curl(here, f"/v1/builds/{build['id']}").json()["state"] == "running"
    )
    target = f"/v1/builds/{build['id']}/artifacts/x"
    path = str(here.data / "rota.sock")
    upload = subprocess.Popen(
        ["curl", "-sS", "--unix-socket", path, "-T", "-", f"http://rota{target}"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert upload.stdin is not None
    upload.stdin.write(b"x" * MIB)
    upload.stdin.flush()
    upload.send_signal(signal.SIGKILL)
    upload.wait()
    with contextlib.suppress(BrokenPipeError):
        upload.stdin.close()
    assert curl(here, target).status == 404
    assert curl(here, f"/v1/builds/{build['id']}/artifacts").json() == []
    curl(here, f"/v1/builds/{build['id']}/cancel", "-X", "POST")
    finished(here, build["id"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_a_stranger_on_the_machine_is_refused_by_what_the_kernel_says(here: Daemon) -> None:
    door = here.data / "rota.sock"
    assert door.stat().st_mode & 0o777 == 0o600
    stranger = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    folders = [here.data, here.data.parent]
    modes = [folder.stat().st_mode for folder in folders]
    closed = subprocess.run(
        [*stranger, "curl", "-sS", "--unix-socket", str(door), "http://rota/health"],
        capture_output=True, check=False,
    )  # fmt: skip
    assert closed.returncode != 0
    try:
        for folder in folders:
            folder.chmod(0o755)
        door.chmod(0o666)
        for target in ("/v1/status", "/v1/jobs", "/v1/none"):
            reply = curl(here, target, prefix=stranger)
            assert reply.status == 403
            assert reply.json()["detail"] == "nobody is not the user that this agent runs as"
            assert reply.json()["hint"] == "become that user: sudo -u root rota …"
        # The token is for TCP; on the socket the kernel has the word.
        with_token = curl(here, "/v1/status", "-H", f"Authorization: Bearer {token(here)}",
                          prefix=stranger)  # fmt: skip
        assert with_token.status == 403
        assert curl(here, "/health", prefix=stranger).status == 200
    finally:
        door.chmod(0o600)
        for folder, mode in zip(folders, modes, strict=True):
            folder.chmod(mode)
    assert curl(here, "/v1/status").status == 200


def test_over_tcp_the_token_is_asked_for_and_written_nowhere(here: Daemon) -> None:
    at, secret = url(here), token(here)
    assert (here.data / "token").stat().st_mode & 0o777 == 0o600
    assert ask(f"{at}/v1/status").status == 401
    assert ask(f"{at}/v1/status", "-H", "Authorization: Bearer wrong").status == 401
    assert ask(f"{at}/v1/status", "-H", f"Authorization: Bearer {secret}").status == 200
    assert ask(f"{at}/v1/status", "-u", f"git:{secret}").status == 200
    assert ask(f"{at}/v1/status?token={secret}").status == 401
    assert ask(f"{at}/v1/{secret}", "-H", f"Authorization: Bearer {secret}").status == 404
    ask(f"{at}/v1/status", "-H", f"Authorization: Bearer {secret}\x01")
    log = (here.data / "agent.log").read_text()
    assert secret not in log
    assert secret not in json.dumps(curl(here, "/v1/events?after=0&limit=10000").json())


def test_git_clones_with_the_token_as_password(here: Daemon, tmp_path: Path) -> None:
    put(here, "cloned", "#!/bin/sh\n")
    at = re.sub("^http://", f"http://git:{token(here)}@", url(here))
    quiet = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    for address, good in ((at, True), (url(here), False)):
        target = tmp_path / str(good)
        done = subprocess.run(
            ["git", "clone", "-q", f"{address}/store.git", str(target)],
            capture_output=True, env=quiet, check=False,
        )  # fmt: skip
        assert (done.returncode == 0) is good, done.stderr
    assert (tmp_path / "True" / "jobs" / "cloned").exists()


def test_git_asks_again_and_again_and_the_daemon_answers_others(here: Daemon) -> None:
    for _ in range(5):
        reply = curl(here, "/store.git/info/refs?service=git-upload-pack")
        assert reply.status == 200
    assert curl(here, "/v1/status").status == 200


def test_hundreds_of_followers_that_break_off_leave_no_descriptor_behind(here: Daemon) -> None:
    daemon_process = psutil.Process(here.pid)
    put(here, "watched", "#!/bin/sh\nsleep 1000\n")
    build = run(here, "watched")
    wait_until(
        "it runs", lambda: curl(here, f"/v1/builds/{build['id']}").json()["state"] == "running"
    )
    before = daemon_process.num_fds()
    targets = (f"/v1/builds/{build['id']}/log?follow", "/v1/events?follow")
    with contextlib.ExitStack() as stack:
        followers = [
            stack.enter_context(_follower(here, targets[number % 2])) for number in range(200)
        ]
        for follower in followers:
            assert follower.recv(12) == b"HTTP/1.1 200"
        assert daemon_process.num_fds() >= 200
        assert curl(here, "/v1/status").status == 200
    wait_until("all are gone", lambda: daemon_process.num_fds() <= before + 3)
    curl(here, f"/v1/builds/{build['id']}/cancel", "-X", "POST")
    finished(here, build["id"])


@contextlib.contextmanager
def _follower(here: Daemon, target: str) -> Iterator[socket.socket]:
    """A connection that has asked."""
    with socket.socket(socket.AF_UNIX) as opened:
        opened.settimeout(100)
        opened.connect(str(here.data / "rota.sock"))
        opened.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        yield opened


def test_twenty_triggers_with_one_key_through_the_real_journal_are_one_build(here: Daemon) -> None:
    put(here, "keyed", "#!/bin/sh\n")
    path = str(here.data / "rota.sock")
    callers = [
        subprocess.Popen(
            ["curl", "-sS", "--unix-socket", path, "http://rota/v1/jobs/keyed/builds",
             "-H", "Idempotency-Key: one", "-d", "{}"],
            stdout=subprocess.PIPE,
        )
        for _ in range(20)
    ]  # fmt: skip
    ids = {json.loads(caller.communicate()[0])["id"] for caller in callers}
    assert len(ids) == 1
    assert len(curl(here, "/v1/builds?job=keyed").json()) == 1


def test_jobs_put_at_once_through_the_real_store_all_land(here: Daemon) -> None:
    path = str(here.data / "rota.sock")
    before = _commits(here)
    callers = [
        subprocess.Popen(
            ["curl", "-sS", "--unix-socket", path, f"http://rota/v1/jobs/many/j{n}",
             "-X", "PUT", "--data-binary", f"#!/bin/sh\necho {n}\n"],
            stdout=subprocess.PIPE,
        )
        for n in range(20)
    ]  # fmt: skip
    replies = [json.loads(caller.communicate()[0]) for caller in callers]
    assert all(reply.get("changed") for reply in replies), replies
    assert len(curl(here, "/v1/jobs?match=many/*").json()) == 20
    assert _commits(here) == before + 20


def _commits(here: Daemon) -> int:
    count = subprocess.run(
        ["git", "-C", str(here.data / "store.git"), "rev-list", "--count", "main"],
        capture_output=True, check=True,
    )  # fmt: skip
    return int(count.stdout)
