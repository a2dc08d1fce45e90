"""Runs attempts as processes of this machine, under a supervisor that outlives the daemon.

One attempt is three processes at most: ``supervise.sh`` (a few hundred lines of C that every Linux
has as ``sh``), the script in its own session, and, with a standard input, a holder of its writing
end. All that is known of an attempt stands in files of its home, so that any later daemon can adopt
it. Linux only: ``/proc`` and pidfds (5.3 or later) say who is alive, never a file's age.
"""

from rota.adapters.process.executor import ProcessExecutor

__all__ = ["ProcessExecutor"]
