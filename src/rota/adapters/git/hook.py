"""The pre-receive hook: refuses a push whose definitions have faults, and says each of them.

Runs as ``python -m rota.adapters.git.hook`` inside git's quarantine. It reads ``old new ref`` lines
and prints problems to standard error, which git shows as ``remote: …``. Only what the push changes
is looked at, so that a fault that was there before does not stop the push that mends another.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Set
from typing import IO

from rota.core.definition_file import CALENDARS, FOLDERS, JOBS, MAX_BYTES, SETTINGS, is_definition
from rota.core.definitions import check_changes
from rota.core.problem import Problem
from rota.core.secrets import SECRETS
from rota.core.users import USERS

MAIN = "refs/heads/main"
#: So many problems help; more scroll away what matters.
MAX_SHOWN = 50
_FOLDERS = tuple(folder.rstrip("/") for folder in FOLDERS)
_NONE = "0" * 40
_KINDS = {"120000": "a symbolic link", "160000": "a submodule"}


def main() -> int:
    """Check the push on standard input; return the exit status, 1 to refuse all of it."""
    faults = [text for line in sys.stdin for text in check_push(*line.split())]
    for text in faults[:MAX_SHOWN]:
        print(text.encode("utf-8", "backslashreplace").decode(), file=sys.stderr)  # noqa: T201  # to whom pushes
    if len(faults) > MAX_SHOWN:
        print(f"and {len(faults) - MAX_SHOWN} more", file=sys.stderr)  # noqa: T201  # to whom pushes
    return 1 if faults else 0


def check_push(old: str, new: str, ref: str) -> list[str]:
    """Return what is wrong with moving ``ref`` from ``old`` to ``new``, one text a fault."""
    if ref != MAIN:
        return [f"only {MAIN} can be pushed, {ref} cannot"]
    if new == _NONE:
        return [f"{MAIN} cannot be deleted"]
    before = {} if old == _NONE else _entries(old)
    after = _entries(new)
    changed = {path: entry for path, entry in after.items() if before.get(path) != entry}
    problems = list(_mode_problems(changed))
    blobs = {path: blob for path, (mode, blob) in changed.items() if mode.startswith("100")}
    contents = _contents(blobs)
    others = _users(before, after)
    removed = before.keys() - after.keys()
    problems += check_changes(
        contents,
        after,
        others,
        _settings(after, contents),
        _needing(after, changed.keys() | removed),
        removed,
        _secrets(after),
        _people(after, changed.keys()),
    )
    return [str(problem) for problem in sorted(problems)]


def _settings(after: dict[str, tuple[str, str]], contents: dict[str, bytes | None]) -> bytes:
    """Return the settings after the push; empty where there are none."""
    found = contents.get(SETTINGS)
    if found is None and (entry := after.get(SETTINGS)) is not None:
        found = _contents({SETTINGS: entry[1]})[SETTINGS]
    return found or b""


def _secrets(after: dict[str, tuple[str, str]]) -> dict[str, bytes]:
    """Return the secrets after the push, their values as they are: encrypted."""
    blobs = {path: blob for path, (_, blob) in after.items() if path.startswith(SECRETS)}
    return {path: data for path, data in _contents(blobs).items() if data is not None}


def _people(after: dict[str, tuple[str, str]], changed: Set[str]) -> dict[str, bytes]:
    """Return the users that stay as they are, if any other changes: two may claim the same."""
    if not any(path.startswith(USERS) for path in changed):
        return {}
    blobs = {
        path: blob
        for path, (mode, blob) in after.items()
        if path.startswith(USERS) and path not in changed and mode.startswith("100")
    }
    return {path: data for path, data in _contents(blobs).items() if data is not None}


def _needing(after: dict[str, tuple[str, str]], moved: Set[str]) -> dict[str, bytes]:
    """Return the jobs that stay as they are and may need others, if any job changes or goes."""
    if not any(path.startswith(JOBS) for path in moved):
        return {}
    blobs = {
        path: blob
        for path, (mode, blob) in after.items()
        if path.startswith(JOBS) and path not in moved and mode.startswith("100")
    }
    found = _contents(blobs)
    return {path: data for path, data in found.items() if data is not None and b"needs" in data}


def _users(
    before: dict[str, tuple[str, str]], after: dict[str, tuple[str, str]]
) -> dict[str, bytes]:
    """Return what may name a calendar, a limit or a secret, path -> bytes, if these change.

    Only files that stay as they are.
    """
    named = {it for it in before | after if it.startswith((CALENDARS, SECRETS)) or it == SETTINGS}
    if all(before.get(it) == after.get(it) for it in named):
        return {}
    staying = {
        path: blob
        for path, (mode, blob) in after.items()
        if path.startswith((JOBS, CALENDARS)) and mode.startswith("100")
        if before.get(path) == (mode, blob)
    }
    return {path: data for path, data in _contents(staying).items() if data is not None}


def _entries(commit: str) -> dict[str, tuple[str, str]]:
    """Return path -> (mode, hash) for the definitions of a commit."""
    args = ("ls-tree", "-r", "-z", "--full-tree", commit, *_FOLDERS, "settings.toml")
    found = {}
    for line in _git(*args).split(b"\0"):
        about, _, name = line.partition(b"\t")
        path = name.decode("utf-8", "surrogateescape")
        if is_definition(path) or path in _FOLDERS:
            mode, _, blob = about.decode().split(" ")
            found[path] = (mode, blob)
    return found


def _mode_problems(entries: dict[str, tuple[str, str]]) -> Iterator[Problem]:
    for path, (mode, _) in entries.items():
        if mode in _KINDS:
            yield Problem(path, 0, 0, f"{_KINDS[mode]} cannot be a definition")
        elif path in _FOLDERS:
            yield Problem(path, 0, 0, "a file where a folder should be")


def _contents(blobs: dict[str, str]) -> dict[str, bytes | None]:
    """Return path -> bytes, cut one byte after what a definition may have at most."""
    with subprocess.Popen(
        ["git", "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as git:
        assert git.stdin is not None
        assert git.stdout is not None
        found: dict[str, bytes | None] = {}
        for path, blob in blobs.items():
            git.stdin.write(f"{blob}\n".encode())
            git.stdin.flush()
            found[path] = _content(git.stdout)
    return found


def _content(out: IO[bytes]) -> bytes:
    size = int(out.readline().split()[2])
    data = out.read(min(size, MAX_BYTES + 1))
    rest = size - len(data) + 1
    while rest:
        rest -= len(out.read(min(rest, 1 << 20)))
    return data


def _git(*args: str) -> bytes:
    return subprocess.run(["git", *args], stdout=subprocess.PIPE, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
