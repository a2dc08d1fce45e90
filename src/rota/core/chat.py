"""What the bot heard, answered, follows and has told: the folded part of chat.

A command is heard once (its message's id is known by then), carried out, and answered. What is
followed is a build in a thread or a room: what it asks there, and how it ends. All of it is bounded:
the oldest goes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from rota.core.build import Build
from rota.core.chat_words import BEGIN_BUILDS, first_word
from rota.core.events import (
    ChatAnswered,
    ChatHeard,
    ChatStanding,
    ChatTold,
    Emitted,
    Fact,
)
from rota.core.instant import Instant
from rota.core.job import Int
from rota.core.states import State

T = TypeVar("T")

MAX_WAITING = 1000
#: Of each network, so many ids of messages are known: as far back as a history is heard again.
MAX_IDS = 500
MAX_NETWORKS = 50
MAX_THREADS = 2000
MAX_FOLLOWED = 1000
MAX_PLACES = 50
#: Of so many builds it is known for a while where their end was told.
MAX_OVER = 200
#: What one follower was told, in marks; there are as many questions in a build at most.
MAX_MARKS = 120
#: The type of events that `chat` rules wait for.
SAID = "chat.said"
#: The mark that ends a follower.
END = "end"


class Waiting(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A command that was heard and is not answered yet. ``acted`` are events that it brought about."""

    network: str
    message: str
    room: str
    thread: str = ""
    who: str = ""
    nick: str = ""
    text: str = ""
    user: str = ""
    role: str = ""
    is_direct: bool = False
    build: str = ""  # which the thread is about
    at: Instant
    seq: Int = 0
    acted: bool = False
    made: str = ""  # the build that these were about
    outcome: Build | None = None  # how it ended meanwhile

    @property
    def key(self) -> str:
        """What names it for ever."""
        return message_key(self.network, self.message)


class Followed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A build that is followed in a room, or in a thread of it.

    ``log`` also shows its log there, as far as ``offset`` of ``attempt``; ``told`` are marks of what
    was said; ``ended`` is the sequence at which the build finished, and ``outcome`` how.
    """

    network: str
    room: str
    thread: str = ""
    build: str
    by: str = ""
    log: bool = False
    attempt: Int = 0
    offset: Int = 0
    told: tuple[str, ...] = ()
    ended: Int = 0
    outcome: Build | None = None

    @property
    def place(self) -> str:
        """Where it is followed, as a key."""
        return place_key(self.network, self.room, self.thread)


class Chat(msgspec.Struct):
    """The folded part of chat. ``answered`` has, by network, the ids that were dealt with."""

    waiting: dict[str, Waiting] = {}
    answered: dict[str, dict[str, None]] = {}
    positions: dict[str, str] = {}
    threads: dict[str, str] = {}  # by place, which build a thread is about
    followed: dict[str, dict[str, Followed]] = {}  # by build and place
    troubles: dict[str, str] = {}
    over: dict[str, tuple[Followed, ...]] = {}  # by build, who followed it and was told its end

    def is_known(self, network: str, message: str) -> bool:
        """Whether a message was heard before."""
        is_waiting = message_key(network, message) in self.waiting
        return is_waiting or message in self.answered.get(network, {})

    def following(self, build: str) -> list[Followed]:
        """Return who follows a build."""
        return list(self.followed.get(build, {}).values())

    def told_by_bot(self, build: str) -> Set[tuple[str, str]]:
        """Return who is told of a build by the bot where they asked for it: users and networks."""
        found = {(it.by, it.network) for it in (*self.following(build), *self.over.get(build, ()))}
        for it in self.waiting.values():
            if it.made == build and first_word(it.text) in BEGIN_BUILDS:
                found.add((it.user, it.network))
        return found

    def rooms_told(self, build: str, threadless: Collection[str]) -> Set[str]:
        """Return the rooms that the bot tells of a build's end, as targets; threads are no rooms.

        Args:
            build: Its id.
            threadless: Networks on which an answer begins no thread.
        """
        places = (*self.following(build), *self.over.get(build, ()))
        found = {f"{it.network}:{it.room}" for it in places if not it.thread}
        for it in self.waiting.values():
            begins = it.made == build and first_word(it.text) in BEGIN_BUILDS
            if begins and it.network in threadless:
                found.add(f"{it.network}:{it.room}")
        return found

    def about(self, network: str, thread: str) -> str:
        """Return which build a thread is about; empty if it is about none."""
        return self.threads.get(thread_key(network, thread), "") if thread else ""

    def in_room(self, network: str, room: str) -> list[str]:
        """Return the builds that are followed in a room, in its threads too; the oldest first."""
        return [
            build
            for build, places in self.followed.items()
            if any(
                (it.network, it.room) == (network, room) and not it.ended for it in places.values()
            )
        ]


def message_key(network: str, message: str) -> str:
    """Return what names a message for ever."""
    return f"{network}:{message}"


def place_key(network: str, room: str, thread: str) -> str:
    """Return what names a place where something is followed."""
    return f"{network} {room} {thread}"


def thread_key(network: str, thread: str) -> str:
    """Return what names a thread; its room may have several names."""
    return f"{network} {thread}"


def heard(chat: Chat, seq: int, event: ChatHeard) -> None:
    """Take note of a command."""
    if chat.is_known(event.network, event.message):
        return
    _note_position(chat, event.network, event.position)
    note = Waiting(
        network=event.network,
        message=event.message,
        room=event.room,
        thread=event.thread,
        who=event.who,
        nick=event.nick,
        text=event.text,
        user=event.user,
        role=event.role,
        is_direct=event.is_direct,
        build=event.build,
        at=min(event.at, event.said_at or event.at),
        seq=seq,
    )
    chat.waiting[note.key] = note
    for gone in list(chat.waiting.values())[:-MAX_WAITING]:
        _settle(chat, gone.network, gone.message)


def said(chat: Chat, event: Emitted) -> None:
    """Take note of a line that set off rules: it is known from now on."""
    network, message = event.data.get("network"), event.data.get("message")
    if event.type == SAID and isinstance(network, str) and isinstance(message, str) and message:
        _settle(chat, network[:100], message[:300])
        position = event.data.get("position")
        _note_position(chat, network[:100], position if isinstance(position, str) else "")


def acted(chat: Chat, event: Fact) -> None:
    """Take note that a command brought something about."""
    note = chat.waiting.get(event.via)
    if note is not None:
        made = getattr(event, "build", "") or getattr(event, "pipeline", "") or note.made
        chat.waiting[event.via] = replace(note, acted=True, made=made)


def answered(chat: Chat, seq: int, event: ChatAnswered, build: Build | None) -> None:
    """Take note of an answer; where it is about a build that runs, that is followed from now on."""
    known_as = chat.waiting.get(message_key(event.network, event.message))
    if build is None and known_as is not None and known_as.made == event.build:
        build = known_as.outcome  # it has left the memory before it was told of
    _settle(chat, event.network, event.message)
    if not event.build:
        return
    if event.thread:
        _link(chat, event.network, event.thread, event.build)
    if event.unfollow:
        for note in chat.following(event.build):
            if (note.network, note.room) == (event.network, event.room):
                _drop(chat, note)
        return
    if build is None or not event.follow:
        return
    is_over = build.state is State.FINISHED
    note = Followed(
        network=event.network,
        room=event.room,
        thread=event.thread,
        build=event.build,
        by=known_as.user if known_as is not None else "",
        log=event.follow == "log",
        attempt=max(build.attempt, 1),
        offset=event.offset,
        ended=seq if is_over else 0,
        outcome=build if is_over else None,
    )
    known = chat.followed.get(event.build, {}).get(note.place)
    if known is not None and known.log:
        return
    if known is not None:
        note = replace(note, told=known.told)
    places = chat.followed.setdefault(event.build, {})
    places[note.place] = note
    _forget(places, MAX_PLACES)
    _forget(chat.followed, MAX_FOLLOWED)


def told(chat: Chat, event: ChatTold) -> None:
    """Take note of what was said of a build where it is followed."""
    place = place_key(event.network, event.room, event.thread)
    note = chat.followed.get(event.build, {}).get(place)
    if note is None:
        return
    if event.mark == END:
        _drop(chat, note)
        if not event.why:
            told = replace(note, outcome=None, told=())
            chat.over[event.build] = (*chat.over.pop(event.build, ()), told)[-MAX_PLACES:]
            _forget(chat.over, MAX_OVER)
        return
    marks = (*note.told, event.mark) if event.mark and event.mark not in note.told else note.told
    chat.followed[event.build][place] = replace(
        note,
        told=marks[-MAX_MARKS:],
        attempt=event.attempt or note.attempt,
        offset=event.offset if event.attempt else note.offset,
    )


def standing(chat: Chat, event: ChatStanding) -> None:
    """Take note of which networks are not connected."""
    chat.troubles.pop(event.network, None)
    if event.trouble:
        chat.troubles[event.network] = event.trouble
        _forget(chat.troubles, MAX_NETWORKS)
    if event.position:
        _note_position(chat, event.network, event.position)


def link(chat: Chat, network: str, thread: str, builds: Set[str]) -> None:
    """Take note of what a message is about, below which people may write."""
    if thread and len(builds) == 1:
        _link(chat, network, thread, next(iter(builds)))


def moved(chat: Chat, seq: int, build: Build) -> None:
    """Take note that a build that is followed, or will be, has finished, or has begun anew."""
    if build.state is not State.FINISHED:
        chat.over.pop(build.id, None)
    for key, waiting in chat.waiting.items():
        if waiting.made == build.id:
            is_over = build.state is State.FINISHED
            chat.waiting[key] = replace(waiting, outcome=build if is_over else None)
    for note in chat.following(build.id):
        if build.state is State.FINISHED:
            after = replace(note, ended=seq, outcome=build)
        elif note.ended:
            after = replace(note, ended=0, outcome=None)
        else:
            continue
        chat.followed[build.id][note.place] = after


def _drop(chat: Chat, note: Followed) -> None:
    places = chat.followed.get(note.build, {})
    places.pop(note.place, None)
    if not places:
        chat.followed.pop(note.build, None)


def _settle(chat: Chat, network: str, message: str) -> None:
    chat.waiting.pop(message_key(network, message), None)
    known = chat.answered.setdefault(network, {})
    known.pop(message, None)
    known[message] = None
    _forget(known, MAX_IDS)
    _forget(chat.answered, MAX_NETWORKS)


def _note_position(chat: Chat, network: str, position: str) -> None:
    if position:
        chat.positions[network] = position
        _forget(chat.positions, MAX_NETWORKS)


def _link(chat: Chat, network: str, thread: str, build: str) -> None:
    key = thread_key(network, thread)
    chat.threads.pop(key, None)
    chat.threads[key] = build
    _forget(chat.threads, MAX_THREADS)


def _forget(known: dict[str, T], most: int) -> None:
    while len(known) > most:
        del known[next(iter(known))]


def positions(chat: Chat, networks: Iterable[str]) -> Mapping[str, str]:
    """Return how far each network was dealt with, as far as that is known."""
    return {name: chat.positions[name] for name in networks if name in chat.positions}
