"""What goes in and out of the verbs on the audit."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from rota.core.deeds import Deed
from rota.core.instant import Instant
from rota.service.messages import MAX_TEXT, Request


class AuditRequest(Request, frozen=True, kw_only=True):
    """Which deeds; what is empty is not asked about."""

    by: Annotated[str, Meta(description="only of this principal", max_length=MAX_TEXT)] = ""
    job: Annotated[
        str,
        Meta(description="only on builds of jobs that match this glob", max_length=MAX_TEXT),
    ] = ""
    what: Annotated[
        str,
        Meta(description="only of this kind: run, cancel, commit, token.made", max_length=MAX_TEXT),
    ] = ""
    after: Annotated[
        str,
        Meta(description="only after this time (RFC 3339), or within so long: 2h", max_length=64),
    ] = ""
    until: Annotated[
        str,
        Meta(description="only before this time (RFC 3339), or so long ago: 2h", max_length=64),
    ] = ""
    before: Annotated[
        int, Meta(description="only before the event with this sequence; 0 is the end", ge=0)
    ] = 0
    limit: Annotated[int, Meta(description="at most so many, the newest", ge=1, le=10_000)] = 100


class DeedView(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what, when, to what, and from where."""

    seq: int
    at: Instant
    by: str
    verb: str
    kind: str
    on: tuple[str, ...]
    to: str
    why: str
    agent: str
    via: str
    token: str
    address: str  # from where it was asked for over TCP; an IP address, such as that of a proxy

    @classmethod
    def of(cls, deed: Deed) -> DeedView:
        """Return a deed as it is shown."""
        return cls(
            seq=deed.seq,
            at=deed.at,
            by=deed.by,
            verb=deed.verb,
            kind=deed.kind,
            on=deed.on,
            to=deed.to,
            why=deed.why,
            agent=deed.agent,
            via=deed.via,
            address=deed.address,
            token=deed.token,
        )


class AuditView(msgspec.Struct, frozen=True, kw_only=True):
    """Deeds, the newest first; with ``more`` there are others before the last one."""

    deeds: list[DeedView]
    more: bool


class HeadView(msgspec.Struct, frozen=True, kw_only=True):
    """The end of this agent's history; ``line`` has it all, to keep elsewhere."""

    agent: str
    seq: int
    chain: str
    commit: str
    line: str


class VerifyRequest(Request, frozen=True, kw_only=True):
    """What to hold the history against."""

    head: Annotated[
        str,
        Meta(
            description="lines of `audit head` that were kept, one after the other",
            max_length=MAX_TEXT,
        ),
    ] = ""
    logs: Annotated[bool, Meta(description="hash each log that is there anew")] = True


class BrokeOff(msgspec.Struct, frozen=True, kw_only=True, tag="broke-off"):
    """In place of the last line: why nothing more can be told."""

    text: str
    hint: str


class Verified(msgspec.Struct, frozen=True, kw_only=True, tag="verified"):
    """What was looked at, as the last line.

    ``gone`` are logs that are not kept any more; ``older`` the commits before ``since``, the first one
    that says what the journal was.
    """

    agent: str
    flaws: int
    commits: int
    records: int
    deeds: int
    moves: int
    events: int
    logs: int
    gone: int
    agents: int
    older: int
    since: str
    line: str
