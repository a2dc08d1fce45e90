"""What builds leave to the agent: descriptors, processes, and who goes first when memory runs out.

A build that asks for nothing is kept to nothing, and may be run by the same user as its agent. So that
it does not take the agent along when it eats all there is, the agent keeps a part, and the kernel looks at builds
first. None of this needs rights that an ordinary user lacks, and none of it is a confinement: a build that means
harm is kept from it by what `docs/isolation.md` says.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
from pathlib import Path

#: Of a build, from -1000 to 1000: as if it had half of the machine's memory. `supervise.sh` has it, too.
BADNESS = 500
#: A quarter of the processes that the user may have stays the agent's. (Root has no such limit.)
_SHARE = 3 / 4
#: More than all connections that the agent takes, the journal's and the logs' files.
_DESCRIPTORS = 16_384


@functools.cache
def first_limits() -> dict[int, tuple[int, int]]:
    """Return the limits that builds are given, from those that this process was started with.

    So call it before :func:`have_room`.
    """
    found = {resource.RLIMIT_NOFILE: resource.getrlimit(resource.RLIMIT_NOFILE)}
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    most = hard if soft == resource.RLIM_INFINITY else soft
    if most != resource.RLIM_INFINITY and os.geteuid() != 0:
        share = max(1, int(most * _SHARE))
        found[resource.RLIMIT_NPROC] = (share, share)
    return found


def have_room() -> None:
    """Let this process have more descriptors than programs are given that cannot count so far."""
    first_limits()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def keep_back(pid: int) -> None:
    """Let a process that has just been started, and all that it starts from now on, be a build's.

    What it started before, on a machine where this process had to wait for its turn, has more than it should.
    Cost: 2 µs.
    """
    for which, limits in first_limits().items():
        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(pid, which, limits)


def go_first(pid: int) -> None:
    """Let the kernel end a process, and what it starts, before the agent when memory runs out.

    A supervisor in sh does that by itself: this is for what becomes one otherwise. Cost: 20 µs.
    """
    badness = Path(f"/proc/{pid}/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):
        if int(badness.read_text()) < BADNESS:
            badness.write_text(str(BADNESS))
