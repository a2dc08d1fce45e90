"""Users of this machine by their numbers, which need have no entry anywhere, as in many containers."""

from __future__ import annotations

import os
import pwd


def name_of(uid: int) -> str:
    """Return what a user is called; `uid12345` without an entry."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid{uid}"


def own_home() -> str:
    """Return the home folder of whom this process runs as; without an entry $HOME, or `/`."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return os.environ.get("HOME") or "/"
