"""A webhook: its file on ``main``, and its secret, which stands nowhere.

The secret is derived (HKDF, RFC 5869) from the hook's name, its generation, and a key that all agents
have: so every agent knows it, and nobody who reads git does. That key is the one of the cluster's
secrets at the time, which a former member does not have; where there is none yet, the authority's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Any

import msgspec

from rota.core import fields
from rota.core.fields import Field, FieldError, Spot
from rota.core.problem import Problem
from rota.core.repository import repo_key
from rota.core.toml_document import Source, read_document

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
SECRET_BYTES = 32
MAX_GENERATION = 1_000_000
_SALT = b"rota webhook 1"
_RECIPIENT = re.compile(r"[A-Za-z0-9:-]{1,200}")
_PEM = re.compile(rb"-----BEGIN [A-Z ]+-----([A-Za-z0-9+/=\s]+)-----END", re.ASCII)


class HookFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """What ``hooks/NAME.toml`` says. With ``repo`` only that repository's changes are taken.

    ``recipient`` names the key that its secret is made of; without it that is the authority's.
    """

    generation: int = 1
    repo: str = ""
    recipient: str = ""


def hook_name_fault(name: str) -> str | None:
    """Say what is wrong with a hook's name, or ``None`` if nothing is."""
    return None if NAME.fullmatch(name) else "1 to 63 letters, digits and . _ -, such as github"


def secret_of(key: bytes, name: str, generation: int) -> str:
    """Return a hook's secret, in the form of Standard Webhooks.

    Args:
        key: An identity, or the authority's key (PEM); how that is broken into lines makes no
            difference.
        name: The hook's.
        generation: Another one is another secret.
    """
    derived = derived_key(key, f"{name}\0{generation}".encode())
    return "whsec_" + base64.b64encode(derived[:SECRET_BYTES]).decode()


def derived_key(ca_key: bytes, purpose: bytes) -> bytes:
    """Return 32 bytes that all members know, for one purpose: those of webhooks have a NUL in it."""
    found = _PEM.search(ca_key)
    material = base64.b64decode(found[1]) if found is not None else ca_key
    extracted = hmac.digest(_SALT, material, "sha256")
    return hmac.digest(extracted, purpose + b"\x01", "sha256")


def fingerprint(secret: str) -> str:
    """Return what tells a secret from another without telling it."""
    return hashlib.sha256(secret.encode()).hexdigest()[:8]


def encode_hook(hook: HookFile) -> bytes:
    """Return the file of a hook."""
    lines = [f"generation = {hook.generation}"]
    if hook.recipient:
        lines.append(f'recipient = "{hook.recipient}"')
    if hook.repo:
        lines.append(f"repo = {msgspec.json.encode(hook.repo).decode()}")
    return ("\n".join(lines) + "\n").encode()


def parse_hook(text: str, path: str) -> tuple[HookFile, tuple[Problem, ...]]:
    """Return what a hook's file says, and all that is wrong with it. Never raises."""
    document, faults = read_document(Source(path, tuple(text.splitlines())))
    problems = list(faults)
    values = fields.read_table(document.table, Spot(document, problems), _FIELDS)
    return HookFile(**values), tuple(problems)


def _repo(value: Any, spot: Spot) -> str:
    url = fields.text(value, spot)
    if "/" not in repo_key(url):
        raise FieldError(f"is no repository's URL: {fields.printed_value(url)}")
    if re.search(r"//[^/@]*:[^/@]*@", url):
        raise FieldError("has a password in it, which would stand in git", "leave it out")
    return url


def _recipient(value: Any, spot: Spot) -> str:
    name = fields.text(value, spot)
    if not _RECIPIENT.fullmatch(name):
        raise FieldError(
            f"is no recipient: {fields.printed_value(name)}", "rota hook NAME --rotate"
        )
    return name


_FIELDS = {
    "recipient": Field("recipient", _recipient, 'recipient = "age1…"'),
    "generation": Field("generation", fields.integer(1, MAX_GENERATION), "generation = 2"),
    "repo": Field("repo", _repo, 'repo = "https://git.example/web.git"'),
}
