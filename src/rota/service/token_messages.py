"""What goes in and out of the verbs on users' tokens."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rota.service.messages import MAX_TEXT, Request
from rota.service.user_messages import ME, UserArg

CapName = Literal["viewer", "builder", "maintainer", "admin"]
Glob = Annotated[str, Meta(max_length=200)]
DAY_S = 86_400.0
#: How long a token holds if nothing is said.
VALID_S = 90 * DAY_S
MAX_VALID_S = 3650 * DAY_S


class MakeTokenRequest(Request, frozen=True, kw_only=True):
    """A token to make: whose it is, and what it allows at most."""

    user: UserArg = ME
    role: Annotated[
        CapName | None, Meta(description="at most this role; all that the user may, if not said")
    ] = None
    jobs: Annotated[
        tuple[Glob, ...],
        Meta(description="globs of the only jobs that it is for; all if empty", max_length=50),
    ] = ()
    expires_s: Annotated[
        float,
        Meta(description="seconds for which it holds; 0 is without end", ge=0, le=MAX_VALID_S),
    ] = VALID_S
    note: Annotated[str, Meta(description="what it is for", max_length=MAX_TEXT)] = ""


class TokensRequest(Request, frozen=True, kw_only=True):
    """Whose tokens to list."""

    user: Annotated[str, Meta(description="only this user's; @me is who asks", max_length=100)] = ""


class RevokeTokenRequest(Request, frozen=True, kw_only=True):
    """A token that shall open nothing any more."""

    id: Annotated[
        str, Meta(description="as the list names it; @this is the one shown", max_length=100)
    ]


class TokenView(msgspec.Struct, frozen=True, kw_only=True):
    """A token of a user. ``token`` is its text, told once: when it is made."""

    id: str
    user: str
    role: str  # that it gives at most; empty: all that the user may
    jobs: tuple[str, ...]
    made_at: datetime
    by: str
    expires_at: datetime | None
    used_at: datetime | None  # within an hour of the last time
    revoked_at: datetime | None
    revoked_by: str
    note: str
    login: bool  # by logging in
    token: str = ""
