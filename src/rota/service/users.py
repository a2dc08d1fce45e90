"""Verbs on users: who they are, what they may, and what they are told.

A user changes what is his own; his role, and who he is on a network, he does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from rota.core.events import TokenRevoked, UserUnlinked
from rota.core.fields import FieldError, Spot, printed_value
from rota.core.linking import Session
from rota.core.notices import Audience, audience_of, room_of, wishes_of
from rota.core.preferences import PREFERENCES, Preference
from rota.core.problem import Problem
from rota.core.quiet import WEEKDAYS, Quiet
from rota.core.targets import Target
from rota.core.toml_document import Document, Source, read_document
from rota.core.user_text import clock
from rota.core.users import User, user_name_fault
from rota.errors import DeniedError, InputError, NotFoundError
from rota.service import messages as m
from rota.service import user_messages as u
from rota.service.context import Principal, Service
from rota.service.user_files import (
    change_user,
    find_user,
    refuse_others,
    refuse_strangers,
    remove_user,
    user_meant,
)
from rota.service.verbs import Role


async def users(service: Service, request: m.Nothing, who: Principal) -> list[u.UserView]:
    """List users by name."""
    refuse_strangers(service, who)
    sessions = service.world.cluster.picture.linking.by_user()
    names, whom = sorted(service.world.definitions.users), _audience(service)
    return [_view(service, whom, name, sessions.get(name, [])) for name in names]


async def user(service: Service, request: u.UserRequest, who: Principal) -> u.UserView:
    """Show a user."""
    refuse_strangers(service, who)
    return view(service, find_user(service, request.user, who))


async def put(service: Service, request: u.PutUserRequest, who: Principal) -> u.UserView:
    """Make a user, or change one; what is not said stays as it is.

    Raises:
        DeniedError: who asks is no admin, and it is another user, or a role.
    """
    name = user_meant(request.user, who)
    if (fault := user_name_fault(name)) is not None:
        raise InputError(f"{printed_value(name)} is no user's name", hint=fault)
    refuse_others(who, name, "to change a user")
    is_new = name not in service.world.definitions.users
    if who.role < Role.ADMIN and (is_new or request.role is not None):
        what = "a user is made by an admin" if is_new else "a role is given by an admin"
        raise DeniedError(f"{what}; {who.name} is {who.role.title}", known=True)

    def change(now: User) -> User:
        return replace(
            now,
            role=request.role if request.role is not None else now.role,
            emails=tuple(request.emails) if request.emails is not None else now.emails,
            timezone=request.timezone if request.timezone is not None else now.timezone,
        )

    message = f"{'add' if is_new else 'change'} user {name}"
    makes = who.role >= Role.ADMIN
    return await _changed(service, name, change, message, who, makes=makes)


async def rm(service: Service, request: u.UserRequest, who: Principal) -> u.UserView:
    """Remove a user: nobody is known as that any more, and codes, sessions and tokens end."""
    name = find_user(service, request.user, who)
    former = view(service, name)
    changed = await remove_user(service, name, who)
    linking = service.world.cluster.picture.linking
    if linking.of(name) or any(code.user == name for code in linking.codes.values()):
        now = service.clock.now()
        await service.write(UserUnlinked(at=now, by=who.name, agent=service.me.name, user=name))
    if any(it.revoked_at is None for it in service.world.cluster.picture.tokens.of(name)):
        now = service.clock.now()
        await service.write(TokenRevoked(at=now, by=who.name, agent=service.me.name, user=name))
    return replace(former, changed=changed)


# -- what somebody is told ------------------------------------------------------------------------


async def add_notify(service: Service, request: u.AddNotifyRequest, who: Principal) -> u.UserView:
    """Have a user told of something more than now: what was usual stands in the file from here on."""
    name = find_user(service, request.user, who)
    refuse_others(who, name, "to change what is told")
    raw: dict[str, Any] = {"to": list(request.to), "whose": request.whose}
    raw |= {key: list(it) for key, it in (("jobs", request.jobs), ("on", request.on)) if it}
    [preference] = _read("notify", [raw])
    whom = _audience(service)
    for target in preference.to:
        if target.network not in whom.networks:
            fault = room_of(whom, target.text)
            raise InputError(str(fault), hint="what is set up: settings.toml")

    def change(now: User) -> User:
        told = wishes_of(_audience(service), name)
        return now if preference in told else replace(now, preferences=(*told, preference))

    return await _changed(service, name, change, f"{name} is told of more", who)


async def rm_notify(service: Service, request: u.RemoveNotifyRequest, who: Principal) -> u.UserView:
    """Have a user told of something no more, or of nothing, or of what is usual again."""
    name = find_user(service, request.user, who)
    refuse_others(who, name, "to change what is told")

    def change(now: User) -> User:
        if request.usual:
            return replace(now, preferences=None)
        if request.number == 0:
            return replace(now, preferences=())
        told = list(wishes_of(_audience(service), name))
        if request.number > len(told):
            count = {0: "there are none", 1: "there is 1"}.get(len(told), f"there are {len(told)}")
            raise NotFoundError(
                f"{name} has no rule {request.number}", hint=f"{count}: rota notify"
            )
        del told[request.number - 1]
        return replace(now, preferences=tuple(told))

    return await _changed(service, name, change, f"{name} is told of less", who)


async def quiet(service: Service, request: u.QuietRequest, who: Principal) -> u.UserView:
    """Say when a user is told nothing directly; never, if nothing is said."""
    name = find_user(service, request.user, who)
    refuse_others(who, name, "to change quiet hours")
    raw: dict[str, Any] = {}
    if request.hours:
        start, dash, end = request.hours.partition("-")
        if not dash:
            raise InputError(
                f"{printed_value(request.hours)} are no hours", hint="such as 22:00-07:00"
            )
        raw["from"], raw["to"] = start.strip(), end.strip()
    if request.days:
        raw["days"] = list(request.days)
    hours = _read("quiet", raw) if raw else Quiet()
    return await _changed(
        service, name, lambda now: replace(now, quiet=hours), f"{name} has other quiet hours", who
    )


def _read(key: str, raw: Any) -> Any:
    """Return what a key of a user's file says, given as data.

    Raises:
        InputError: it is faulty; the faults are named as in a file, but for their places.
    """
    problems: list[Problem] = []
    document, _ = read_document(Source("", ()))
    spot = Spot(Document(document.source, {key: raw}, document.places), problems).at(key)
    found = None
    try:
        found = PREFERENCES[key].read(raw, spot)
    except FieldError as error:
        if error.message:
            spot.fault(f"{key} {error.message}", error.hint)
    if problems:
        first = problems[0]
        # There is one rule alone, so that its number says nothing.
        raise InputError(first.message.replace("notify[1].", ""), hint=first.hint)
    return found


# -- as REST shows it -----------------------------------------------------------------------------


async def _changed(
    service: Service,
    name: str,
    change: Callable[[User], User],
    message: str,
    who: Principal,
    *,
    makes: bool = False,
) -> u.UserView:
    changed = await change_user(service, name, change, message=message, who=who, makes=makes)
    return replace(view(service, name), changed=changed)


def view(service: Service, name: str) -> u.UserView:
    """Return a user as REST shows it."""
    linking = service.world.cluster.picture.linking
    return _view(service, _audience(service), name, linking.of(name))


def _view(
    service: Service, whom: Audience, name: str, sessions: Sequence[tuple[str, str, Session]]
) -> u.UserView:
    definitions = service.world.definitions
    found = definitions.users[name]
    return u.UserView(
        name=name,
        role=found.role,
        emails=found.emails,
        timezone=found.timezone,
        chat=found.chat,
        sessions=tuple(
            u.SessionView(network=network, who=who, nick=it.nick, at=it.at)
            for network, who, it in sessions
        ),
        groups=tuple(
            group
            for group, members in sorted(definitions.settings.groups.items())
            if name in members
        ),
        quiet=_quiet(found.quiet),
        notify=tuple(_preference(whom, name, it) for it in wishes_of(whom, name)),
        is_usual=found.preferences is None,
    )


def _audience(service: Service) -> Audience:
    return audience_of(service.world.definitions, service.world.cluster.picture.linking)


def _quiet(found: Quiet) -> u.QuietView:
    has_hours = found.start != found.end
    return u.QuietView(
        hours=f"{clock(found.start)}-{clock(found.end)}" if has_hours else "",
        days=tuple(WEEKDAYS[day] for day in found.days),
        text=found.text,
    )


def _preference(whom: Audience, name: str, found: Preference) -> u.PreferenceView:
    return u.PreferenceView(
        text=found.text,
        why_not="; ".join(filter(None, (_why_not(whom, name, it) for it in found.to))),
        jobs=found.jobs,
        whose=found.whose,
        on=found.on,
        to=tuple(target.text for target in found.to),
    )


def _why_not(whom: Audience, name: str, target: Target) -> str:
    """Say why a user cannot be told anything there; empty if nothing stands against it."""
    if not target.room and target.network not in whom.outlets:
        target = Target(target.network, f"@{name}")
    room = room_of(whom, target.text)
    return room if isinstance(room, str) else ""
