"""Versions that projects ask for: what their files say, as numbers to compare and to choose from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rota.builders.folder import Folder

_NUMBER = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})*")
#: What ``.tool-versions`` of asdf and mise calls them.
_ASDF = {"node": "nodejs", "go": "golang"}


class Wanted(NamedTuple):
    """A version, and where it is said."""

    version: str
    where: str

    def words(self, what: str) -> str:
        """Return it for people: ``Java 17 (pom.xml)``; nothing where nothing is said."""
        return f"{what} {self.version} ({self.where})" if self.where else ""


def number(text: str, parts: int) -> str:
    """Return the first version in a text, to so many parts: ``v20.11.1`` is ``20``; else ``""``."""
    match = _NUMBER.search(text)
    return ".".join(str(int(part)) for part in match[0].split(".")[:parts]) if match else ""


def order(version: str) -> tuple[int, ...]:
    """Return what versions are compared by."""
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def at_least(known: Sequence[str], version: str, most: int) -> list[str]:
    """Return the known versions that are not before ``version``: the first, and the newest others."""
    fit = [it for it in known if order(it) >= order(version)]
    if version not in fit:
        fit.insert(0, version)
    return fit if len(fit) <= most else [fit[0], *fit[len(fit) - most + 1 :]]


def fitting(known: Sequence[str], version: str) -> str:
    """Return the first known version that is not before ``version``, or that itself."""
    return next((it for it in known if order(it) >= order(version)), version)


def asked(folder: Folder, tool: str, files: Iterable[str], parts: int) -> Wanted | None:
    """Return the version that a version manager's file asks for: ``.nvmrc``, ``.tool-versions``."""
    for name in files:
        if folder.has(name) and (found := number(folder.text(name), parts)):
            return Wanted(found, name)
    for line in folder.text(".tool-versions").splitlines():
        words = line.split()
        if words[:1] == [_ASDF.get(tool, tool)] and len(words) > 1:
            found = number(words[1], parts)
            if found:
                return Wanted(found, ".tool-versions")
    return None


def of_range(text: str, parts: int) -> str:
    """Return the least version that a range allows: ``>=18.2 <21 || ^22`` is ``18``; else ``""``."""
    found = [
        number(it, parts) for it in re.split(r"\|\||,| ", text) if not it.strip().startswith("<")
    ]
    real = [it for it in found if it]
    return min(real, key=order) if real else ""
