"""Users' files on ``main``: found, changed and committed, by whoever may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rota.core.definitions import Definitions
from rota.core.fields import printed_value
from rota.core.problem import nearest
from rota.core.rights import Role
from rota.core.user_text import rewritten
from rota.core.users import User, parse_user, user_name_fault, user_path
from rota.errors import DeniedError, InputError, NotFoundError
from rota.service import user_messages as u
from rota.service.committing import commit, until_first
from rota.service.context import Principal, Service


def user_meant(request: str, who: Principal) -> str:
    """Return the name of the user whom a request means."""
    return who.name if request == u.ME else request


def find_user(service: Service, request: str, who: Principal) -> str:
    """Return the name of a user who is there.

    Raises:
        NotFoundError: none of that name.
    """
    name, users = user_meant(request, who), service.world.definitions.users
    if name in users:
        return name
    hint = nearest(name, users) if len(users) <= 1000 else None
    good = name if user_name_fault(name) is None else "NAME"
    hint = hint or f"an admin makes one: rota user set {good} --role builder --email …"
    if request == u.ME:
        raise NotFoundError(
            f"you are {printed_value(name)} here, and no user is called so", hint=hint
        )
    raise NotFoundError(f"no user {printed_value(name)}", hint=hint)


def refuse_others(who: Principal, name: str, what: str) -> None:
    """Do nothing if that is the principal himself, by all that he may, or an admin.

    Raises:
        DeniedError: it is somebody else; or a build, which is nobody.
    """
    if who.build or who.builds:
        raise DeniedError(f"a build is no user: {what} is for people", known=True)
    if who.is_scoped:
        raise DeniedError(
            f"the token {who.token} allows less than {who.name} may; {what} needs one that does not",
            known=True,
            hint="rota login, or a token made without --role and --jobs",
        )
    if who.name != name and who.role < Role.ADMIN:
        raise DeniedError(
            f"{who.name} is {who.role.title}; {what} of {name} needs an admin", known=True
        )


def refuse_strangers(service: Service, who: Principal) -> None:
    """Do nothing, unless somebody asks in chat whom nobody knows: addresses are none of his business.

    Raises:
        DeniedError: it is a stranger.
    """
    if who.speaks and who.name not in service.world.definitions.users:
        raise DeniedError("who there is, is told to those who are known here alone", known=True)


async def change_user(
    service: Service,
    name: str,
    change: Callable[[User], User],
    *,
    message: str,
    who: Principal,
    makes: bool = False,
) -> bool:
    """Commit what ``change`` makes of a user; return whether that made a commit.

    It is asked again whenever somebody else was first. Comments and layout of the file stay. A user
    who is not there is only made where that is what is wanted.

    Raises:
        InputError: the user would not be one, or the file has a layout that only people understand.
        NotFoundError: the user went meanwhile.
        UnavailableError: ``main`` moved each time, or cannot be written to now.
    """

    async def attempt(base: str) -> bool | None:
        definitions = service.world.definitions
        before = definitions.users.get(name)
        if before is None and not makes:
            find_user(service, name, who)
        after = change(before if before is not None else User())
        if after == before:
            return False
        text = await _text(service, definitions, name)
        new = await asyncio.to_thread(_checked, definitions, name, text, before, after)
        return await _commit(service, base, name, new.encode(), message, who)

    return await until_first(service, attempt)


async def remove_user(service: Service, name: str, who: Principal) -> bool:
    """Remove a user's file; return whether it was there."""

    async def attempt(base: str) -> bool | None:
        if user_path(name) not in service.world.definitions.files:
            return False
        return await _commit(service, base, name, None, f"remove user {name}", who)

    return await until_first(service, attempt)


async def _text(service: Service, definitions: Definitions, name: str) -> str | None:
    parsed = definitions.files.get(user_path(name))
    if parsed is None:
        return None
    data = (await service.store.blobs([parsed.blob]))[parsed.blob]
    return data.decode("utf-8", "surrogateescape")


def _checked(
    definitions: Definitions, name: str, text: str | None, before: User | None, after: User
) -> str:
    """Return the new text of a user's file, read again: it says what it is to say."""
    path = user_path(name)
    if text is not None and before is None:
        raise InputError(
            f"{path} has faults, and cannot be changed but by hand",
            problems=parse_user(text, path)[2],
        )
    new = rewritten(text, before or User(), after)
    user, claims, problems = parse_user(new, path)
    problems = problems or tuple(definitions.users.rivals(name, claims))
    if problems:
        raise InputError(f"{name} cannot be so", problems=problems)
    if user != after:
        raise InputError(
            f"{path} is written in a way that rota cannot change and keep",
            hint="change it by hand: rota clone, and git push",
        )
    return new


async def _commit(
    service: Service, base: str, name: str, data: bytes | None, message: str, who: Principal
) -> bool | None:
    """Commit a user's file, as who has an address that git knows; None if that is too late."""
    known = service.world.definitions.users.get(who.name)
    email = known.emails[0] if known is not None and known.emails else ""
    changes = {user_path(name): data}
    return True if await commit(service, base, changes, message, who, email=email) else None
