"""A folder of somebody's, as those who look at projects see it: names, and the texts of small files.

Nothing here follows a link out of the folder, reads a large file, or goes on for long.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

MAX_TEXT = 1024 * 1024
MAX_FOLDERS = 2000
DEPTH = 3
GIT_S = 5.0

#: Folders that hold what tools made or fetched, not what people wrote.
MADE = frozenset(
    {
        *("node_modules", "bower_components", "vendor", "third_party", "target", "build", "out"),
        *("dist", "bin", "obj", "venv", "env", "site-packages", "__pycache__", "deps", "_build"),
        *("testdata", "fixtures", "examples", "example", "samples", "templates", "docs", "doc"),
        *("test", "tests", "spec", "src", "e2e", "jobs", "contrib"),
    }
)
_PASSWORD = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/@]*:[^/@]*@")


class Origin(NamedTuple):
    """Where a folder's code comes from; empty where it is not said."""

    url: str = ""
    branch: str = ""
    top: Path | None = None  # the work tree that the folder is in


class Folder:
    """One folder; ``path`` is what it is called from the top of its repository, ``""`` for that."""

    def __init__(self, real: Path, path: str = "") -> None:
        self.real = real
        self.path = path

    @property
    def name(self) -> str:
        """Its own name."""
        return self.real.name

    @functools.cached_property
    def files(self) -> tuple[str, ...]:
        """Names of the files in it, sorted."""
        return tuple(name for name, is_folder in self._entries if not is_folder)

    @functools.cached_property
    def folders(self) -> tuple[str, ...]:
        """Names of the folders in it, sorted; links to folders are none."""
        return tuple(name for name, is_folder in self._entries if is_folder)

    def has(self, *names: str) -> bool:
        """Whether any of these files is in it."""
        return any(name in self.files for name in names)

    def matching(self, *patterns: str) -> list[str]:
        """Return the files in it whose names fit one of the patterns."""
        return [it for it in self.files if any(fnmatchcase(it, each) for each in patterns)]

    def is_executable(self, name: str) -> bool:
        """Whether a file may be run as a program."""
        return os.access(self.real / name, os.X_OK)

    def text(self, name: str) -> str:
        """Return the text of a file: ``""`` if there is none, or it is no file, or a large one."""
        path = self.real / name
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_TEXT:
                return ""
            return path.read_text(encoding="utf-8", errors="replace").removeprefix("\ufeff")
        except (OSError, ValueError):
            return ""

    def below(self, name: str) -> Folder:
        """Return the folder ``name`` in it."""
        return Folder(self.real / name, f"{self.path}/{name}" if self.path else name)

    def walk(self, depth: int = DEPTH) -> Iterator[Folder]:
        """Yield it and those below, the near ones first; none that tools make."""
        level: Sequence[Folder] = [self]
        left = MAX_FOLDERS
        for _ in range(depth + 1):
            yield from itertools.islice(level, left)
            left -= len(level)
            if left <= 0:
                return
            level = [
                folder.below(name)
                for folder in level
                for name in folder.folders
                if name not in MADE and not name.startswith((".", "_"))
            ]

    @functools.cached_property
    def _entries(self) -> tuple[tuple[str, bool], ...]:
        try:
            with os.scandir(self.real) as entries:
                found = [(it.name, it.is_dir(follow_symlinks=False)) for it in entries]
        except OSError:
            return ()
        return tuple(sorted(found))


class Imagined(Folder):
    """A folder with these files and nothing else: of it a kind says what it takes for granted."""

    def __init__(self, files: Mapping[str, str], path: str = "") -> None:
        super().__init__(Path("/nowhere"), path)
        self._files = files

    @functools.cached_property
    def files(self) -> tuple[str, ...]:
        """Names of the files in it, sorted."""
        return tuple(sorted(self._files))

    @functools.cached_property
    def folders(self) -> tuple[str, ...]:
        """There are none."""
        return ()

    def is_executable(self, name: str) -> bool:
        """Whether a file may be run as a program: none is one."""
        return False

    def text(self, name: str) -> str:
        """Return the text of a file, ``""`` if there is none."""
        return self._files.get(name, "")

    def below(self, name: str) -> Folder:
        """Return the folder ``name`` in it: an empty one."""
        return Imagined({}, name)


def origin_of(real: Path) -> Origin:
    """Return where the code in a folder comes from, as its git says.

    Passwords in the URL are left out: they would stand in the job.
    """
    top = _git(real, "rev-parse", "--show-toplevel")
    if not top:
        return Origin()
    branch = _git(real, "symbolic-ref", "--quiet", "--short", "HEAD")
    remote = _git(real, "config", "--get", f"branch.{branch}.remote") if branch else ""
    url = _git(real, "remote", "get-url", remote if remote not in ("", ".") else "origin")
    head = _git(
        real, "symbolic-ref", "--quiet", "--short", f"refs/remotes/{remote or 'origin'}/HEAD"
    )
    main = head.partition("/")[2]
    return Origin(_PASSWORD.sub(r"\1", url), main or branch, Path(top))


def _git(real: Path, *args: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(real), *args],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
