"""The manual: a page for each command, all keys of headers and settings, and no fault in its roff."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rota.cli.table import COMMANDS
from rota.core import header, settings

PACKAGING = Path(__file__).parents[2] / "packaging"


def script(name: str) -> Any:
    """Import one of the scripts that packages are made with."""
    sys.path.insert(0, str(PACKAGING))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(PACKAGING))


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    made: dict[str, str] = script("manual").pages("1.2.3")
    return made


def test_each_command_has_its_page_and_the_first_one_names_them_all(pages: dict[str, str]) -> None:
    names = {it.name for it in COMMANDS if not it.is_hidden}
    found = {re.sub(r"rota-|\.\d$", "", name) for name in pages} - {"rota", "job", "settings"}
    assert found == names
    for name in names:
        assert f"\\fB{script('roff').escaped(f'rota-{name}')}\\fR" in pages["rota.1"]
    assert "rota-agent.8" in pages


def test_all_keys_of_headers_and_settings_are_explained(pages: dict[str, str]) -> None:
    meanings = script("meanings").HEADER
    unexplained = set(header._JOB) ^ set(meanings)
    assert not unexplained, f"packaging/meanings.py says what header keys are for: {unexplained}"
    for key in header._JOB:
        assert f"\n\\fB{key}\\fR\n" in pages["rota-job.5"]
    said = pages["rota-settings.5"]
    for key in settings._SETTINGS:
        assert f"\n\\fB{key}\\fR\n" in said or f"\n.SH [{key.upper()}]\n" in said
    assert "A log older than this is removed.\n.br\nSuch as:\n" in said
    assert "Default: 30d" in said


def test_what_begins_with_a_dot_or_a_quote_is_text() -> None:
    roff = script("roff")
    assert roff.prose(".so /etc/passwd\n'quoted' \\fB") == (
        "\\&.so /etc/passwd\n\\(aqquoted\\(aq \\efB"
    )
    assert roff.verbatim([".x"])[3] == "\\&.x"
    assert all(len(line) <= 64 for line in roff.prose("word " * 100).split("\n"))


@pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc is not installed")
def test_mandoc_finds_no_fault(pages: dict[str, str], tmp_path: Path) -> None:
    for name, text in pages.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", *pages], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout + done.stderr == ""
