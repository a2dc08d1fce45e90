"""Who a chat identity is, and how it comes to be somebody: by a code that its user was shown.

The agent that leads calls this for what it heard on a network; nothing here believes a caller of
REST who somebody is there.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import msgspec

from rota.core.events import UserCode, UserLinked, UserUnlinked
from rota.core.fields import printed_value
from rota.core.linking import (
    ALPHABET,
    CODE_LENGTH,
    LinkCode,
    code_digest,
    is_session,
    plain_code,
    shown_code,
)
from rota.core.problem import nearest
from rota.core.settings_chat import ChatNetwork
from rota.core.users import User, identity_fault
from rota.errors import ConflictError, DeniedError, InputError, NotFoundError
from rota.service import user_messages as u
from rota.service.context import Principal, Service
from rota.service.guesses import VALID
from rota.service.user_files import change_user, find_user, refuse_others
from rota.service.users import view
from rota.service.verbs import Role
from rota.service.world import World

_WRONG = "the code opens nothing: it was never given out, is used, or is older than 10 minutes"
_NEW = "make a new one: rota user link"


class Linked(msgspec.Struct, frozen=True, kw_only=True):
    """An identity that is a user's now, and what to say about it."""

    user: str
    text: str


def known_as(world: World, network: str, who: str) -> str:
    """Return the name of the user whose identity that is; empty if it is nobody's."""
    users = world.definitions.users
    if not is_session(who):
        return users.find(network, who)
    name = world.cluster.picture.linking.session(network, who)
    return name if name in users else ""


def role_of(world: World, name: str) -> Role:
    """Return what a user may, by the file; nobody's is the least."""
    user = world.definitions.users.get(name)
    return Role[user.role.upper()] if user is not None else Role.NONE


def hidden(words: Sequence[str]) -> tuple[str, ...]:
    """Return a command's words as they may be written down: a code could still be of use to others."""
    if len(words) > 1 and words[0].casefold() == "link":
        return (words[0], "…")
    return tuple(words)


# -- give a code out ------------------------------------------------------------------------------


async def give_code(service: Service, request: u.LinkRequest, who: Principal) -> u.LinkCodeView:
    """Make a code for a user, which links the first who says it on a network.

    Raises:
        DeniedError: it is another user, or who asks does so where others can read along.
        ConflictError: there is no network on which it could be said.
        NotFoundError: no such user, or network.
    """
    name = find_user(service, request.user, who)
    refuse_others(who, name, "to link chat identities")
    if who.speaks:
        raise DeniedError(
            "a code is shown at a terminal alone: in chat others may see it",
            known=True,
            hint="rota user link, in a shell",
        )
    networks = _networks(service, request.network)
    now = service.clock.now()
    code = "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH))
    event = UserCode(
        at=now,
        by=who.name,
        agent=service.me.name,
        user=name,
        digest=code_digest(service.ca_key(), code),
        until=now + VALID,
        network=request.network,
    )
    await service.write(event)
    return u.LinkCodeView(
        user=name,
        code=shown_code(code),
        expires_at=event.until,
        places=tuple(_place(network, it, code) for network, it in sorted(networks.items())),
    )


def _networks(service: Service, wanted: str) -> dict[str, ChatNetwork]:
    known = service.world.definitions.settings.chat
    if not known:
        raise ConflictError(
            "there is no chat network to link to", hint="settings.toml names them: [chat.NAME]"
        )
    if wanted and wanted not in known:
        hint = nearest(wanted, known) or f"there are: {', '.join(sorted(known))}"
        raise NotFoundError(f"no chat network {printed_value(wanted)}", hint=hint)
    return {wanted: known[wanted]} if wanted else dict(known)


def _place(name: str, network: ChatNetwork, code: str) -> u.Place:
    say = f"link {shown_code(code)}"
    if network.kind == "irc":
        say = f"/msg {network.nick} {say}"
    return u.Place(network=name, server=network.server, nick=network.nick, say=say)


# -- take one -------------------------------------------------------------------------------------


async def link(
    service: Service,
    text: str,
    *,
    network: str,
    who: str,
    nick: str,
    fence: int,
) -> Linked:
    """Make an identity a user's, for the code that it said. The same again changes nothing.

    Args:
        service: Of the agent that heard it.
        text: What was said as the code.
        network: Where.
        who: By whom, as the network vouches for it.
        nick: How people see them there.
        fence: Of the election by which the caller leads.

    Raises:
        DeniedError: the code is none, or the network vouches for nobody.
        ConflictError: that identity is another user's.
        UnavailableError: as of any write; said again, the same code goes on.
    """
    if not who:
        raise DeniedError(
            f"{network} does not say who you are, so that nobody can be known by it",
            known=True,
            hint="log in there first, and say it again with a new code: rota user link",
        )
    if not is_session(who) and (fault := identity_fault(who)) is not None:
        raise InputError(f"the name that {network} knows you by {fault}")
    now = service.clock.monotonic()
    service.guesses.refuse(network, who, now)
    async with service.turn("linking"):
        digest, code = _code(service, text)
        if code is None or (code.used_by and (code.used_on, code.used_by) != (network, who)):
            service.guesses.note(network, who, now)
            raise DeniedError(_WRONG, known=True, hint=_NEW)
        if code.network not in ("", network):
            raise DeniedError(f"that code is for {code.network}", known=True, hint=_NEW)
        _refuse_owned(service.world, code.user, network, who, nick)
        if not code.used_by:
            await _use(service, code.user, digest, network=network, who=who, nick=nick, fence=fence)
        if not is_session(who):
            await _commit(service, code.user, network, who)
    until = "for as long as this session" if is_session(who) else "from now on"
    role = role_of(service.world, code.user).title
    return Linked(user=code.user, text=f"you are {code.user} here {until}, {role}")


def _code(service: Service, text: str) -> tuple[str, LinkCode | None]:
    """Return a code's digest, and what is known of it, if its time is not over and its user is there."""
    plain = plain_code(text)
    digest = code_digest(service.ca_key(), plain)
    # By a keyed digest the time of a look-up tells nothing of the code.
    found = service.world.cluster.picture.linking.codes.get(digest) if plain else None
    if found is None or found.until <= service.clock.now():
        return digest, None
    return digest, found if found.user in service.world.definitions.users else None


def _refuse_owned(world: World, user: str, network: str, who: str, nick: str) -> None:
    owner = known_as(world, network, who)
    if owner not in ("", user):
        raise ConflictError(
            f"{nick or who} is {owner} on {network}",
            hint=f"{owner} can end that: rota user unlink {network}",
        )


async def _use(
    service: Service,
    user: str,
    digest: str,
    *,
    network: str,
    who: str,
    nick: str,
    fence: int,
) -> None:
    """Write down who used a code.

    Raises:
        DeniedError: somebody else was first.
    """
    event = UserLinked(
        at=service.clock.now(),
        by=user,
        agent=service.me.name,
        user=user,
        network=network,
        who=who,
        nick=nick,
        digest=digest,
    )
    await service.write(event, fence=fence)
    used = service.world.cluster.picture.linking.codes.get(digest)
    if used is None or (used.used_on, used.used_by) != (network, who):
        raise DeniedError(_WRONG, known=True, hint=_NEW)


async def _commit(service: Service, user: str, network: str, who: str) -> None:
    """Write an identity into its user's file."""

    def linked(now: User) -> User:
        known = now.chat.get(network, ())
        if who in known:
            return now
        return msgspec.structs.replace(now, chat={**now.chat, network: (*known, who)})

    await change_user(
        service,
        user,
        linked,
        message=f"{user} linked {who} on {network}",
        who=Principal(name=user, role=role_of(service.world, user)),
    )


# -- end one --------------------------------------------------------------------------------------


async def unlink(service: Service, request: u.UnlinkRequest, who: Principal) -> u.UserView:
    """Make identities on a network a user's no more.

    Raises:
        NotFoundError: that user has none there.
    """
    name = find_user(service, request.user, who)
    refuse_others(who, name, "to end links")
    network, identity = request.network, request.who
    linking = service.world.cluster.picture.linking
    user = service.world.definitions.users[name]
    sessions = [
        session
        for on, session, _ in linking.of(name)
        if on == network and identity in ("", session)
    ]
    stable = [it for it in user.chat.get(network, ()) if identity in ("", it)]
    if not sessions and not stable:
        what = f"{printed_value(identity)} on {network}" if identity else f"linked on {network}"
        known = ", ".join(sorted({*user.chat, *(on for on, _, _ in linking.of(name))}))
        raise NotFoundError(
            f"{name} is not {what}", hint=f"linked: {known}" if known else "linked nowhere"
        )

    def without(now: User) -> User:
        left = tuple(it for it in now.chat.get(network, ()) if it not in stable)
        chat = {on: it for on, it in now.chat.items() if on != network}
        return msgspec.structs.replace(now, chat={**chat, network: left} if left else chat)

    if sessions:
        event = UserUnlinked(
            at=service.clock.now(),
            by=who.name,
            agent=service.me.name,
            user=name,
            network=network,
            who=identity,
        )
        await service.write(event)
    if stable:
        message = f"unlink {name} from {', '.join(stable)} on {network}"
        await change_user(service, name, without, message=message, who=who)
    return msgspec.structs.replace(view(service, name), changed=True)
