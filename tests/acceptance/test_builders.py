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
from tests.harness.daemon import ROTA, Daemon, daemon
from tests.harness.projects import PROJECTS, Small, cloned, commit

pytestmark = [pytest.mark.nats, pytest.mark.slow]

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
    done = here.run("run", job, *args, *params, "--wait", "--json")
    assert done.returncode in (0, 1), done.stderr
    build: dict[str, Any] = json.loads(done.stdout)
    return build, here.ok("log", build["id"])


@pytest.mark.timeout(240)
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


def test_the_templates_without_a_tool_here_are_these() -> None:
    """What cannot be installed from where the tests are run is looked at by its text alone."""
    from rota.builders.catalogue import KINDS

    assert set(KINDS) - set(PROJECTS) == {"sbt", "dotnet", "docker"}
