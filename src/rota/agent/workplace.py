"""The folders of attempts on this agent's disk.

::

    builds/<id>/<attempt>/   the attempt's own: log, and what its executor keeps
        work/                the workspace, where the script starts
        tmp/                 TMPDIR
    builds/.trash/           homes that are on their way out
    builds/.spare/           homes that nothing was left in, to be used again
    scripts/<blob>/<name>    scripts by content, shared by all builds that run them
    bin/rota                 the command line, for scripts
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import sys
from pathlib import Path

from rota.agent.spares import Spares
from rota.errors import ExecutionError

logger = logging.getLogger(__name__)

#: Scripts of former definitions are kept this many deep; beyond, they are written again when needed.
MAX_SCRIPTS = 2000


class Workplace:
    """Makes, finds and removes the folders of attempts."""

    def __init__(self, data: Path) -> None:
        self.builds = data / "builds"
        self.bin = data / "bin"
        self._scripts = data / "scripts"
        self._written: dict[str, None] = {}
        self._trash = self.builds / ".trash"
        self._spares = Spares(self.builds / ".spare")
        self._thrown = itertools.count()
        for folder in (self.builds, self._trash, self.bin, self._scripts):
            folder.mkdir(mode=0o700, exist_ok=True)
        _link_command(self.bin / "rota")
        self._forget_scripts_of_before()

    def home(self, build: str, attempt: int) -> Path:
        """Return an attempt's folder, whether it exists or not."""
        return self.builds / build / str(attempt)

    def make(self, home: Path) -> None:
        """Make an attempt's folder.

        Raises:
            ExecutionError: it exists, or the disk cannot take it.
        """
        build, attempt = os.path.split(home)
        if attempt == "1" and not os.path.lexists(build) and self._spares.take(build):
            return
        try:
            home.parent.mkdir(mode=0o700, exist_ok=True)
            home.mkdir(mode=0o700)
            work(home).mkdir()
            tmp(home).mkdir()
        except OSError as error:
            raise ExecutionError(f"cannot make the workspace {home}: {error.strerror}") from error

    def empty(self, home: Path) -> None:
        """Make an attempt's workspace empty again. Cost: that of its files; not for the event loop.

        Raises:
            ExecutionError: the disk cannot take it.
        """
        for folder in (work(home), tmp(home)):
            shutil.rmtree(folder, ignore_errors=True)
            try:
                folder.mkdir(exist_ok=True)
            except OSError as error:
                raise ExecutionError(f"cannot make {folder}: {error.strerror}") from error

    def script(self, blob: str, name: str, data: bytes) -> Path:
        """Return an executable file with a script's bytes, written once for all builds.

        Raises:
            ExecutionError: the disk cannot take it.
        """
        path = self._scripts / blob / name
        key = f"{blob}/{name}"
        if key not in self._written:
            try:
                _write_executable(path, data)
            except OSError as error:
                raise ExecutionError(f"cannot write the script {path}: {error.strerror}") from error
            self._written[key] = None
            self._forget_old_scripts()
        return path

    def clean_bare(self, home: Path, *, is_alone: bool = False) -> bool:
        """Remove an attempt's folder if its script left no files; say whether that was so.

        Args:
            home: The folder.
            is_alone: Whether surely no process of the attempt is left, so that it may be used again.

        Cost: a tenth of a millisecond, a quarter of what :meth:`clean` takes for the same.
        """
        build, attempt = os.path.split(home)
        if is_alone and attempt == "1":
            if self._spares.put(build):
                return True
        else:
            self._spares.forget(build)
        try:
            for folder in (work(home), tmp(home)):
                folder.rmdir()
            for name in os.listdir(home):  # noqa: PTH208 - half the cost of Path.iterdir
                os.unlink(f"{home}/{name}")  # noqa: PTH108 - likewise
            home.rmdir()
        except OSError:
            return False  # it holds more, or is half gone: `clean` takes it as it is
        _remove_if_empty(home.parent)
        return True

    def throw_away(self, home: Path) -> None:
        """Move an attempt's folder to the trash. Cost: the same for any number of files."""
        # The number alone may be that of something a former daemon could not remove.
        name = f"{home.parent.name}.{home.name}.{os.getpid()}.{next(self._thrown)}"
        try:
            self._spares.forget(str(home.parent))
            home.rename(self._trash / name)
        except OSError as error:
            logger.warning("%s cannot be removed: %s", home, error.strerror)
        _remove_if_empty(home.parent)

    def trash(self) -> list[Path]:
        """Return what is on its way out."""
        return list(self._trash.iterdir())

    def homes(self) -> list[tuple[str, int, Path]]:
        """Return build, attempt and folder of all attempts that have one."""
        return [
            (build.name, int(home.name), home)
            for build in self.builds.iterdir()
            if build.is_dir() and not build.name.startswith(".")
            for home in build.iterdir()
            if home.is_dir() and home.name.isdigit()
        ]

    def _forget_scripts_of_before(self) -> None:
        """Remove all but the newest that former daemons wrote: nobody else counts those."""
        try:
            found = [(it.stat().st_mtime, it.path) for it in os.scandir(self._scripts)]
        except OSError:
            return
        for _, path in sorted(found)[:-MAX_SCRIPTS]:
            shutil.rmtree(path, ignore_errors=True)

    def _forget_old_scripts(self) -> None:
        while len(self._written) > MAX_SCRIPTS:
            oldest = next(iter(self._written))
            del self._written[oldest]
            shutil.rmtree((self._scripts / oldest).parent, ignore_errors=True)


def work(home: Path) -> Path:
    """Return the workspace within an attempt's folder."""
    return home / "work"


def tmp(home: Path) -> Path:
    """Return the folder for temporary files within an attempt's folder."""
    return home / "tmp"


def _write_executable(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    # Written aside and moved: a daemon that dies half-way leaves no half script to run.
    aside = path.with_name(path.name + ".new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o755)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    finally:
        aside.chmod(0o755)
    aside.rename(path)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # another attempt's folder is still in it


def _link_command(link: Path) -> None:
    """Put `rota` on the scripts' path, whatever the daemon's own path is."""
    command = Path(sys.executable).parent / "rota"
    text = f'#!/bin/sh\nexec "{sys.executable}" -m rota "$@"\n'
    if command.exists():
        text = f'#!/bin/sh\nexec "{command}" "$@"\n'
    if not link.exists() or link.read_text() != text:
        _write_executable(link, text.encode())
