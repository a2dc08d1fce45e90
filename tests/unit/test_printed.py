"""Where a workflow command may begin: at the start of a line, as far as that can be seen."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SAY = "from rota.cli.commands.step import print_line; print_line('::step::a')"


@contextmanager
def carried(home: Path, log: Path) -> Iterator[int]:
    """Make a build's output, and carry it to ``log`` until the end."""
    fifo = home / "output"
    os.mkfifo(fifo)
    writing = os.open(fifo, os.O_RDWR)
    reading = os.open(fifo, os.O_RDONLY)
    with log.open("ab") as file, subprocess.Popen(["cat"], stdin=reading, stdout=file):
        os.close(reading)
        only_writing = os.open(fifo, os.O_WRONLY)
        os.close(writing)
        try:
            yield only_writing
        finally:
            os.close(only_writing)


def say_on(output: int) -> None:
    subprocess.run([sys.executable, "-c", SAY], stdout=output, check=True, timeout=60)


@pytest.mark.parametrize(
    ("before", "start"), [(b"", b""), (b"one\n", b""), (b"one\ntwo", b"\n"), (b"x" * 99_999, b"\n")]
)
def test_a_command_begins_a_line_of_a_build(tmp_path: Path, before: bytes, start: bytes) -> None:
    log = tmp_path / "log"
    with carried(tmp_path, log) as output:
        os.write(output, before)
        say_on(output)
    assert log.read_bytes() == before + start + b"::step::a\n"


def test_where_the_log_cannot_be_seen_an_empty_line_comes_first(tmp_path: Path) -> None:
    with carried(tmp_path, tmp_path / "elsewhere") as output:
        say_on(output)
    assert (tmp_path / "elsewhere").read_bytes() == b"\n::step::a\n"


def test_of_any_other_pipe_nothing_is_known() -> None:
    done = subprocess.run([sys.executable, "-c", SAY], capture_output=True, check=True, timeout=60)
    assert done.stdout == b"::step::a\n"


def test_a_file_is_looked_at(tmp_path: Path) -> None:
    log = tmp_path / "file"
    log.write_bytes(b"half")
    with log.open("ab") as file:
        say_on(file.fileno())
    assert log.read_bytes() == b"half\n::step::a\n"
