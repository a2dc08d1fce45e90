"""Everything that can go wrong for a caller, as one tree.

::

    RotaError              code, message, hint (what to do next)
    ├─ InputError          what was given is wrong; problems carry file, line, column
    ├─ DeniedError         the caller may not
    ├─ NotFoundError       no such thing
    ├─ ConflictError       the world has moved on, or forbids it now
    │  └─ StaleError       a compare-and-set lost: (key, expected)
    │     └─ FencedError   a leader wrote after another one was elected
    ├─ UnavailableError    try again: the engine, the store or the disk cannot now
    │  ├─ PartedError      this agent's story is no longer the journal's: it begins anew
    │  ├─ OlderError       another agent's rota is an older one, and does not know what it was asked
    │  └─ LaterError       somebody else's service does not take it now: (after_s)
    ├─ TooManyError        of something there was too much of late: (after_s)
    ├─ SlowError           the caller took too long to send what he began
    ├─ ExecutionError      an attempt could not be run; never a job's own failure
    └─ InvariantError      cannot happen: a bug of ours

A script that exits 1 is a result, not an error. HTTP statuses and exit codes are made at the edges.
Messages are lower case, name the value and the limit, and have no full stop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class RotaError(Exception):
    """Root of the tree; ``code`` is stable and dotted, ``hint`` says what to do next."""

    code: ClassVar[str] = "rota"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def told(self) -> str:
        """Message and hint in one line, as a build's record and a room have them."""
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InputError(RotaError):
    """What a person or program gave is wrong; nothing was changed.

    ``problems`` are printable, one a fault, with file, line and column where there is a file.
    """

    code = "input"

    def __init__(
        self, message: str, *, problems: Sequence[object] = (), hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class DeniedError(RotaError):
    """The caller is not known, or known and not allowed."""

    code = "denied"

    def __init__(self, message: str, *, known: bool = False, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.known = known


class NotFoundError(RotaError):
    """There is no such job, build or artifact."""

    code = "not-found"


class ConflictError(RotaError):
    """The request is good, the state of things forbids it now."""

    code = "conflict"


class StaleError(ConflictError):
    """A compare-and-set lost: somebody wrote first."""

    code = "conflict.stale"


class FencedError(StaleError):
    """A leader's write came after another election: its duty is somebody else's now."""

    code = "conflict.fenced"


class UnavailableError(RotaError):
    """The engine, the store or the disk cannot take it now; trying again may help."""

    code = "unavailable"


class PartedError(UnavailableError):
    """What an agent knows and what the journal has are no longer one story: it must begin anew."""

    code = "unavailable.parted"


class OlderError(UnavailableError):
    """Another agent does not know what it was asked: its rota is of before there was such a question."""

    code = "unavailable.older"


class LaterError(UnavailableError):
    """A network or a forge does not take it now; it may say after how many seconds it will (``after_s``)."""

    def __init__(self, message: str, *, after_s: float = 0.0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.after_s = after_s


class TooManyError(RotaError):
    """A caller asks too often; nothing was done. ``after_s`` is when to come again."""

    code = "too-many"

    def __init__(self, message: str, *, after_s: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.after_s = after_s


class SlowError(RotaError):
    """What a caller began to send did not come in time; nothing was done."""

    code = "slow"


class ExecutionError(RotaError):
    """An attempt could not be run: workspace, spawn, adoption. Never the job's own failure."""

    code = "execution"


class CheckoutError(ExecutionError):
    """Source code could not be had: the repository does not answer, or has it not, or it does not merge."""

    code = "checkout"


class InvariantError(RotaError):
    """Cannot happen: a bug of ours."""

    code = "invariant"


_E = TypeVar("_E", bound=BaseException)


def leaves(group: BaseExceptionGroup[_E]) -> list[_E]:
    """Return the errors that a group holds, those of the groups in it included, in order."""
    found: list[_E] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
