"""What an attempt sees of the machine's files: other temporary folders, and nothing of other builds."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rota.adapters.process.accounts import Account
from rota.errors import ExecutionError

#: Where a view is put together: one of these is no part of it, and is as before afterwards.
_STAGES = ("/mnt", "/media", "/srv", "/opt", "/run", "/var", "/home")
_SHARED_TMP = ("/tmp", "/var/tmp")  # noqa: S108 - these are to be hidden
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - likewise


class View(NamedTuple):
    """Folders that are replaced, by what: a folder of the attempt's, or "" for an empty one.

    What is in ``shown`` is where it was all the same.
    """

    replaced: dict[Path, str]
    shown: tuple[Path, ...]


def view_of(
    data: Path, shown: Iterable[Path], runtime: Iterable[Path], account: Account, tmp: Path | None
) -> View:
    """Return what an attempt is to see.

    Args:
        data: The agent's data folder: of it there is only what is ``shown``.
        shown: Folders the attempt needs.
        runtime: Folders that rota's own command line needs.
        account: Who it runs as: what that user could not pass through is replaced too.
        tmp: What takes the place of the temporary folders that all share; ``None`` leaves them.
    """
    needed = [_real(path) for path in [*shown, *runtime]]
    replaced: dict[Path, str] = {_real(data): ""}
    if tmp is not None:
        replaced |= {_real(Path(each)): str(tmp) for each in _SHARED_TMP if os.path.isdir(each)}  # noqa: PTH112
        if os.path.isdir(_SHARED_MEMORY):  # noqa: PTH112
            replaced[_real(Path(_SHARED_MEMORY))] = ""
    for path in needed:
        if (closed := closed_to(path, account)) is not None:
            replaced.setdefault(closed, "")
    outer = {
        root: base
        for root, base in replaced.items()
        if not any(root != other and root.is_relative_to(other) for other in replaced)
    }
    inside = {path for path in needed if any(path.is_relative_to(root) for root in outer)}
    least = [p for p in inside if not any(p != o and p.is_relative_to(o) for o in inside)]
    return View(outer, tuple(sorted(least)))


def steps(view: View) -> Iterator[str]:
    """Yield the words for ``confine.sh`` that make a view."""
    stage = _stage([*view.replaced, *view.shown])
    yield from ("tmpfs", stage, "755")
    for number, (root, base) in enumerate(view.replaced.items()):
        at = f"{stage}/{number}"
        if base:
            yield from ("bind", base, at)
        else:
            yield from ("tmpfs", at, "1777" if str(root) == _SHARED_MEMORY else "755")
        for path in view.shown:
            if path.is_relative_to(root):
                yield from (
                    "bind",
                    str(path),
                    at if path == root else f"{at}/{path.relative_to(root)}",
                )
    for number, root in enumerate(view.replaced):
        yield from ("place", f"{stage}/{number}", str(root))
    yield from ("unplace", stage)


def closed_to(path: Path, account: Account) -> Path | None:
    """Return the outermost folder above ``path`` that a user cannot pass through; ``None`` if none."""
    for folder in reversed(path.parents):
        try:
            status = folder.stat()
        except OSError:
            return None
        if not _may_pass(status, account):
            return folder
    return None


def _may_pass(status: os.stat_result, account: Account) -> bool:
    if account.uid == 0:
        return True
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid in account.groups:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _stage(used: Sequence[Path]) -> str:
    for name in _STAGES:
        stage = Path(name)
        is_apart = not any(stage.is_relative_to(p) or p.is_relative_to(stage) for p in used)
        if is_apart and stage.is_dir() and not stage.is_symlink():
            return name
    raise ExecutionError(
        f"no folder is free to put a build's files together: tried {', '.join(_STAGES)}",
        hint="make an empty folder /mnt",
    )
