"""Which files of a workspace a glob means: regular ones, inside of it, of this attempt."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

#: Of one key of the header.
MAX_FILES = 20_000
#: Files are written a little before the clock that dates them says so.
CLOCK_S = 2.0


class Files:
    """Finds files, and says what is wrong with others: each in a sentence, given to ``remark``."""

    def __init__(self, workspace: Path, since: float, remark: Callable[[str], None]) -> None:
        self.root = workspace.resolve()
        self._since = since - CLOCK_S
        self._remark = remark

    def find(self, key: str, patterns: tuple[str, ...], *, stale: bool) -> Iterator[Path]:
        """Yield the files that match, each once, sorted for each pattern."""
        seen: set[Path] = set()
        for pattern in patterns:
            old: list[Path] = []
            matched = False
            for path in self._matching(pattern):
                matched = True
                if path in seen:
                    continue
                if len(seen) >= MAX_FILES:
                    self._remark(f"{key}: more than {MAX_FILES} files match, the others are left")
                    return
                seen.add(path)
                fault, is_old = self._look(path)
                if fault:
                    self._remark(f"{key}: {self.name(path)} {fault}")
                elif is_old and not stale:
                    old.append(path)
                else:
                    yield path
            if not matched:
                self._remark(f"{key}: nothing matches {pattern!r}")
            elif old:
                self._say_old(key, old)

    def name(self, path: Path) -> str:
        """Return how to call a file: its path below the workspace, as text whatever its bytes."""
        below = path.relative_to(self.root) if path.is_relative_to(self.root) else Path(path.name)
        return os.fsencode(below).decode("utf-8", "backslashreplace")

    def open(self, path: Path) -> int:
        """Return a descriptor of a file; what is there by now may be another than was found.

        Raises:
            OSError: it cannot be opened, or is no regular file.
        """
        real = path.resolve()
        if not real.is_relative_to(self.root):
            raise OSError(0, "it is not in the workspace any more")
        fd = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(0, "no regular file")
        return fd

    def _matching(self, pattern: str) -> list[Path]:
        try:
            return sorted(self.root.glob(pattern))
        except (OSError, ValueError, NotImplementedError) as error:
            self._remark(f"the pattern {pattern!r} cannot be looked for: {error}")
            return []

    def _look(self, path: Path) -> tuple[str, bool]:
        """Return what is wrong with a file, and whether it is from before the attempt."""
        try:
            real = path.resolve(strict=True)
            if not real.is_relative_to(self.root):
                return "is a link that leads out of the workspace: it is not read", False
            found = real.stat()
        except (OSError, RuntimeError) as error:
            return f"cannot be read: {getattr(error, 'strerror', None) or error}", False
        if stat.S_ISDIR(found.st_mode):
            return "is a folder; name the files in it, such as " + repr(
                f"{self.name(path)}/*.xml"
            ), False
        if not stat.S_ISREG(found.st_mode):
            return "is no regular file: it is not read", False
        return "", found.st_mtime < self._since

    def _say_old(self, key: str, old: list[Path]) -> None:
        more = f" and {len(old) - 1} more" if len(old) > 1 else ""
        verb = "are" if len(old) > 1 else "is"
        self._remark(
            f"{key}: {self.name(old[0])}{more} {verb} from before this attempt, left over in the"
            " workspace or a cache: not counted (stale = true counts it)"
        )
