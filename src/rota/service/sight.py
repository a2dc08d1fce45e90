"""What somebody sees: the jobs, and all that was built of them."""

from __future__ import annotations

from collections.abc import Callable

Sees = Callable[[str], bool]
"""Whether a job is there for whoever asks."""


def everything(job: str) -> bool:
    """Whether a job is seen by who sees all."""
    return True
