"""A home folder of an attempt's own: some folders in it are its own, the rest leads to the real one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def lay_home(real: Path, own: Path, paths: Iterable[str]) -> None:
    """Make ``own`` look like ``real``, but for ``paths`` (``~/…``), whose places are left free.

    What is not on the way to one of them is a link to what there is; so keys and configurations are
    found, and what a script writes into a cached folder is its own. Safe to call twice.

    Raises:
        OSError: it cannot be written; a real one that cannot be read is as good as empty.
    """
    branches: dict[str, dict[str, object]] = {}
    for path in paths:
        at = branches
        for part in path.removeprefix("~/").split("/"):
            at = at.setdefault(part, {})  # type: ignore[assignment]
    own.mkdir(mode=0o700, exist_ok=True)
    _lay(real, own, branches)


def _lay(real: Path, own: Path, branches: dict[str, dict[str, object]]) -> None:
    for name in _names(real):
        if name not in branches and not os.path.lexists(own / name):
            (own / name).symlink_to(real / name)
    for name, below in branches.items():
        if below:
            (own / name).mkdir(exist_ok=True)
            _lay(real / name, own / name, below)  # type: ignore[arg-type]


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names are all that is needed
    except OSError:
        return []
