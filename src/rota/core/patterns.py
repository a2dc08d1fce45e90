"""Patterns: globs of names and of files, and regular expressions, none of which text can make slow.

A list of globs is read in its order and the last one that fits decides; ``!`` in front turns one
round. A list that begins with such a one starts from everything.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

#: Longer texts are not looked at: nobody says so much in a line.
MAX_TEXT = 4096


def matches(globs: Sequence[str], name: str) -> bool:
    """Whether a name, such as a branch, fits a list of globs; ``*`` stands for slashes, too."""
    is_in = bool(globs) and globs[0].startswith("!")
    for glob in globs:
        if fnmatchcase(name, glob.removeprefix("!")):
            is_in = not glob.startswith("!")
    return is_in


def files_match(globs: tuple[str, ...], files: Iterable[str]) -> bool:
    """Whether any of the files fits a list of globs, which mean what they mean in ``.gitignore``."""
    spec = _files(globs)
    return any(spec.match_file(file) for file in files)


@functools.lru_cache(maxsize=1024)
def _files(globs: tuple[str, ...]) -> Any:
    import pathspec  # 30 ms, which most starts do not need

    lines = ("**", *globs) if globs[0].startswith("!") else globs
    return pathspec.PathSpec.from_lines("gitignore", lines)


def regex_fault(pattern: str) -> str | None:
    """Say what is wrong with a regular expression (RE2: no look-around), or ``None``."""
    import re2

    try:
        _compiled(pattern)
    except re2.error as error:
        text = error.args[0] if error.args else error
        return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return None


def groups(pattern: str, text: str) -> dict[str, str] | None:
    """Return what the groups of a regular expression caught, if it fits the whole text.

    By name, and by number from 1; a group that caught nothing is empty.
    """
    if len(text) > MAX_TEXT:
        return None
    found = _compiled(pattern).fullmatch(text)
    if found is None:
        return None
    numbered = {str(n): group or "" for n, group in enumerate(found.groups(), 1)}
    return numbered | {name: group or "" for name, group in found.groupdict().items()}


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    return re2.compile(pattern, options)
