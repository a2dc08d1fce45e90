"""What lines of the daemon's log are about: the build, the request, who asked.

Whoever works on one of these says so once, in its own task; all that is logged from there, also by tasks that
it starts, carries the fields. No field ever has a value that somebody sent as a secret.
"""

from __future__ import annotations

import contextvars

#: Of the present task. The mapping is shared with the tasks that it starts.
FIELDS: contextvars.ContextVar[dict[str, str] | None] = contextvars.ContextVar(
    "log_fields", default=None
)


def about(**fields: str) -> None:
    """Say what the present task is about, in place of what was said before."""
    FIELDS.set(fields)


def also_about(**fields: str) -> None:
    """Add to what the present task is about, for those as well that started it as part of theirs."""
    known = FIELDS.get()
    if known is None:
        FIELDS.set(fields)
    else:
        known.update(fields)
