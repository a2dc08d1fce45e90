"""What the chat networks are, and who is known there."""

from __future__ import annotations

from rota.core.settings_chat import ChatNetwork
from rota.service import messages as m
from rota.service.chat_messages import ChatUser, ChatView
from rota.service.context import Principal, Service
from rota.service.linking import role_of
from rota.service.world import World


async def chat(service: Service, request: m.Nothing, who: Principal) -> list[ChatView]:
    """List the networks that the settings name, in their order."""
    world = service.world
    return [_view(world, name, it) for name, it in world.definitions.settings.chat.items()]


def chat_troubles(world: World) -> list[str]:
    """Return which networks the settings name and the leader is not connected to, and why."""
    known = world.definitions.settings.chat
    troubles = world.cluster.picture.chat.troubles
    return [f"chat network {name}: {text}" for name, text in troubles.items() if name in known]


def _view(world: World, name: str, network: ChatNetwork) -> ChatView:
    picture = world.cluster.picture
    trouble = picture.chat.troubles.get(name, "")
    followed = [
        it
        for places in picture.chat.followed.values()
        for it in places.values()
        if it.network == name
    ]
    return ChatView(
        name=name,
        kind=network.kind,
        server=network.server,
        nick=network.nick,
        rooms=tuple(room.split()[0] for room in network.rooms),
        prefix=network.prefix,
        public=network.public,
        state="troubled" if trouble else "connected",
        trouble=trouble,
        speaker=picture.leader,
        users=tuple(_users(world, name)),
        waiting=sum(it.network == name for it in picture.chat.waiting.values()),
        followed=len({it.build for it in followed}),
    )


def _users(world: World, network: str) -> list[ChatUser]:
    linking = world.cluster.picture.linking
    found = [
        (user, who)
        for user, it in world.definitions.users.items()
        for who in it.chat.get(network, ())
    ]
    found += [(it.user, who) for who, it in linking.sessions.get(network, {}).items()]
    return [
        ChatUser(user=user, role=role_of(world, user).name.lower(), who=who)
        for user, who in sorted(found)
        if user in world.definitions.users
    ]
