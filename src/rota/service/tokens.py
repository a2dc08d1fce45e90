"""Verbs on users' tokens: make one, list them, make one worthless.

A token does what its user may, or less. It is shown once; the journal has its hash, so that every
agent takes it, and none can tell it to anybody.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from rota.core.events import TokenMade, TokenRevoked
from rota.core.rights import Role
from rota.core.settings_access import glob_fault
from rota.core.tokens import (
    MAX_EACH,
    MAX_TOKENS,
    SECRET_BYTES,
    AccessToken,
    printed_token,
    token_digest,
    token_id,
)
from rota.errors import ConflictError, DeniedError, InputError, NotFoundError
from rota.service import token_messages as t
from rota.service.context import Principal, Service
from rota.service.user_files import find_user, refuse_others
from rota.service.user_messages import ME

#: In place of a token's id: the one that the request showed.
THIS = "@this"


async def make(service: Service, request: t.MakeTokenRequest, who: Principal) -> t.TokenView:
    """Make a token for a user.

    Raises:
        DeniedError: for somebody else, by no admin; or by a token that may do less than its user.
        InputError: no job could fit what it is for.
        ConflictError: there are as many as may be.
    """
    name = find_user(service, request.user, who)
    refuse_others(who, name, "to make a token")
    if who.speaks:
        raise DeniedError(
            "a token is shown at a terminal alone: in chat others may see it",
            known=True,
            hint="rota token create --for me, in a shell",
        )
    for glob in request.jobs:
        if (fault := glob_fault(glob)) is not None:
            raise InputError(f"jobs: {fault}: {glob!r}", hint='such as "web/**"')
    valid = timedelta(seconds=request.expires_s) if request.expires_s else None
    until = service.clock.now() + valid if valid is not None else None
    return await issue(
        service,
        name,
        by=who.name,
        role=request.role or "",
        jobs=tuple(request.jobs),
        until=_no_longer_than_shown(service, until, who),
        note=request.note,
    )


async def issue(
    service: Service,
    user: str,
    *,
    by: str,
    role: str = "",
    jobs: tuple[str, ...] = (),
    until: datetime | None = None,
    note: str = "",
    login: bool = False,
    groups: tuple[str, ...] = (),
) -> t.TokenView:
    """Write a new token down, and return it with its text; whoever calls has found that it may be.

    Raises:
        ConflictError: there are as many as may be.
    """
    now, known = service.clock.now(), service.world.cluster.picture.tokens
    live = [it for it in known.of(user) if not it.is_over(now)]
    if (len(live) >= MAX_EACH and not login) or len(known.by_digest) >= MAX_TOKENS:
        whose = f"{user} has {len(live)} tokens" if len(live) >= MAX_EACH else "there are too many"
        raise ConflictError(
            f"{whose}, and no more may be", hint="rota token list; rota token revoke ID"
        )
    text = printed_token(secrets.token_bytes(SECRET_BYTES))
    event = TokenMade(
        at=now,
        by=by,
        agent=service.me.name,
        user=user,
        digest=token_digest(text),
        role=role,
        jobs=jobs,
        until=until,
        note=note,
        login=login,
        groups=groups,
    )
    await service.write(event)
    made = known.by_digest.get(event.digest) or AccessToken(
        id=token_id(event.digest), user=user, made_at=now
    )
    return _view(made, text)


async def tokens(service: Service, request: t.TokensRequest, who: Principal) -> list[t.TokenView]:
    """List tokens that still open something, oldest first: one's own; an admin is told of all.

    Raises:
        DeniedError: they are another user's, and who asks is no admin.
    """
    now = service.clock.now()
    wanted = who.name if request.user == ME else request.user
    if who.role < Role.ADMIN:
        wanted = wanted or who.name
        refuse_others(who, wanted, "to list tokens")
    known = service.world.cluster.picture.tokens.by_digest.values()
    return [_view(it) for it in known if wanted in ("", it.user) and not it.is_over(now)]


async def revoke(service: Service, request: t.RevokeTokenRequest, who: Principal) -> t.TokenView:
    """Make a token worthless, on each agent as soon as that has folded it.

    Raises:
        NotFoundError: there is none of that id, or it is another user's and who asks is no admin.
    """
    tokens = service.world.cluster.picture.tokens
    wanted = who.token if request.id == THIS else request.id
    found = tokens.find(wanted) if wanted else None
    is_own = found is not None and (found.id == who.token or _is_of(who, found))
    if found is None or not (is_own or who.role >= Role.ADMIN):
        shown = "this request shows no token" if request.id == THIS else f"no token {request.id!r}"
        raise NotFoundError(shown, hint="see which there are: rota token list")
    if found.revoked_at is None:
        now = service.clock.now()
        event = TokenRevoked(
            at=now, by=who.name, agent=service.me.name, user=found.user, id=found.id
        )
        await service.write(event)
        found = tokens.find(wanted) or found
    return _view(found)


def _is_of(who: Principal, token: AccessToken) -> bool:
    """Whether somebody has a say over a token for being its user; not by one that allows less."""
    return who.name == token.user and not who.is_scoped and not who.build and not who.builds


def _no_longer_than_shown(
    service: Service, until: datetime | None, who: Principal
) -> datetime | None:
    """Return until when a token may hold that was asked for by showing one.

    Of a login it may be longer: the person was there.
    """
    shown = service.world.cluster.picture.tokens.find(who.token) if who.token else None
    if shown is None or shown.login or shown.until is None:
        return until
    return shown.until if until is None else min(until, shown.until)


def _view(token: AccessToken, text: str = "") -> t.TokenView:
    return t.TokenView(
        id=token.id,
        user=token.user,
        role=token.role,
        jobs=token.jobs,
        made_at=token.made_at,
        by=token.by,
        expires_at=token.until,
        used_at=token.used_at,
        revoked_at=token.revoked_at,
        revoked_by=token.revoked_by,
        note=token.note,
        login=token.login,
        token=text,
    )
