"""Each template builds a real project, with the real tool, on a real agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness import engines
from tests.harness.daemon import ROTA, Daemon, daemon
from tests.harness.projects import PROJECTS, Small, cloned, commit, lay

#: Compilers on a machine that others use too take their time.
pytestmark = [pytest.mark.nats, pytest.mark.slow, pytest.mark.timeout(240)]

#: Debian's repository of Java libraries stands for the one in the network.
SETTINGS = """<settings><mirrors><mirror><id>here</id><mirrorOf>*</mirrorOf>
<url>file:///usr/share/maven-repo</url></mirror></mirrors></settings>
"""
FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
#: Where this machine has packages from, and whom it believes.
PASSED = ("SSL_CERT_FILE", "PIP_CERT", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "NODE_EXTRA_CA_CERTS")
OURS = str(Path(sys.executable).parent)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """An agent whose builds find what this project installs for its tests, too."""
    folder = tmp_path_factory.mktemp("builders")
    with daemon(folder / "data") as running:
        (folder / "settings.xml").write_text(SETTINGS)
        clone = folder / "definitions"
        running.ok("clone", str(clone))
        env = {name: value for name, value in os.environ.items() if name in PASSED}
        settings = f"path = {json.dumps([*FOLDERS, OURS])}\n[env]\n" + "".join(
            f"{name} = {json.dumps(value)}\n"
            for name, value in {**env, "UV_SYSTEM_CERTS": "1"}.items()
        )
        commit(clone, {"settings.toml": settings}, "where programs are")
        yield running


def new(folder: Path, *args: str) -> str:
    """Return the job that ``rota new`` makes of a folder."""
    done = subprocess.run(
        [str(ROTA), "new", *args], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def skip_without(kind: str, small: Small) -> None:
    folders = (*FOLDERS, OURS, Path.home() / ".cargo" / "bin")
    for program in small.needs:
        if not any(os.access(Path(folder, program), os.X_OK) for folder in folders):
            pytest.skip(f"no {program} where builds find their programs")
    if kind in ("maven", "gradle") and not Path("/usr/share/maven-repo/junit").exists():
        pytest.skip("no JUnit in Debian's Maven repository")


def built(here: Daemon, job: str, small: Small, *params: str) -> tuple[dict[str, Any], str]:
    """Run a job to its end; return the build and its log."""
    args = (
        [f"args={small.args.replace('SETTINGS', str(here.data.parent / 'settings.xml'))}"]
        if small.args
        else []
    )
    asked = here.json("run", job, *args, *params)["id"]

    build: dict[str, Any] = {}
    while build.get("state") != "finished":  # the test's own time is the limit
        build = here.json("show", asked, "--wait", "60")
    return build, here.ok("log", asked)


@pytest.mark.parametrize("kind", PROJECTS)
def test_a_project_is_built_and_a_broken_one_is_not(
    kind: str, here: Daemon, tmp_path: Path
) -> None:
    small = PROJECTS[kind]
    skip_without(kind, small)
    folder = cloned(tmp_path / kind, small.files)
    job = f"{kind}/build"
    script = new(folder, kind)
    for old, by in small.edits:
        assert old in script
        script = script.replace(old, by)
    here.add(job, script)

    build, log = built(here, job, small)
    assert build["result"] == "passed", log
    assert small.says in log
    left = {it["path"] for it in here.json("artifacts", build["id"])}
    assert left >= set(small.leaves)

    if not small.broken:
        return
    commit(folder, small.broken, "one test fails")
    build, log = built(here, job, small)
    assert (build["result"], build["reason"]) == ("failed", "script"), log
    if small.counts:
        tests = here.build(build["id"])["tests"]
        assert (tests["passed"] + tests["failed"], tests["failed"]) == small.counts, tests
        assert small.names in json.dumps(tests["failures"]), tests


def test_a_matrix_is_a_build_for_each(here: Daemon, tmp_path: Path) -> None:
    small = PROJECTS["cmake"]
    skip_without("cmake", small)
    folder = cloned(tmp_path / "cmake", small.files)
    here.add("cmake/matrix", new(folder, "cmake", "build_type=Debug,MinSizeRel"))
    build, _ = built(here, "cmake/matrix", small)
    assert (build["result"], build["reason"]) == ("passed", "group")
    logs = [here.ok("log", f"cmake/matrix#{build['number'] - n}") for n in (1, 2)]
    for log in logs:
        assert "100% tests passed" in log


@pytest.fixture(scope="module")
def with_engine(
    tmp_path_factory: pytest.TempPathFactory, docker_engine: engines.Engine
) -> Iterator[Daemon]:
    """An agent with an engine that has one image, under the name that templates ask for."""
    docker_engine.of_packages("python:3.11", *engines.PYTHON, "python3-venv", "python3-pip")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", docker_engine.url)
        with daemon(tmp_path_factory.mktemp("containers") / "data") as running:
            yield running


def test_a_project_is_built_in_a_container(with_engine: Daemon, tmp_path: Path) -> None:
    test = "import unittest\n\n\nclass Sum(unittest.TestCase):\n    def test_adds(self):\n        "
    files = {"requirements.txt": "", "test_sum.py": f"{test}self.assertEqual(1 + 1, 2)\n"}
    folder = cloned(tmp_path / "shop", files)
    script = new(folder, "pip", "--container", "python=3.11")
    assert '# image = "python:3.11"' in script
    with_engine.add("shop/build", script)
    build, log = built(with_engine, "shop/build", PROJECTS["pip"])
    assert build["result"] == "passed", log
    assert "Python 3.11" in log
    assert "test_adds (test_sum.Sum" in log


#: As much of docker as the templates ask; it keeps what it is told.
DOCKER = """#!/bin/sh
echo "$*" >>{told}
case $1 in
  login) cat >>{told} ;;
  build) test -e Dockerfile && ! grep -q broken Dockerfile ;;
esac
"""


def test_images_are_built_and_pushed_by_what_is_told_to_docker(
    here: Daemon, tmp_path: Path
) -> None:
    """No registry can be had here: what the engine would do is its own."""
    told = tmp_path / "told"
    path = lay(tmp_path / "tools", {"docker": DOCKER.format(told=told)})
    folder = cloned(tmp_path / "shop", {"app/Dockerfile": "FROM debian\n"})
    for kind in ("docker", "deploy-image"):
        script = new(folder / "app", kind, "image=registry.example.com/team/shop")
        assert '# labels = "docker"\n' in script
        script = script.replace('# labels = "docker"\n', "")
        here.add(f"shop/{kind}", script.replace("\ncd app\n", f"\nPATH={path}:$PATH\ncd app\n"))
    assert here.run("run", "shop/docker", "--wait").returncode == 0
    assert here.run("run", "shop/deploy-image", "version=1.4", "--wait").returncode == 0
    here.ok("secret", "set", "REGISTRY_PASSWORD", "--file", "-", stdin="hidden-1234")
    assert here.run("run", "shop/deploy-image", "version=1.5", "--wait").returncode == 0
    lines = told.read_text().splitlines()
    image = "registry.example.com/team/shop"
    assert lines[0] == f"build --pull --file Dockerfile --tag {image}:build-1 ."
    pushed = [line for line in lines if line.startswith("push")]
    assert pushed == [f"push {image}:{tag}" for tag in ("1.4", "latest", "1.5", "latest")]
    login = lines.index("login --username rota --password-stdin registry.example.com")
    assert lines[login + 1] == "hidden-1234"
    assert "hidden-1234" not in here.ok("log", "shop/deploy-image#2")
    commit(folder, {"app/Dockerfile": "broken\n"}, "it does not build")
    assert here.run("run", "shop/deploy-image", "version=1.6", "--wait").returncode == 1
    assert f"push {image}:1.6" not in told.read_text()


def test_the_templates_without_a_tool_here_are_these() -> None:
    """What cannot be installed from where the tests are run is looked at by its text alone."""
    from rota.builders.catalogue import KINDS

    assert set(KINDS) - set(PROJECTS) == {"sbt", "dotnet", "docker"}
