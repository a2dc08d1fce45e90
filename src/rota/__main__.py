"""The ``rota`` program, also as ``python -m rota``: how a command begins and ends as a process.

A command is over in a few hundredths of a second, and a third of that would be Python's own
housekeeping: three collections while nothing is garbage yet, and at the end taking to pieces what
the kernel takes anyway.
"""

from __future__ import annotations

import gc
import os
import sys


def main() -> int:
    """Run one command, as the process's arguments say, and return its exit status, if at all."""
    gc.disable()  # what goes on enables it: see `rota.cli.mouth`
    status = _run()
    if "threading" not in sys.modules and "atexit" not in sys.modules:
        # Nothing waits to be ended or written.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _run() -> int:
    if sys.argv[1:] in (["--version"], ["-V"]):
        # Nothing else is asked so often by programs that look for us.
        from rota import __version__

        try:
            sys.stdout.write(f"rota {__version__}\n")
            sys.stdout.flush()
        except OSError:
            return _whole()  # it knows what to say
        return 0
    return _whole()


def _whole() -> int:
    from rota.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
