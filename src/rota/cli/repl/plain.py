"""A prompt for terminals that cannot move their cursor: a line is read and carried out."""

from __future__ import annotations

import sys

from rota.cli.repl.session import Session

PROMPT = "rota> "


def converse(session: Session) -> int:
    """Read lines and carry them out until the person ends it; return 0."""
    while not session.is_over:
        # On standard error: what commands print may be on its way to a file.
        print(PROMPT, end="", file=sys.stderr, flush=True)
        try:
            text = sys.stdin.readline()
            if not text:
                break
            session.run(text)
        except KeyboardInterrupt:
            print(file=sys.stderr)
    return 0
