"""rota in containers: its image, and three agents of compose.yaml on a real engine.

docker compose itself is not asked: a reader of a few lines does what the file says.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from tests.harness import images
from tests.harness.engines import Engine, EngineError

#: Making an image takes a while where other tests run beside it.
pytestmark = [pytest.mark.nats, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "packaging" / "container"
#: What python:3.11-slim has of use here, and git.
BASE = (
    "python3", "python3-venv", "git", "bash", "dash", "coreutils", "findutils", "util-linux",
    "grep", "sed", "libc-bin",
)  # fmt: skip
#: In a container of the image `busybox`, on the agent that is asked for.
JOB = """#!/bin/sh
# /// script
# [tool.rota]
# image = "busybox"
# labels = "agent=a"
# [tool.rota.params]
# wait = 0
# ///
test ! -e /opt/rota && echo beside the agent: $(pwd) && echo made >made && sleep $wait
"""
#: However slow this machine is, an agent that is made anew is not given up.
PATIENT = """cd /tmp && rota clone defs && cd defs && git config user.name x && git config user.email x@example
printf '\\n[agents]\\nlost_after = "1h"\\nstopped_after = "1h"\\n' >>settings.toml
git commit -qam patience && git push -q"""
PLAIN = "#!/bin/sh\necho on $ROTA_AGENT as $(id -u)\n"


def wheels() -> Path:
    """Return a folder with the wheels of all that is needed, made once for each state of the project."""
    text = (ROOT / "pyproject.toml").read_bytes() + sys.version.encode()
    folder = images.cache() / f"wheels-{hashlib.sha256(text).hexdigest()[:16]}"
    if not folder.exists():
        aside = folder.with_suffix(".new")
        shutil.rmtree(aside, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(aside)]
        done = subprocess.run(
            [*pip, str(ROOT), "hatchling", "hatch-vcs"],
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        if done.returncode:
            pytest.skip(f"no wheels for an image: {done.stderr.strip()[-300:]}")
        for own in aside.glob("rota-*"):
            own.unlink()  # it is made in the image
        aside.rename(folder)
    return folder


def context() -> bytes:
    """Return what the image is built of, as .dockerignore would leave it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name in ("pyproject.toml", "README.md", "LICENSE", "src", "packaging"):
            tar.add(ROOT / name, name, filter=_no_caches)
        tar.add(wheels(), "wheels")
    return data.getvalue()


def _no_caches(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in info.name else info


@pytest.fixture(scope="module")
def image(docker_engine: Engine) -> str:
    base = docker_engine.of_packages("rota-base:1", *BASE)
    arguments = json.dumps({"BASE": base, "PIP_ARGS": "--no-index --find-links /src"})
    query = f"t=rota&dockerfile=packaging/container/Dockerfile&buildargs={quote(arguments)}"
    said = docker_engine.request("POST", f"/build?{query}", context(), kind="application/x-tar")
    assert b"Successfully tagged rota" in said, said[-2000:]
    docker_engine.busybox()
    return "rota"


class Cluster:
    """What compose.yaml says, with compose.engine.yaml beside it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.file = yaml.safe_load((FOLDER / "compose.yaml").read_text())
        self.beside = yaml.safe_load((FOLDER / "compose.engine.yaml").read_text())
        engine.request("POST", "/networks/create", {"Name": "rota_default"})

    def up(self, name: str) -> None:
        said, more = self.file["services"][name], self.beside["services"][name]
        group = self.engine.socket.stat().st_gid
        assert stat.S_ISSOCK(self.engine.socket.stat().st_mode)
        assert more["group_add"] == ["${DOCKER_GID:-0}"]
        mounts = []
        for each in [*said["volumes"], *more["volumes"]]:
            source, target = each.split(":")
            kind = "bind" if source.startswith("/") else "volume"
            assert kind == "bind" or source in self.file["volumes"]
            if source == "/var/run/docker.sock":
                source = str(self.engine.socket)
            if kind == "volume":
                source = f"rota_{source}"  # as compose calls those of a project
            mounts.append({"Type": kind, "Source": source, "Target": target})
        body = {
            "Image": said["image"],
            "Hostname": said["hostname"],
            "Env": [f"{key}={value}" for key, value in said["environment"].items()],
            "HostConfig": {
                "Init": said["init"],
                "GroupAdd": [str(group)],
                "Mounts": mounts,
                "NetworkMode": "rota_default",
            },
            "NetworkingConfig": {"EndpointsConfig": {"rota_default": {"Aliases": [name]}}},
        }
        self.engine.request("POST", f"/containers/create?name=rota-{name}", body)
        self.engine.request("POST", f"/containers/rota-{name}/start")

    def down(self, name: str) -> None:
        """As `docker rm -f`: nothing is asked, nothing is left but the volumes."""
        self.engine.request("DELETE", f"/containers/rota-{name}?force=1")

    def run(self, name: str, *words: str, stdin: str = "") -> tuple[int, str]:
        """Run a command in an agent's container; return its exit status and all it said."""
        script = 'printf %s "$STDIN" | "$@"' if stdin else 'exec "$@" </dev/null'
        body = {
            "Cmd": ["sh", "-c", script, "sh", *words],
            "Env": [f"STDIN={stdin}"],
            "AttachStdout": True, "AttachStderr": True, "Tty": True,
        }  # fmt: skip
        made = self.engine.request("POST", f"/containers/rota-{name}/exec", body)
        said = self.engine.request("POST", f"/exec/{made['Id']}/start", {"Tty": True})
        text = (
            said if isinstance(said, bytes) else b"" if said is None else json.dumps(said).encode()
        )
        code = self.engine.request("GET", f"/exec/{made['Id']}/json")["ExitCode"]
        return code, text.decode().replace("\r\n", "\n")

    def ok(self, name: str, *words: str, stdin: str = "") -> str:
        code, said = self.run(name, *words, stdin=stdin)
        assert code == 0, (words, said, self.log(name))
        return said

    def json(self, name: str, *words: str) -> Any:
        return json.loads(self.ok(name, *words, "--json"))

    def log(self, name: str) -> str:
        raw = self.engine.request("GET", f"/containers/rota-{name}/logs?stdout=1&stderr=1")
        return (raw or b"").decode(errors="replace")[-2000:] if raw is not None else ""

    def until(self, name: str, condition: str) -> None:
        """Return once a shell's condition holds in an agent's container, which looks for itself."""
        loop = f"for i in $(seq 20); do if {condition}; then exit; fi; sleep 0.5; done; exit 1"
        said = ""
        for _ in range(20):
            code, said = self.run(name, "sh", "-c", loop)
            if code == 0:
                return
        raise AssertionError((condition, said, *(self.log(each) for each in "abc")))


@pytest.fixture
def cluster(docker_engine: Engine, image: str) -> Iterator[Cluster]:
    made = Cluster(docker_engine)
    try:
        yield made
    finally:
        for name in "abc":
            try:
                made.down(name)
            except EngineError:
                continue
        for volume in made.file["volumes"]:
            docker_engine.request("DELETE", f"/volumes/rota_{volume}?force=1")
        docker_engine.request("DELETE", "/networks/rota_default")


def test_three_agents_find_each_other_build_beside_themselves_and_outlive_their_containers(
    cluster: Cluster,
) -> None:
    found = cluster.engine.request("GET", "/images/rota/json")["Config"]
    assert (found["User"], list(found["Volumes"])) == ("10001:10001", ["/var/lib/rota"])
    assert found["Healthcheck"]["Test"] == ["CMD", "rota", "status", "--json"]
    for name in "abc":
        cluster.up(name)
    cluster.until("b", "rota status --json | grep -q '\"tolerates\": *1'")
    cluster.ok("b", "sh", "-c", PATIENT)
    cluster.ok("b", "rota", "add", "plain", "-", stdin=PLAIN)
    cluster.ok("b", "rota", "add", "beside", "-", stdin=JOB)
    assert " as 10001" in cluster.ok("c", "rota", "run", "plain", "-f")

    # In a container beside the agent's, with its workspace on the engine's own disk.
    said = cluster.ok("c", "rota", "run", "beside", "-f", "--keep-workspace", "always")
    assert "beside the agent: /var/lib/rota/builds/" in said

    # An agent is gone, container and all: the others go on; what runs in its own container goes on too.
    long = cluster.json("b", "rota", "run", "beside", "wait=8")
    ref = f"beside#{long['number']}"
    cluster.until("b", f"rota log '{ref}' | grep -q 'beside the agent'")
    cluster.down("a")
    cluster.up("a")
    cluster.until("c", "rota run plain --wait")
    cluster.until("c", f"rota show '{ref}' | grep -q passed")
    build = cluster.json("c", "rota", "show", ref)
    assert (build["result"], build["attempt"], build["agent"]) == ("passed", 1, "a")
    cluster.until("a", "test $(rota agents | grep -c ' up ') = 3")

    # What is kept there is entered from another agent, in a container made for it.
    assert cluster.ok("b", "rota", "shell", "beside#1", "cat", "made") == "made\n"

    # A stop is a stop: no kill after ten seconds.
    cluster.engine.request("POST", "/containers/rota-c/stop?t=60")
    state = cluster.engine.request("GET", "/containers/rota-c/json")["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False), cluster.log("c")


def test_the_files_are_what_docker_compose_would_read() -> None:
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    assert list(compose["services"]) == ["a", "b", "c"]
    for name, said in compose["services"].items():
        assert said["hostname"] == name == said["environment"]["ROTA_NAME"]
        assert (FOLDER / said["build"]["context"]).resolve() == ROOT
        assert (ROOT / said["build"]["dockerfile"]).is_file()
    founders = [it for it in compose["services"].values() if it["environment"].get("ROTA_FOUND")]
    assert len(founders) == 1
    done = subprocess.run(["sh", "-n", str(FOLDER / "start.sh")], check=False)
    assert done.returncode == 0
    assert os.access(FOLDER / "Dockerfile", os.R_OK)
