"""Who it is that a provider of identities vouches for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rota.core.settings_oidc import OidcSettings
from rota.core.users import LOGIN, Users

#: More groups of the settings than these nobody is in.
MAX_GROUPS = 50


class Person(msgspec.Struct, frozen=True):
    """A user, and those of the provider's groups that the settings give a role to."""

    user: str
    groups: tuple[str, ...] = ()


def person_of(claims: Mapping[str, Any], users: Users, settings: OidcSettings) -> Person | None:
    """Return the user of verified claims; ``None`` if that is nobody here.

    The subject counts first, which the provider never gives to another: ``logins`` of a user's file. Else
    the e-mail address, if the provider says that it has verified it.
    """
    user = users.find(LOGIN, _text(claims.get("sub")))
    email = _text(claims.get("email"))
    if not user and email and claims.get("email_verified") is True:
        user = users.by_email(email)
    if not user:
        return None
    named = claims.get(settings.groups)
    theirs = {it for it in named if isinstance(it, str)} if isinstance(named, list) else set()
    groups = [group for group in settings.roles if group in theirs]
    return Person(user, tuple(groups[:MAX_GROUPS]))


def described(claims: Mapping[str, Any]) -> str:
    """Return in words whom a provider vouches for."""
    email, sub = _text(claims.get("email")), _text(claims.get("sub"))
    if email and claims.get("email_verified") is not True:
        return f"{email} (not verified there), {sub!r}"
    return f"{email}, {sub!r}" if email else repr(sub)


def _text(value: object) -> str:
    return value[:255] if isinstance(value, str) and value.isprintable() else ""
