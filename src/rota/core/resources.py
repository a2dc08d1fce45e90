"""How much of the machine a build may use, and what it may see and do there."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Network = Literal["", "host", "none", "private"]
"""``host`` is the machine's, ``none`` is its own loopback alone, ``private`` is a container's own, from
which the world can be reached. Empty is left to the settings: ``host`` for a plain build, ``private``
in a container."""


class Resources(msgspec.Struct, frozen=True, omit_defaults=True):
    """The most that all processes of an attempt may have together; 0 is no limit.

    ``cpus`` are processors' worth of time, 0.5 is half of one; ``memory_bytes`` count what it holds of files
    in memory as well, and what was swapped out; ``pids`` are processes and threads.
    """

    cpus: float = 0.0
    memory_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    pids: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return bool(self.cpus or self.memory_bytes or self.pids)

    def under(self, most: Resources) -> Resources:
        """Return these limits, and those of ``most`` where there is none."""
        return Resources(
            cpus=self.cpus or most.cpus,
            memory_bytes=self.memory_bytes or most.memory_bytes,
            pids=self.pids or most.pids,
        )


class Isolation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a plain build is kept from; ``None`` leaves it to the settings.

    With ``no_new_privs`` no program that it starts gains rights (sudo, setuid, file capabilities). With
    ``private_tmp`` it has a ``/tmp``, ``/var/tmp`` and ``/dev/shm`` of its own, with ``private_pids`` it sees
    and signals no processes but its own.
    """

    no_new_privs: bool | None = None
    private_tmp: bool | None = None
    private_pids: bool | None = None
