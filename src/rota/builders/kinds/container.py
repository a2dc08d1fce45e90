"""Folders from which an image is made."""

from __future__ import annotations

import re

from rota.builders.finding import Draft, Finding
from rota.builders.folder import Folder

_FROM = re.compile(r"^FROM\s+(?:--\S+\s+)*(\S+)", re.MULTILINE | re.IGNORECASE)
_NAMES = ("Dockerfile", "Containerfile")


def docker(folder: Folder) -> Finding | None:
    """Find a Dockerfile."""
    name = next((it for it in _NAMES if folder.has(it)), None)
    if name is None:
        return None
    found = Draft("docker", folder)
    bases = _FROM.findall(folder.text(name))
    found.see(name + (f" from {bases[-1]}" if bases else ""))
    found.values |= {"dockerfile": name}
    return found.made()
