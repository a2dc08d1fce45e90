"""User data: what a new machine runs, so that it becomes an agent."""

from __future__ import annotations

import base64
import hmac
import re
import shlex

from rota.core.certificate import certificates, fingerprint
from rota.core.join_token import JoinToken
from rota.core.machines import Machine
from rota.core.settings_clouds import Cloud

_PEM = re.compile(rb"-----BEGIN [A-Z ]+-----(.*?)-----END", re.DOTALL)
#: Of the hex digits of a SHA-256: providers have limits, and nobody has so many clusters.
TAG_LENGTH = 12
#: An agent that ended otherwise than by leaving is started again so much later.
AGAIN_S = 3
_SALT = b"rota machines"


def machine_secret(ca_key: bytes, machine: str) -> str:
    """Return the secret of a machine's join token: any member can make it, and know it again.

    Args:
        ca_key: The authority's key (PEM); how it is broken into lines makes no difference.
        machine: Its name. No other machine can join by this.
    """
    found = _PEM.search(ca_key)
    material = base64.b64decode(found[1]) if found is not None else ca_key
    extracted = hmac.digest(_SALT, material, "sha256")
    key = hmac.digest(extracted, machine.encode() + b"\x01", "sha256")
    return base64.urlsafe_b64encode(key).rstrip(b"=").decode()


def cluster_tag(ca: str) -> str:
    """Return what all nodes of a cluster are tagged with, given its authority's certificate (PEM)."""
    return fingerprint(certificates(ca.encode())[0])[:TAG_LENGTH] if ca else ""


def user_data(machine: Machine, cloud: Cloud, token: JoinToken, *, version: str) -> str:
    """Return the shell script that makes a machine an agent.

    The token is on the standard input of ``rota``, so that it is not to be seen among the processes.
    """
    agent = [
        cloud.program,
        "agent",
        *("--data", cloud.data.replace("{machine}", machine.name)),
        *("--name", machine.name),
        *("--slots", str(machine.slots)),
        *("--labels", _labels(machine)),
        *("--join", "-"),
        "--ephemeral",
    ]
    lines = [
        "#!/bin/sh",
        f"# rota: {machine.name}",
        'fail() { echo "rota: $1 failed on this machine" >&2; exit 1; }',
        *_part("setup", cloud.setup),
        *_part("install", cloud.install.replace("{version}", version)),
        # One that left ends well. Any other end is no reason to stay away: the token holds until the
        # agent is a member, and then it finds again what ran before.
        f"until {shlex.join(agent)} <<'END'",
        str(token),
        "END",
        f"do sleep {AGAIN_S}; done",
        *_part("finish", cloud.finish),
    ]
    return "\n".join(lines) + "\n"


def _labels(machine: Machine) -> str:
    return ",".join(f"{key}={value}" if value else key for key, value in machine.labels.items())


def _part(name: str, text: str) -> list[str]:
    """Return the lines that run a part of the settings, in a shell of its own."""
    if not text.strip():
        return []
    return [f"( set -e\n{text.strip()}\n) || fail {name}"]
