"""The first screen of README.md is typed, from the agent to the history in git."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
from tests.harness import pages
from tests.harness.daemon import Daemon, wait_until

pytestmark = [pytest.mark.nats, pytest.mark.slow]

HOST = re.compile(r"^here\b")
NUMBER = re.compile(r"[0-9a-f]{10}|\d[\d.]*")


def test_the_first_build_is_as_it_stands_there(tmp_path: Path) -> None:
    text = (pages.ROOT / "README.md").read_text()
    block = next(it for it in pages.blocks("README.md", text) if it.language == "console")
    typed: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            typed.append((line[2:], []))
        else:
            typed[-1][1].append(line)
    commands = [command.split()[:2] for command, _ in typed]
    assert commands[:4] == [
        ["rota", "agent"],
        ["cat", "unit-test"],
        ["rota", "add"],
        ["rota", "run"],
    ]

    script = next(expected for command, expected in typed if command == "cat unit-test")
    (tmp_path / "unit-test").write_text("\n".join([*script, ""]))
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ROTA_", "GIT_"))}
    data = tmp_path / ".local" / "state" / "rota"  # root's would be the machine's
    env = {
        **clean,
        "HOME": str(tmp_path),
        "ROTA_DATA": str(data),
        "PATH": f"{Path(sys.executable).parent}:{clean['PATH']}",
        "LC_ALL": "C.UTF-8",
    }
    try:
        for command, expected in typed:
            told = typed_in(command, env, tmp_path)
            if command.startswith("git "):
                # Within a second of a build's end it is in the history: nobody types faster.
                told = wait_until(
                    "it is in the history", partial(typed_in, command, env, tmp_path), 20
                )
            for line in expected:
                assert line == "…" or re.search(pattern(line, tmp_path), told, re.MULTILINE), (
                    f"$ {command}\n{told}\n\nREADME.md has: {line}"
                )
    finally:
        if (data / "rota.sock").exists():
            Daemon(data).end()


def typed_in(command: str, env: Mapping[str, str], folder: Path) -> str:
    """Return what a command that goes well prints."""
    done = subprocess.run(
        ["bash", "-c", command],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    told = (done.stdout + done.stderr).strip()
    assert done.returncode == 0, f"$ {command}\n{told}"
    return told


def pattern(line: str, home: Path) -> str:
    """Return what a line may be elsewhere: another host's name, other numbers and hashes."""
    line = line.replace("/home/anna", str(home))
    line = HOST.sub("HOST", re.escape(line))
    return "^" + NUMBER.sub(r"[0-9a-f.]+", line).replace("HOST", r"\S+") + "$"
