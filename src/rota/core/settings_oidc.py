"""``[oidc]`` of the settings: who vouches for people that log in, by OpenID Connect."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec

from rota.core import fields
from rota.core.fields import Field, FieldError, Spot, printed_value

DAY_S = 86_400.0
#: A rule gives one of these to who is in a group of the provider.
ROLES = ("viewer", "builder", "maintainer", "admin")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class OidcSettings(msgspec.Struct, frozen=True):
    """The provider of identities: ``[oidc]``. Without an issuer nobody logs in by one."""

    issuer: str = ""  # issuer: its URL, as its tokens name it
    client: str = ""  # client: what this cluster is called there
    secret: str = (
        ""  # secret: the name of the secret that holds the client's; none for a public client
    )
    scopes: tuple[str, ...] = ("openid", "email", "profile")  # scopes: what is asked for
    session_s: float = DAY_S / 2  # session: how long a login holds
    groups: str = "groups"  # groups: the claim that lists somebody's groups there
    roles: dict[str, str] = {}  # roles: by such a group at least this role, over everything

    @property
    def is_set(self) -> bool:
        """Whether people can log in."""
        return bool(self.issuer)


def issuer_fault(url: str) -> str | None:
    """Say why nothing can be believed that is fetched from there; ``None`` if it can."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return "is no URL"
    if parts.scheme not in ("https", "http") or not host or parts.query or parts.fragment:
        return "must be a URL such as https://id.example"
    if parts.scheme == "http" and host not in _LOOPBACK:
        return "must be https: anybody on the way could vouch for anybody"
    return None


def _issuer(value: Any, spot: Spot) -> str:
    url = fields.text(value, spot)
    if (fault := issuer_fault(url)) is not None:
        raise FieldError(f"{fault}, not {printed_value(url)}")
    return url


def _word(value: Any, spot: Spot) -> str:
    word = fields.text(value, spot)
    if not word or len(word) > 200 or not word.isprintable() or " " in word:
        raise FieldError(f"must be a word, not {printed_value(word)}")
    return word


def _scopes(value: Any, spot: Spot) -> tuple[str, ...]:
    found = fields.list_of(_word)(value, spot)
    if "openid" not in found:
        raise FieldError("needs openid: without it there is no token of who it is")
    return found


def _group_fault(name: str) -> str | None:
    return None if name and len(name) <= 200 and name.isprintable() else "is no name of a group"


_OIDC = {
    "issuer": Field("issuer", _issuer, 'issuer = "https://id.example"'),
    "client": Field("client", _word, 'client = "rota"'),
    "secret": Field("secret", _word, 'secret = "OIDC_SECRET"'),
    "scopes": Field("scopes", _scopes, 'scopes = ["openid", "email"]'),
    "session": Field("session_s", fields.duration(60, 90 * DAY_S), 'session = "12h"'),
    "groups": Field("groups", _word, 'groups = "groups"'),
    "roles": Field(
        "roles",
        fields.table_of(_group_fault, fields.one_of(ROLES)),
        '[oidc.roles] with devs = "builder"',
    ),
}

#: What the settings say by this key.
OIDC = {
    "oidc": Field(
        "oidc",
        fields.table(_OIDC, OidcSettings, required=("issuer", "client")),
        '[oidc] with issuer = "https://id.example", client = "rota"',
    )
}
