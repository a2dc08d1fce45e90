"""What the agent has to do with confinement: who a build is, and whether it may be what it asks for."""

from __future__ import annotations

import contextlib
import pwd
from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from rota.core.build import Build
from rota.core.confinement import (
    BUILDS_DOOR,
    Bounds,
    Confinement,
    confinement_of,
    trespasses,
)
from rota.core.job import Spec
from rota.core.surroundings import Place
from rota.errors import ExecutionError


def check_bounds(spec: Spec, bounds: Bounds) -> None:
    """Refuse a build what the settings do not allow.

    Raises:
        ExecutionError: it names all of it.
    """
    faults = "; ".join(trespasses(spec, bounds))
    if faults:
        raise ExecutionError(faults, hint="[isolation] in settings.toml says what may be")


def at_home(place: Place, confinement: Confinement | None) -> Place:
    """Return where an attempt runs, as it finds it: whose home that is, and where the agent listens."""
    if confinement is None or not confinement.has_view:
        return place
    if place.socket:
        path = Path(place.socket)
        place = replace(place, socket=str(path.parent / BUILDS_DOOR / path.name))
    entry = _entry(confinement.user)
    # Of one that is not there the executor says so.
    return replace(place, user=entry.pw_name, home=entry.pw_dir) if entry is not None else place


def uids(builds: Iterable[Build], bounds: Bounds) -> frozenset[int]:
    """Return the users of the machine as whom these builds run, besides the agent's own."""
    words = {
        confinement.user
        for build in builds
        if (confinement := confinement_of(build.spec, bounds)) is not None
    }
    entries = [_entry(each) for each in words if each]
    return frozenset(entry.pw_uid for entry in entries if entry is not None)


def _entry(words: str) -> pwd.struct_passwd | None:
    user = words.partition(":")[0]
    with contextlib.suppress(KeyError, OverflowError):
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    return None
