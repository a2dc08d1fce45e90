"""What a job's header reaches beyond the job: builds of others that it asks for, or hears of.

Who writes it must be allowed that himself: a need runs another job, and what is set off after
another job learns how that went.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from rota.core.job import Job
from rota.core.rights import Role
from rota.core.triggers import After

_ANYTHING = re.compile(r"[*?\[][^/]*")
#: Stands for whatever a glob lets in: only a glob that lets everything in fits it.
_MANY = "\0" * 8


def reach_faults(job: Job, on: Callable[[str], Role]) -> Iterator[str]:
    """Yield what somebody may not write into a header, and what it takes.

    Args:
        job: As the header is to be.
        on: Returns somebody's role on a job.
    """
    for need in job.needs:
        if on(need.job) < Role.BUILDER:
            yield f"needs {need.job}, and for that one must be {Role.BUILDER.title} of it"
    for rule in job.on:
        if isinstance(rule, After) and on(_widest(rule.job)) < Role.VIEWER:
            yield f"is set off after {rule.job}, and for that one must be {Role.VIEWER.title} of it"


def _widest(glob: str) -> str:
    """Return a name that is among those a glob fits, and that nothing narrower fits."""
    parts = (
        f"{_MANY}/{_MANY}" if it == "**" else _ANYTHING.sub(_MANY, it) for it in glob.split("/")
    )
    return "/".join(parts)
