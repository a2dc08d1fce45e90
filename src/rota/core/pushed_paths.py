"""What somebody must be who changes a file of ``main`` by a push."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from rota.core.definition_file import JOBS, SETTINGS
from rota.core.paused import PAUSED
from rota.core.rights import Role
from rota.core.users import USERS


class Needed(msgspec.Struct, frozen=True):
    """A role, on a job or, if that is empty, over everything."""

    role: Role
    job: str = ""

    def __str__(self) -> str:
        return f"{self.role.title} of {self.job or 'everything'}"


def needed_for(path: str) -> Needed:
    """Return what it takes to change a file.

    Who may write users, groups and rules for access could give himself every role.
    """
    if path.startswith(USERS) or path == SETTINGS:
        return Needed(Role.ADMIN)
    for folder in (JOBS, PAUSED):
        if path.startswith(folder):
            return Needed(Role.MAINTAINER, path.removeprefix(folder))
    return Needed(Role.MAINTAINER)


def changed_paths(before: Mapping[str, str], after: Mapping[str, str]) -> Sequence[str]:
    """Return the files, sorted, that two trees (path -> hash) do not have alike."""
    return sorted({path for path, _ in before.items() ^ after.items()})
