"""What goes in and out of the verbs on notices."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rota.service.messages import MAX_TEXT, Request
from rota.service.user_messages import ME, UserArg


class NoticesRequest(Request, frozen=True, kw_only=True):
    """Which notices."""

    all: Annotated[bool, Meta(description="those too that were sent")] = False
    target: Annotated[
        str, Meta(description="only of this target, such as irc:#web", max_length=MAX_TEXT)
    ] = ""
    build: Annotated[
        str, Meta(description="only of this build: job#number", max_length=MAX_TEXT)
    ] = ""
    limit: Annotated[int, Meta(description="at most so many, the last ones", ge=1, le=2000)] = 200


class TryTargetRequest(Request, frozen=True, kw_only=True):
    """A target that is to be tried."""

    target: Annotated[
        str,
        Meta(
            description="irc:#web, irc:@ann, mail:ann@example.org or an outlet; matrix is the user there",
            min_length=1,
            max_length=MAX_TEXT,
        ),
    ]
    user: UserArg = ME
    wait: Annotated[
        float, Meta(description="seconds to wait until it is said, or refused", ge=0, le=60)
    ] = 10.0


class NoticeView(msgspec.Struct, frozen=True, kw_only=True):
    """One notice.

    It is ``waiting`` for its turn, for the end of quiet hours or for a target that takes nothing,
    about to be said (``sending``), ``sent``, or ``dropped``; ``why`` says for what it waits, or why it
    was dropped. ``message`` is the id under which it is said, with others where they were many.
    """

    id: str
    target: str
    user: str
    occasion: str
    build: str
    state: Literal["waiting", "sending", "sent", "dropped"]
    why: str = ""
    at: datetime
    not_before: datetime | None = None
    over_at: datetime | None = None
    message: str = ""
