"""What holds for one attempt of a plain build: what its job asks for, within what the settings allow.

The settings' ``[isolation]`` is what a job gets that says nothing, and as far as any may go: a job can
be confined further, and never less. Else whoever may write a job could do what the settings forbid.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from rota.core.job import Spec
from rota.core.resources import Resources


class Bounds(msgspec.Struct, frozen=True):
    """What every plain build is kept to, and a container by resources and network: ``[isolation]``."""

    user: str = ""  # user: as whom builds run that name none; empty is the agent's own
    users: tuple[str, ...] = ()  # users: whom else a job may name, where `user` is given
    network: Literal["host", "none"] = "host"  # network: none leaves builds their loopback alone
    no_new_privs: bool = False  # no_new_privs: no program of a build gains rights, as by sudo
    private_tmp: bool = False  # private_tmp: builds have a /tmp of their own
    private_pids: bool = False  # private_pids: builds see no processes but their own
    resources: Resources = Resources()  # resources: the most of each that one build may have


class Confinement(msgspec.Struct, frozen=True):
    """What one attempt is kept to; empty ``user`` is the agent's own."""

    resources: Resources = Resources()
    user: str = ""
    network: Literal["host", "none"] = "host"
    no_new_privs: bool = False
    private_tmp: bool = False
    private_pids: bool = False

    @property
    def has_view(self) -> bool:
        """Whether it sees other files than the agent does, and of the agent's only its own."""
        return bool(self.user) or self.private_tmp or self.private_pids


NOTHING = Confinement()
#: In the agent's data folder, where it listens for builds that see nothing else of that.
BUILDS_DOOR = "run"


def confinement_of(spec: Spec, bounds: Bounds) -> Confinement | None:
    """Return what a plain build is kept to; ``None`` if to nothing, or if it runs in a container.

    What the settings do not allow is not looked at: see :func:`trespasses`.
    """
    if spec.container is not None:
        return None
    asked = spec.isolation
    found = Confinement(
        resources=spec.resources.under(bounds.resources),
        user=spec.user or bounds.user,
        network="none" if "none" in (spec.network, bounds.network) else "host",
        no_new_privs=bool(asked.no_new_privs) or bounds.no_new_privs,
        private_tmp=bool(asked.private_tmp) or bounds.private_tmp,
        private_pids=bool(asked.private_pids) or bounds.private_pids,
    )
    return None if found == NOTHING else found


def trespasses(spec: Spec, bounds: Bounds) -> Iterator[str]:
    """Yield what a build asks for and may not have, in words.

    A container is bounded as well, but for who runs in it, its temporary folders and its processes:
    these are none of the machine's.
    """
    most, asked = bounds.resources, spec.resources
    if most.cpus and asked.cpus > most.cpus:
        yield f"it asks for {asked.cpus:g} cpus, and may have {most.cpus:g}"
    if most.memory_bytes and asked.memory_bytes > most.memory_bytes:
        yield f"it asks for {asked.memory_bytes} bytes of memory, and may have {most.memory_bytes}"
    if most.pids and asked.pids > most.pids:
        yield f"it asks for {asked.pids} pids, and may have {most.pids}"
    if bounds.network == "none" and spec.network not in ("", "none"):
        yield f"it asks for the network {spec.network!r}, and may have none"
    if bounds.network == "none" and spec.services:
        yield "it has services, and may have no network to reach them by"
    if bounds.no_new_privs and spec.isolation.no_new_privs is False:
        yield "no_new_privs is for all builds, it cannot be turned off"
    if spec.container is not None:
        return
    if spec.network == "private":
        yield "only a container has a private network: a plain build has the host's, or none"
    if bounds.user and spec.user not in ("", bounds.user, *bounds.users):
        yield f"it may not run as {spec.user!r}: only as {', '.join([bounds.user, *bounds.users])}"
    for name in ("private_tmp", "private_pids"):
        if getattr(bounds, name) and getattr(spec.isolation, name) is False:
            yield f"{name} is for all builds, it cannot be turned off"


#: By what an agent says that it can do so; a job that asks for it asks for them by itself.
ABILITIES = {
    "cpus": "can-limit-cpus",
    "memory": "can-limit-memory",
    "pids": "can-limit-pids",
    "user": "can-set-user",
    "network": "can-cut-network",
    "no_new_privs": "can-drop-privs",
    "private_tmp": "can-private-tmp",
    "private_pids": "can-private-pids",
}


def abilities_for(spec: Spec) -> tuple[str, ...]:
    """Return the labels of agents that can do what a plain build's own header asks for.

    In a container the engine does all of it.
    """
    if spec.container is not None:
        return ()
    asked = {
        "cpus": bool(spec.resources.cpus),
        "memory": bool(spec.resources.memory_bytes),
        "pids": bool(spec.resources.pids),
        "user": bool(spec.user),
        "network": spec.network == "none",
        "no_new_privs": bool(spec.isolation.no_new_privs),
        "private_tmp": bool(spec.isolation.private_tmp),
        "private_pids": bool(spec.isolation.private_pids),
    }
    return tuple(ABILITIES[name] for name, is_asked in asked.items() if is_asked)
