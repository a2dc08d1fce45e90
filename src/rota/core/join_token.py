"""A join token: what a machine shows to be admitted, and how it knows whom it shows it to.

``rota1.<SHA-256 of the CA's certificate, hex>.<secret>.<host:port>[,<host:port>…]``
"""

from __future__ import annotations

import re

import msgspec

from rota.core.address import Address, parse_address
from rota.errors import InputError

VERSION = 1
#: Characters of a secret: 32 random bytes in URL-safe base64.
SECRET_LENGTH = 43
MAX_ADDRESSES = 16
_HEAD = re.compile(r"rota([0-9]{1,4})\.(.*)", re.DOTALL)
_CA = re.compile(r"[0-9a-f]{64}")
_SECRET = re.compile(rf"[A-Za-z0-9_-]{{{SECRET_LENGTH}}}")
_NEW = "make a new one on a member: rota token create"


class JoinToken(msgspec.Struct, frozen=True):
    """``ca`` is the SHA-256 of the CA's certificate (DER), in lower-case hex."""

    ca: str
    secret: str
    addresses: tuple[Address, ...]

    def __str__(self) -> str:
        return f"rota{VERSION}.{self.ca}.{self.secret}.{','.join(map(str, self.addresses))}"

    def __repr__(self) -> str:
        return f"<join token for {', '.join(map(str, self.addresses))}>"


def parse_join_token(text: str) -> JoinToken:
    """Return ``text`` as a join token; white space around it is left out.

    Raises:
        InputError: it is none, is cut off, or of another version. What it says has no secret.
    """
    head = _HEAD.fullmatch(text.strip())
    if head is None:
        raise InputError(
            "that is not a join token: one begins with `rota1.`",
            hint="make one on a member: rota token create",
        )
    if int(head[1]) != VERSION:
        raise InputError(
            f"the join token is of version {head[1]}, this agent knows version {VERSION}",
            hint="use the same version of rota on all machines: rota --version",
        )
    return _parts(head[2])


def _parts(text: str) -> JoinToken:
    ca, _, rest = text.partition(".")
    secret, _, addresses = rest.partition(".")
    if not addresses and (not rest or len(secret) <= SECRET_LENGTH):
        raise InputError(
            "the join token is cut off: it ends before its address",
            hint=f"copy the whole line; or {_NEW}",
        )
    if not _CA.fullmatch(ca) or not _SECRET.fullmatch(secret):
        raise InputError(
            "the join token is damaged: characters are missing or wrong in its middle",
            hint=f"copy the whole line; or {_NEW}",
        )
    return JoinToken(ca, secret, _addresses(addresses))


def _addresses(text: str) -> tuple[Address, ...]:
    found = text.split(",")
    if len(found) > MAX_ADDRESSES:
        raise InputError(
            f"the join token has {len(found)} addresses, the limit is {MAX_ADDRESSES}", hint=_NEW
        )
    try:
        return tuple(map(parse_address, found))
    except InputError as error:
        raise InputError(f"the join token has a {error.message}", hint=error.hint) from error
