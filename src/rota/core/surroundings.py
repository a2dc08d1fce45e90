"""A script's world: the environment it sees, the same in a cluster and under ``rota exec``.

Nothing is inherited from the daemon. Later sources win: fixed words, the settings' ``env``, the
header's ``env``, the parameters, and last what rota says of the build itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from rota.core.job import ParamValue
from rota.core.params import param_env


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where an attempt runs: folders, the agent's addresses, and the user it runs as."""

    workspace: str
    tmp: str
    bin: str  # holds `rota`
    user: str
    home: str
    agent: str
    socket: str = ""
    url: str = ""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Which attempt it is."""

    job: str
    number: int
    build: str
    attempt: int
    fence: int = 0  # the sequence of its claim
    pipeline: str = ""  # the id of the root of its tree
    needs: tuple[str, ...] = ()  # the names of the builds that it needed
    traceparent: str = ""  # where its trace goes on, if there is one


def marker_of(identity: Identity) -> str:
    """Return the entry that no other attempt's environment has: it finds escaped processes."""
    return f"ROTA_ATTEMPT_ID={identity.build}.{identity.attempt}"


def environment(
    place: Place,
    identity: Identity,
    *,
    path: Sequence[str],
    settings_env: Mapping[str, str],
    job_env: Mapping[str, str],
    params: Mapping[str, ParamValue],
) -> dict[str, str]:
    """Return all variables of an attempt's environment."""
    marker, _, marker_value = marker_of(identity).partition("=")
    return {
        "LANG": "C.UTF-8",
        "SHELL": "/bin/sh",
        "HOME": place.home,
        "USER": place.user,
        "LOGNAME": place.user,
        "TMPDIR": place.tmp,
        **settings_env,
        **job_env,
        **param_env(params),
        "PATH": ":".join([place.bin, *path]),
        "CI": "true",
        "ROTA_JOB": identity.job,
        "ROTA_NUMBER": str(identity.number),
        "ROTA_ATTEMPT": str(identity.attempt),
        "ROTA_BUILD": identity.build,
        "ROTA_FENCE": str(identity.fence),
        "ROTA_PIPELINE": identity.pipeline or identity.build,
        "ROTA_NEEDS": " ".join(identity.needs),
        "ROTA_AGENT": place.agent,
        "ROTA_WORKSPACE": place.workspace,
        "ROTA_SOCKET": place.socket,
        "ROTA_URL": place.url,
        **({"TRACEPARENT": identity.traceparent} if identity.traceparent else {}),
        marker: marker_value,
    }
