"""What the data folder says of its agent: its name, and from which level on it may be read.

Once a cluster is raised, a rota that knows less must not run in the folder: it would fold the journal
otherwise than the others. One from before levels reads a name here and nothing else. So the level
stands where the name does, in words: such a rota finds no name that it could have, says so with these
words, and ends before it touches anything.
"""

from __future__ import annotations

import re

import msgspec

from rota.core.levels import FIRST, LEVEL
from rota.errors import ConflictError

FILE = "name"
_RAISED = re.compile(r"(?P<name>\S+), raised to level (?P<level>\d+): ")
#: What an older rota prints of a folder is this, in quotes, with its own words around.
_WORDS = "{name}, raised to level {level}: a rota older than {version} cannot run here any more"


class Nameplate(msgspec.Struct, frozen=True):
    """An agent's name, empty where there is none yet, and the level of its cluster."""

    name: str
    level: int = FIRST

    def text(self, version: str) -> str:
        """Return what is written; ``version`` is the rota that writes it."""
        if self.level == FIRST:
            return self.name
        return _WORDS.format(name=self.name, level=self.level, version=version)


def read_nameplate(text: str, folder: object) -> Nameplate:
    """Return what was written.

    Raises:
        ConflictError: the folder is of a cluster at a level that this rota does not know.
    """
    found = _RAISED.match(text)
    if found is None:
        return Nameplate(text)
    plate = Nameplate(found["name"], int(found["level"]))
    if plate.level > LEVEL:
        raise ConflictError(
            f"{folder} is of an agent whose cluster was raised to level {plate.level}, and this rota"
            f" knows {LEVEL}",
            hint=f"install the rota that ran here, or a newer one; the file {FILE} in the folder"
            " says which",
        )
    return plate
