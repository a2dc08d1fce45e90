"""The sh that containers are begun with: this machine's own, with its loader and its libraries.

An image may have no shell, or another C library. A program together with the loader and the
libraries it was linked with runs in any of them, since only the kernel is shared: a copy of those
three or four files, 2 MB, is mounted into each container. So the supervisor is the same everywhere.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

from rota.errors import ExecutionError

SUPERVISOR = Path(__file__).with_name("contain.sh")
#: What of a death by signal sh itself speaks of; others are taken by their number.
_TELLING = {"dash", "ash", "bash", "busybox"}
_INTERP = 3
_LISTED = re.compile(r"^\s*\S+ => (/\S+)", re.MULTILINE)


class Shell(NamedTuple):
    """Where the copies are, and what to run."""

    folder: Path
    words: tuple[str, ...]
    tells_signals: bool

    @property
    def supervisor(self) -> str:
        """The script of a container's first process."""
        return str(self.folder / SUPERVISOR.name)


def bring(folder: Path, shell: str = "/bin/sh") -> Shell:
    """Copy ``shell`` and all it needs into a folder below ``folder``, unless it is there.

    Returns:
        The words that run it from there, whatever else there is.

    Raises:
        ExecutionError: it is no program of 64 bits, or the disk cannot take it.

    Cost: 5 ms, and 20 more the first time; not for the event loop.
    """
    try:
        program = Path(shell).resolve(strict=True)
        data = program.read_bytes()
        loader = _loader(data)
        libraries = _libraries(loader, program) if loader else []
        supervisor = SUPERVISOR.read_bytes()
        mark = hashlib.sha256(supervisor + data + repr(libraries).encode()).hexdigest()[:16]
        place = folder / mark
        files = [program, SUPERVISOR, *libraries, *([Path(loader)] if loader else [])]
        if not place.exists():
            _copy(files, place)
    except (OSError, subprocess.SubprocessError, struct.error) as error:
        raise ExecutionError(f"cannot bring {shell} into containers: {error}") from error
    words: tuple[str, ...] = (str(place / program.name),)
    if loader:
        words = (str(place / Path(loader).name), "--library-path", str(place), *words)
    return Shell(place, words, program.name in _TELLING)


def _loader(elf: bytes) -> str:
    """Return the loader that a program names; empty for a static one."""
    if elf[:5] != b"\x7fELF\x02":
        raise OSError("it is no program of 64 bits")
    (offset,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    for head in range(offset, offset + size * count, size):
        kind, _, at, _, _, length = struct.unpack_from("<IIQQQQ", elf, head)
        if kind == _INTERP:
            return elf[at : at + length].rstrip(b"\0").decode()
    return ""


def _libraries(loader: str, program: Path) -> list[Path]:
    listed = subprocess.run(
        [loader, "--list", str(program)], capture_output=True, text=True, check=True, timeout=10
    )
    return [Path(path) for path in _LISTED.findall(listed.stdout)]


def _copy(files: list[Path], place: Path) -> None:
    # Made aside and moved: a daemon that dies half-way leaves no half of it.
    aside = place.with_name(f"{place.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for file in files:
        shutil.copy(file, aside / file.name)
        (aside / file.name).chmod(0o755)
    place.parent.chmod(0o755)
    aside.chmod(0o755)
    aside.rename(place)
