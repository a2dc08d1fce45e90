"""Runs attempts as processes of this machine, under a supervisor that outlives the daemon.

One attempt is four processes at most: ``supervise.sh`` (a few hundred lines of C that every Linux
has as ``sh``), the script in its own session, the ``cat`` that carries what it prints to the log, and,
with a standard input, a holder of its writing end. One that has a lease has a guard besides (``guard.py``), which ends it when the lease runs out.
All that is known of an attempt stands in files of its home, so that any later daemon can adopt it.
Linux only: ``/proc`` and pidfds (5.3 or later) say who is alive, never a file's age.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rota.adapters.process.executor import ProcessExecutor

__all__ = ["ProcessExecutor"]


def __getattr__(name: str) -> object:
    # Only when it is asked for: the guard imports its part of this package, and stays small.
    if name == "ProcessExecutor":
        from rota.adapters.process.executor import ProcessExecutor

        return ProcessExecutor
    raise AttributeError(name)
