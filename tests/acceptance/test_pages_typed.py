"""Commands on pages that tell of single ones are typed, against one agent that has what they speak of.

Pages that are one story are typed by test_tutorial.py, from nothing. What is printed must have the
words that the page has: numbers, hashes, times and paths may be others. What a page calls by such a
word is called so by later commands as well, as `rota token revoke 77f0a21b90` is.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness import pages
from tests.harness.daemon import Daemon, wait_until

pytestmark = [pytest.mark.nats, pytest.mark.slow]

#: By page, what is not typed: how it begins, and why.
LEFT = {
    "access.md": {"rota login": "needs a provider of identities", "rota logout": "the same"},
    "artifacts.md": {
        "rota artifacts put": "within a build",
        "rota artifacts get web/build dist/shop.whl -o -": "into whatever there is",
    },
    "audit.md": {
        "git log": "in a clone",
        'rota audit verify --clone backup --head "$(tail': "the clone is from before the head",
    },
    "backup.md": {"rota restore": "on another machine"},
    "import.md": {
        "crontab -l": "needs a crontab",
        "rota import jenkins": "needs Jenkins' home",
        "rota import github": "needs workflows",
    },
    "operations.md": {
        "curl -s -H": "needs a public address",
        "tail -1": "where the log is",
        "journalctl": "needs journald",
    },
    "retention.md": {},
    "secrets.md": {},
    "upgrade.md": {"pip install": "would be another version"},
}
#: What these print is told of another cluster.
ELSEWHERE = ("rota audit\n", "rota du\n")
#: What is asked for at a terminal alone.
ASKED = ("value of NPM_TOKEN:", "once more:")
WORLD = """
set -e
rota agent --name here --daemon
printf 'labels = "docker"\\nslots = 3\\n' >"$ROTA_DATA/agent.toml"
printf '#!/bin/sh\\n# /// script\\n# [tool.rota]\\n# artifacts = ["dist/*"]\\n# ///\\nmkdir dist; echo x >dist/shop.whl\\n' >job
rota add web/build job
for each in 1 2 3 4 5 6; do rota run web/build; done
rota run web/build --wait
mkdir elsewhere backups .ssh
echo secret | tee token.txt >.ssh/deploy
printf 'SHELL=/bin/bash\\nMAILTO=ops@example.org\\nCRON_TZ=Europe/Berlin\\n0 2 * * 1-5 cd /srv/app && ./backup.sh\\n' >tab
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    home = tmp_path_factory.mktemp("reader")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ROTA_", "GIT_"))}
    path = f"{Path(sys.executable).parent}:{clean['PATH']}"
    data = home / "data"
    env = {**clean, "ROTA_DATA": str(data), "PATH": path, "HOME": str(home), "LC_ALL": "C.UTF-8"}
    try:
        done = typed(WORLD, env)
        assert done.returncode == 0, done.stderr
        yield env
    finally:
        if (data / "rota.sock").exists():
            Daemon(data).end()


@pytest.mark.parametrize("page", LEFT)
def test_its_commands_do_what_they_say(page: str, world: dict[str, str]) -> None:
    called: dict[str, str] = {}
    unmet = dict(LEFT[page])
    count = 0
    for command, expected in commands(page):
        start = next((it for it in LEFT[page] if command.startswith(it)), None)
        if start is not None:
            unmet.pop(start, None)
            continue
        if command.startswith("rota clone"):
            anchored(world)
        done = typed(here(command, called), world)
        told = done.stdout + done.stderr
        assert done.returncode == 0, f"$ {command}\n{told}"
        if f"{command}\n" not in ELSEWHERE:
            for line in expected:
                found = re.search(pattern(line), told, re.MULTILINE)
                assert found, f"$ {command}\n{told}\n\n{page} has: {line}"
                called.update(zip(names(line), found.groups(), strict=True))
        count += 1
    assert unmet == {}, "not on the page any more: leave it out"
    assert count


def commands(page: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each command of a page, with the lines below it: those behind a prompt, and lines for rota."""
    text = (pages.ROOT / "docs" / page).read_text()
    for block in pages.blocks(page, text):
        prompted = block.text.startswith("$ ")
        is_job = "# ///" in block.text and not prompted
        if block.language not in ("console", "indented", "sh") or is_job:
            continue
        found: list[tuple[str, list[str]]] = []
        for line in block.text.splitlines():
            if line.startswith("$ " if prompted else ("rota ", "pip ")):
                found.append((re.sub(r" {2,}# .*", "", line.removeprefix("$ ")), []))
            elif prompted and line not in ("", "…", *ASKED):
                found[-1][1].append(line)
        yield from found


def anchored(world: dict[str, str]) -> None:
    """Wait until the history says where main is, as it does a second after the last move."""
    command = 'rota audit verify --clone "$ROTA_DATA/store.git"'
    wait_until("main is in the history", lambda: typed(command, world).returncode == 0)


def here(command: str, called: dict[str, str]) -> str:
    """Return a command with this machine's folders in place of the page's, and what was called otherwise here."""
    command = re.sub(r"(?<!\S)/(?:mnt|srv)?/?(elsewhere|backups|shop)\b", r"\1", command)
    command = command.replace("~/.local/share/rota", "$ROTA_DATA")
    return re.sub(r"\S+", lambda word: called.get(word[0], word[0]), command)


def names(line: str) -> list[str]:
    return [it for it in line.split() if re.search(r"\d|^/", it) and "…" not in it]


def pattern(line: str) -> str:
    words = (
        r"[^\n]*".join(map(re.escape, it.split("…"))) if it not in names(line) else r"(\S+)"
        for it in line.split()
    )
    return r"^\s*" + r"\s+".join(words)


def typed(command: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        env=env,
        cwd=env["HOME"],
        input="value\n",
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
