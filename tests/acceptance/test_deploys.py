"""The templates that deploy: over ssh to a server on this machine, to a repository, to a fake systemd."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.daemon import ROTA, Daemon, daemon, wait_until
from tests.harness.projects import cloned, commit, git, lay

pytestmark = [pytest.mark.nats, pytest.mark.slow]

FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
SSHD = "/usr/sbin/sshd"
BUILD = """#!/bin/sh
# /// script
# [tool.rota]
# artifacts = ["dist/**/*"]
# [tool.rota.params]
# page = "one"
# ///
mkdir -p dist/css && echo "$page" >dist/index.html && echo a >dist/css/a.css
printf '#!/bin/sh\\necho %s\\n' "$page" >dist/shop
"""
#: As much of systemd as the template asks: a program is up while it does not say that it is broken.
SYSTEMCTL = """#!/bin/sh
echo "$*" >>{folder}/systemctl.log
case $1 in
  restart) ! grep -q refuses {folder}/shop ;;
  is-active) ! grep -q broken {folder}/shop ;;
esac
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deploys")


@pytest.fixture(scope="module")
def here(place: Path) -> Iterator[Daemon]:
    """An agent whose builds find an ``ssh`` that knows the server, as ~/.ssh/config would say it."""
    tools = place / "tools"
    lay(
        tools,
        {
            "ssh": f'#!/bin/sh\nexec /usr/bin/ssh -F {place}/ssh_config "$@"\n',
            "systemctl": SYSTEMCTL.format(folder=place),
            "journalctl": "#!/bin/sh\necho 'shop: it is broken'\n",
        },
    )
    with daemon(place / "data") as running:
        clone = place / "definitions"
        running.ok("clone", str(clone))
        settings = f"path = {json.dumps([str(tools), *FOLDERS])}\n"
        commit(clone, {"settings.toml": settings}, "where programs are")
        running.add("shop/build", BUILD)
        yield running


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[str]:
    """A real server for ssh; the name by which the builds reach it."""
    for program in (SSHD, "/usr/bin/ssh", "/usr/bin/rsync"):
        if not os.access(program, os.X_OK):
            pytest.skip(f"no {program}")
    for key in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / key)]
        subprocess.run(command, check=True, timeout=30)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    host_key = (place / "host.pub").read_text()
    (place / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    shutil.copy(place / "user.pub", place / "authorized_keys")
    config = f"""Port {port}
ListenAddress 127.0.0.1
HostKey {place}/host
AuthorizedKeysFile {place}/authorized_keys
PasswordAuthentication no
StrictModes no
UsePAM no
PidFile {place}/sshd.pid
"""
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    client = f"""Host www
HostName 127.0.0.1
Port {port}
User {user}
IdentityFile {place}/user
IdentitiesOnly yes
UserKnownHostsFile {place}/known_hosts
"""
    lay(place, {"sshd_config": config, "ssh_config": client})
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where the server shuts its children in
    with (place / "sshd.log").open("w") as log:
        process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(place / "sshd_config")],
            stdin=subprocess.DEVNULL,
            stderr=log,
        )

    def answers() -> bool:
        assert process.poll() is None, (place / "sshd.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until("sshd answers", answers)
        yield "www"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def new(folder: Path, *args: str) -> str:
    done = subprocess.run(
        [str(ROTA), "new", *args], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(here: Daemon, job: str, *params: str) -> tuple[dict[str, Any], str]:
    done = here.run("run", job, *params, "--wait", "--json")
    assert done.returncode in (0, 1), done.stderr
    build: dict[str, Any] = json.loads(done.stdout)
    return build, here.ok("log", build["id"])


def rebuild(here: Daemon, page: str) -> None:
    """Make the build that deploys take: what ``needs`` asks for is without parameters."""
    here.ok("add", "shop/build", "-", "--force", stdin=BUILD.replace('"one"', f'"{page}"'))


def test_files_go_over_ssh(here: Daemon, server: str, place: Path, tmp_path: Path) -> None:
    target = place / "srv" / "a folder"
    target.mkdir(parents=True)
    (target / "old.html").write_text("goes")
    script = new(tmp_path, "deploy-ssh", "project=shop", f"host={server}", f"folder={target}")
    here.add("shop/ssh", script)
    rebuild(here, "one")
    build, log = run(here, "shop/ssh", f"after=cat '{target}/index.html' && echo restarted")
    assert build["result"] == "passed", log
    assert "one\nrestarted\n" in log
    assert sorted(it.name for it in target.iterdir()) == ["css", "index.html", "shop"]
    build, log = run(here, "shop/ssh", "host=nobody@127.0.0.1")
    assert build["result"] == "failed", log


def test_a_release_is_served_at_every_moment(
    here: Daemon, server: str, place: Path, tmp_path: Path
) -> None:
    folder = place / "release's"  # every quote has to hold on the other side, too
    folder.mkdir()
    args = ("project=shop", f"host={server}", f"folder={folder}")
    here.add("shop/switch", new(tmp_path, "deploy-symlink", *args))
    page = folder / "current" / "index.html"

    def deploy(*params: str) -> tuple[dict[str, Any], str]:
        return run(here, "shop/switch", "keep=2", *params)

    rebuild(here, "one")
    build, log = deploy()
    assert build["result"] == "passed", log
    assert page.read_text() == "one\n"
    assert os.readlink(folder / "current") == "releases/1"

    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            seen.add(page.read_text())  # raises if nothing is served at any moment

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        rebuild(here, "two")
        build, log = deploy("check=grep -q two current/index.html")
        assert build["result"] == "passed", log
        rebuild(here, "three")
        build, log = deploy("check=grep -q four current/index.html")
    finally:
        over.set()
        watcher.join(30)
    assert build["result"] == "failed"
    assert "::error::release 3 is not well; 2 is served again" in log
    assert seen <= {"one\n", "two\n", "three\n"}
    assert page.read_text() == "two\n"

    build, log = deploy("action=rollback")
    assert build["result"] == "passed", log
    assert page.read_text() == "one\n"
    build, log = deploy("action=rollback")
    assert build["result"] == "failed"
    assert "::error::there is no release before 1" in log
    for _ in range(2):
        build, log = deploy()
        assert build["result"] == "passed", log
    assert sorted(os.listdir(folder / "releases")) == ["6", "7"]


def test_a_unit_is_restarted_and_what_does_not_stay_up_is_put_back(
    here: Daemon, place: Path, tmp_path: Path
) -> None:
    if shutil.which("rsync") is None:
        pytest.skip("no rsync")
    args = ("project=shop", "host=", f"target={place}/shop")
    here.add("shop/unit", new(tmp_path, "deploy-systemd", *args))
    rebuild(here, "one")
    build, log = run(here, "shop/unit", "settle=0")
    assert build["result"] == "passed", log
    assert (place / "shop").read_text() == "#!/bin/sh\necho one\n"
    assert os.access(place / "shop", os.X_OK)
    for page in ("broken", "refuses"):
        rebuild(here, page)
        build, log = run(here, "shop/unit", "settle=0")
        assert build["result"] == "failed"
        assert "shop: it is broken" in log
        assert "::error::shop.service did not stay up; the program before is back" in log
        assert (place / "shop").read_text() == "#!/bin/sh\necho one\n"
    assert not (place / "shop.former").exists()
    calls = (place / "systemctl.log").read_text().splitlines()
    assert calls[:2] == ["restart shop.service", "is-active --quiet shop.service"]


def test_a_release_is_a_tag(here: Daemon, tmp_path: Path) -> None:
    folder = cloned(tmp_path / "shop", {"a": "1"})
    here.add("shop/release", new(folder, "release-tag"))
    build, log = run(here, "shop/release", "version=1.0")
    assert build["result"] == "passed", log
    commit(folder, {"a": "2"}, "Something new")
    build, log = run(here, "shop/release", "version=1.1")
    assert build["result"] == "passed", log
    git(folder, "fetch", "--quiet", "--tags")
    assert git(folder, "tag", "--list", "--format=%(refname:short) %(contents:subject)") == (
        "v1.0 # 1.0\nv1.1 # 1.1"
    )
    assert "- Something new (" in git(folder, "tag", "--list", "v1.1", "--format=%(contents:body)")
    assert "all of it" not in git(folder, "tag", "--list", "v1.1", "--format=%(contents)")
    build, log = run(here, "shop/release", "version=1.1")
    assert build["result"] == "passed"  # a second attempt finds what the first one did
    assert "v1.1 is there already" in log
    build, log = run(here, "shop/release", "version=next")
    assert build["result"] == "failed"
    assert "::error::next is no version, such as 1.4.0 or 2.0.0-rc.1" in log
    commit(folder, {"a": "3"}, "More")
    build, log = run(here, "shop/release", "version=1.1")
    assert "::error::v1.1 is there already, and it is " in log
    assert build["result"] == "failed"
