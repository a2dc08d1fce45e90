"""Pages for readers are run, top to bottom, as they would be typed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.daemon import Daemon

ROOT = Path(__file__).parents[2]
PAGES = ("tutorial/first-build.md", "pipelines.md", "builders.md")
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = [pytest.mark.nats, pytest.mark.slow]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of somebody who reads it: an own data folder, rota and git on the path."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ROTA_", "GIT_"))}
    data = tmp_path / "data"
    yield {
        **clean,
        "ROTA_DATA": str(data),
        "PATH": f"{Path(sys.executable).parent}:{clean['PATH']}",
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
    }
    if (data / "rota.sock").exists():
        Daemon(data).end()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(page: str, reader: dict[str, str], tmp_path: Path) -> None:
    count = 0
    for language, words, text in BLOCK.findall((ROOT / "docs" / page).read_text()):
        if language == "sh" and "file=" in words:
            (tmp_path / words.partition("file=")[2].strip()).write_text(text)
        elif language == "console":
            for command, expected in commands(text):
                check(command, expected, "fails" in words, reader, tmp_path)
                count += 1
    assert count > 8


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Return each command of a console block with the lines that should follow it."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def check(
    command: str, expected: list[str], fails: bool, env: dict[str, str], folder: Path
) -> None:
    done = subprocess.run(
        ["bash", "-c", command],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode != 0) == fails, f"$ {command}\n{done.stdout}{done.stderr}"
    lines = done.stdout.splitlines() or done.stderr.splitlines()
    pattern = "\n".join(".*" if line == "…" else as_pattern(line) for line in expected)
    if expected:
        assert re.fullmatch(pattern, "\n".join(lines), re.DOTALL), f"$ {command}\n" + "\n".join(
            lines
        )


def as_pattern(line: str) -> str:
    """Return a line as a pattern: `…` stands for anything in it."""
    return r"[^\n]*".join(map(re.escape, line.split("…")))
