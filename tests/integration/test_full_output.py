"""What a command says whose output nothing takes: a full disk, a reader that is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")
COMMANDS = (["--version"], ["help"], ["run", "--help"])


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", COMMANDS)
def test_a_full_disk_is_said_in_words(words: list[str]) -> None:
    with FULL.open("w") as out:
        done = rota(words, out.fileno())
    assert done.stderr.splitlines() == [
        "error: what this prints cannot be written: No space left on device",
        "",
        "hint: print it to where there is room",
    ]
    assert done.returncode == 3


@pytest.mark.parametrize("words", COMMANDS)
def test_a_reader_that_is_gone_is_no_fault(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = rota(words, writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def rota(words: list[str], out: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rota", *words]
    return subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
