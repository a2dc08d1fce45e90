"""What goes in and out of the verbs on users: who they are, and what they are told."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rota.service.messages import MAX_TEXT, Request

#: In place of a user's name: who asks.
ME = "@me"

UserArg = Annotated[
    str, Meta(description="the user's name; @me is who asks", min_length=1, max_length=100)
]
RoleName = Literal["none", "viewer", "builder", "maintainer", "admin"]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Texts = Annotated[tuple[Text, ...], Meta(max_length=50)]


class UserRequest(Request, frozen=True, kw_only=True):
    """One user."""

    user: UserArg


class PutUserRequest(Request, frozen=True, kw_only=True):
    """What a user is to be; what is left away stays as it is."""

    user: UserArg
    role: Annotated[
        RoleName | None, Meta(description="what the user may; builder, if nothing is said")
    ] = None
    emails: Annotated[
        Texts | None,
        Meta(description="e-mail addresses, those of commits too; mail goes to the first"),
    ] = None
    timezone: Annotated[
        Text | None, Meta(description="where quiet hours are, such as Europe/Berlin; empty is UTC")
    ] = None


class LinkRequest(Request, frozen=True, kw_only=True):
    """A code to make."""

    user: UserArg
    network: Annotated[
        str, Meta(description="the only network where it holds; any, if empty", max_length=100)
    ] = ""


class UnlinkRequest(Request, frozen=True, kw_only=True):
    """Identities that are to be a user's no more."""

    user: UserArg
    network: Annotated[str, Meta(description="the network", min_length=1, max_length=100)]
    who: Annotated[
        str, Meta(description="the identity there; all, if empty", max_length=MAX_TEXT)
    ] = ""


class AddNotifyRequest(Request, frozen=True, kw_only=True):
    """One more thing that a user is to be told."""

    user: UserArg
    to: Annotated[Texts, Meta(description="where: a network, mail, irc:#web, an outlet")]
    on: Annotated[
        Texts,
        Meta(description="first-failure, failed, fixed, passed, always, asked; the usual if empty"),
    ] = ()
    jobs: Annotated[Texts, Meta(description="globs of the jobs; all if empty")] = ()
    whose: Annotated[
        Literal["mine", "all"], Meta(description="mine: with commits of mine, or asked for by me")
    ] = "mine"


class RemoveNotifyRequest(Request, frozen=True, kw_only=True):
    """Something that a user is to be told no more."""

    user: UserArg
    number: Annotated[int, Meta(description="which of them, from 1; 0 is all", ge=0, le=1000)]
    usual: Annotated[bool, Meta(description="all of them, and then what is usual holds again")] = (
        False
    )


class QuietRequest(Request, frozen=True, kw_only=True):
    """When a user is told nothing directly."""

    user: UserArg
    hours: Annotated[
        str, Meta(description="such as 22:00-07:00; no hours if empty", max_length=100)
    ] = ""
    days: Annotated[Texts, Meta(description="whole days of the week, such as sat, sun")] = ()


class PreferenceView(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a user is told: on what occasions, of which builds, where; ``text`` in words.

    ``why_not`` says where it cannot be told.
    """

    text: str
    why_not: str = ""
    jobs: tuple[str, ...]
    whose: str
    on: tuple[str, ...]
    to: tuple[str, ...]


class QuietView(msgspec.Struct, frozen=True, kw_only=True):
    """When a user is told nothing directly; ``text`` says it in words."""

    hours: str
    days: tuple[str, ...]
    text: str


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """A session on a network that is a user's until it ends."""

    network: str
    who: str
    nick: str
    at: datetime


class UserView(msgspec.Struct, frozen=True, kw_only=True):
    """A user. ``changed`` says whether a commit was made.

    ``notify`` is what the user is told; it ``is_usual`` where the file says nothing of it. ``groups``
    are those of the settings with this user in them.
    """

    name: str
    role: str
    emails: tuple[str, ...]
    timezone: str
    chat: dict[str, tuple[str, ...]]
    sessions: tuple[SessionView, ...]
    groups: tuple[str, ...]
    quiet: QuietView
    notify: tuple[PreferenceView, ...]
    is_usual: bool
    changed: bool = False


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a code is to be said, and how."""

    network: str
    server: str
    nick: str
    say: str


class LinkCodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A code, which is shown this once, and where to say it."""

    user: str
    code: str
    expires_at: datetime
    places: tuple[Place, ...]
