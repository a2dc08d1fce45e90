"""Verbs on notices: what people are to be told, were told, or will never be; and trying a target."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from secrets import token_hex
from urllib.parse import urlencode

import msgspec

from rota.core.build import Build
from rota.core.events import NoticesQueued
from rota.core.fields import printed_value
from rota.core.ids import job_of
from rota.core.notices import Audience, audience_of, room_of
from rota.core.outbox import TEST, Done, Due, Notice, Outbox, Queue, Tale, Telling, notice_id
from rota.core.targets import MAIL, Target, parse_target
from rota.errors import InputError, RotaError
from rota.service import members
from rota.service import notice_messages as n
from rota.service.context import Principal, Service
from rota.service.user_files import find_user
from rota.service.verbs import Role
from rota.service.world import World

logger = logging.getLogger(__name__)

#: For the leader to answer.
ASK_S = 2.0


async def notices(
    service: Service, request: n.NoticesRequest, who: Principal
) -> list[n.NoticeView]:
    """List notices, oldest first: what is owed and what was dropped; with ``all`` what was sent.

    Whoever leads knows what stands against a target, and is asked; else this agent tells what it can.
    """
    if (told := await _of_leader(service, request, who)) is not None:
        return [view for view in told if _is_seen(view, who)]
    outbox, troubles = service.world.cluster.picture.outbox, service.world.troubles
    found = [
        view
        for view in _views(outbox, troubles)
        if (request.all or view.state != "sent")
        and request.target in ("", view.target)
        and request.build in ("", view.build)
        and _is_seen(view, who)
    ]
    found.sort(key=lambda view: (view.over_at or view.at, view.id))
    return found[-request.limit :]


def _is_seen(view: n.NoticeView, who: Principal) -> bool:
    """Whether it is somebody's business: a notice to him, or of a build that he sees."""
    if who.sees_all or (view.user and view.user == who.name):
        return True
    return bool(view.build) and who.sees(job_of(view.build))


async def _of_leader(
    service: Service, request: n.NoticesRequest, who: Principal
) -> list[n.NoticeView] | None:
    """Return what the leader tells; ``None`` if that is this agent, or it does not answer."""
    leader = service.world.cluster.picture.leader
    if who.peer or service.peers is None or leader in ("", service.me.name):
        return None
    query = {"all": "true" if request.all else "false", "limit": str(request.limit)}
    query |= {"target": request.target, "build": request.build}
    try:
        answer = await service.peers.request(
            members.peer(service.world, leader),
            "GET",
            f"/v1/notices?{urlencode(query)}",
            headers=members.spoken_for(who),
            within_s=ASK_S,
        )
        return msgspec.json.decode(answer, type=list[n.NoticeView])
    except (RotaError, msgspec.MsgspecError) as error:
        logger.info("%s does not say what is owed to whom: %s", leader, error)
        return None


async def try_target(service: Service, request: n.TryTargetRequest, who: Principal) -> n.NoticeView:
    """Have a target told that this is a test; return how that went, as far as it did in time.

    Raises:
        InputError: it is no target, nothing is set up for it, or nobody is known there.
        DeniedError: who asks may try what is his own alone.
    """
    target = _meant(service, request, who)
    mark = token_hex(8)
    due = Due(target.text, TEST, target.user)
    tale = Tale(build="", ref=who.name, notices=(due,))
    event = NoticesQueued(
        at=service.clock.now(),
        by=who.name,
        agent=service.me.name,
        tellings=(Telling(build="", mark=mark, tales=(tale,)),),
    )
    seq = await service.write(event)
    id_ = notice_id(tale, mark, target.text)
    outbox = service.world.cluster.picture.outbox
    await _settled(service.world, outbox, id_, seq, request.wait)
    return next(view for view in _views(outbox, service.world.troubles) if view.id == id_)


def _meant(service: Service, request: n.TryTargetRequest, who: Principal) -> Target:
    found = parse_target(request.target)
    if isinstance(found, str):
        raise InputError(
            f"it {found}", hint="such as irc:#web, irc:@ann, mail:ann@example.org, mail"
        )
    whom = audience_of(service.world.definitions, service.world.cluster.picture.linking)
    if not found.room and found.network not in whom.outlets:
        found = Target(found.network, f"@{find_user(service, request.user, who)}")
    _refuse_others(whom, found, who)
    room = room_of(whom, found.text)
    if isinstance(room, str):
        raise InputError(room, hint="what is set up: settings.toml; who is known where: rota user")
    return found


def _refuse_others(whom: Audience, target: Target, who: Principal) -> None:
    own = whom.users.get(who.name)
    is_own = target.user == who.name or (
        own is not None and target.network == MAIL and target.room in own.emails
    )
    if not is_own:
        who.require(Role.MAINTAINER, f"to try {printed_value(target.text)}, which is not your own,")


async def _settled(world: World, outbox: Outbox, notice: str, seq: int, within_s: float) -> None:
    """Return when a notice is over, or after a while."""
    try:
        while notice not in outbox.done:
            seq += 1
            await world.reached(seq, within_s)
    except TimeoutError:
        pass


def told_words(world: World, build: Build) -> str:
    """Return who was told of a build, in words; empty if nobody was to be."""
    if not build.told:
        return ""
    outbox = world.cluster.picture.outbox
    states = {
        view.target: view for view in _views(outbox, world.troubles) if view.build == build.ref
    }
    words = []
    for target in build.told:
        view = states.get(target)
        if view is None or view.state == "sent":
            words.append(target)
        else:
            words.append(f"{target} ({view.state}{f': {view.why}' if view.why else ''})")
    return "told " + ", ".join(words)


def _views(outbox: Outbox, troubles: dict[str, str]) -> Iterator[n.NoticeView]:
    for done in outbox.done.values():
        yield _over(done)
    for target, queue in outbox.queues.items():
        for notice in queue.notices:
            trouble = troubles.get(f"notices {target}", "").removeprefix(f"{target}: ")
            yield _owed(notice, queue, trouble)


def _over(done: Done) -> n.NoticeView:
    notice, said = done.notice, done.said
    return n.NoticeView(
        id=notice.id,
        target=notice.target,
        user=notice.user,
        occasion=notice.occasion,
        build=notice.ref if notice.build else "",
        state="sent" if said.was_sent else "dropped",
        why=said.why,
        at=notice.at,
        not_before=notice.after,
        over_at=said.at,
        message=said.message,
    )


def _owed(notice: Notice, queue: Queue, trouble: str) -> n.NoticeView:
    is_sending = queue.sending is not None and notice.id in queue.sending.notices
    why = trouble
    if not why and notice.after is not None:
        why = f"quiet hours until {notice.after:%Y-%m-%d %H:%M} UTC"
    if not is_sending and queue.left_out:
        why = "; ".join(it for it in (why, f"{queue.left_out} older ones were dropped") if it)
    return n.NoticeView(
        id=notice.id,
        target=notice.target,
        user=notice.user,
        occasion=notice.occasion,
        build=notice.ref if notice.build else "",
        state="sending" if is_sending else "waiting",
        why=why,
        at=notice.at,
        not_before=notice.after,
        message=queue.sending.message if queue.sending is not None and is_sending else "",
    )
