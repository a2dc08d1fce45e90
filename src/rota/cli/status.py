"""How a command ends, in numbers.

0 good, 1 the build failed, 2 bad usage or input, 3 not reachable, 4 not allowed, 5 not found,
6 conflict, 70 a bug of ours, 130 Ctrl-C.
"""

from __future__ import annotations

from rota.errors import (
    ConflictError,
    DeniedError,
    InputError,
    NotFoundError,
    RotaError,
    UnavailableError,
)

GOOD, FAILED, BUG, INTERRUPTED, BROKEN_PIPE = 0, 1, 70, 130, 141
_STATUSES: tuple[tuple[type[RotaError], int], ...] = (
    (InputError, 2),
    (UnavailableError, 3),
    (DeniedError, 4),
    (NotFoundError, 5),
    (ConflictError, 6),
)


def exit_status(error: RotaError) -> int:
    """Return the exit status that an error stands for."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), BUG)
