"""The version before, out of this repository's own history, to run beside this one."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.harness.lab import NotHereError

ROOT = Path(__file__).parents[2]
#: The last revision from before there were levels.
BEFORE_LEVELS = "74abf61cd5a62c2d2cd7585a1f20faccd20f043d"


@functools.cache
def former(revision: str = BEFORE_LEVELS) -> Path:
    """Return a folder whose ``src`` has the version before; it is taken out once a process.

    Raises:
        NotHereError: there is no history to take it from, or it does not go back so far.
    """
    if shutil.which("git") is None:
        raise NotHereError("there is no git, which has the version before")
    folder = Path(tempfile.mkdtemp(prefix="rota-former-"))
    archive = folder / "src.tar"
    command = ("git", "-C", str(ROOT), "archive", "-o", str(archive), revision, "src")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise NotHereError(f"the version before is not in this history: {done.stderr.strip()}")
    subprocess.run(["tar", "-xf", str(archive), "-C", str(folder)], check=True)
    archive.unlink()
    return folder / "src"
