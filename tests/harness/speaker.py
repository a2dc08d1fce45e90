"""The process that speaks for an agent of this process."""

from __future__ import annotations

import contextlib

import psutil


def the_speaker() -> psutil.Process:
    """Return it; other children may end while they are looked at."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie is one, too
            if "rota.chat" in child.cmdline():
                return child
    raise AssertionError("nobody speaks")
