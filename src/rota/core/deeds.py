"""Deeds: who did what, when, to what, and from where; kept when their events have left the journal.

A deed is the short form of an event that somebody asked for. What agents do by themselves, such as
claims and results, is none: records and the ledger tell it. Deeds stand in the messages of the
commits of ``history``, a line each, so ``git log --grep`` finds them too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from rota.core.events import (
    AgentDrained,
    AgentJoined,
    AgentLabelled,
    AgentLeft,
    BuildAnswered,
    BuildApproved,
    BuildCancelled,
    BuildEntered,
    BuildFact,
    BuildRejected,
    BuildRequested,
    BuildRetried,
    CachesDropped,
    CloudDraining,
    CloudPaused,
    ClusterRaised,
    Emitted,
    Event,
    Fact,
    PipelineRequested,
    StoreMoved,
    TokenMade,
    TokenRevoked,
    Unknown,
    UserCode,
    UserLinked,
    UserUnlinked,
    kind_of,
)
from rota.core.globs import matches
from rota.core.instant import Instant
from rota.core.job import Int
from rota.core.problem import nearest
from rota.core.tokens import token_id
from rota.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rota.core.build import Build

LINE = "Deed: "
#: What somebody gave as a reason is kept to this many characters.
MAX_WHY = 200

#: What a deed is called on the command line, for kinds of events whose verb has another name.
VERBS = {
    "build.requested": "run",
    "pipeline.requested": "run",
    "build.cancelled": "cancel",
    "build.retried": "retry",
    "build.approved": "approve",
    "build.rejected": "reject",
    "build.answered": "answer",
    "build.entered": "shell",
    "agent.drained": "drain",
    "agent.joined": "join",
    "agent.labelled": "label",
    "agent.left": "leave",
    "cache.dropped": "drop-caches",
    "cloud.draining": "drain-machine",
    "cloud.paused": "pause-cloud",
    "cluster.raised": "raise",
    "custom": "emit",
    "store.moved": "commit",
    "token.made": "make-token",
    "token.revoked": "revoke-token",
    "user.code": "link-code",
    "user.linked": "link",
    "user.unlinked": "unlink",
}


def check_verb(verb: str) -> None:
    """Do nothing if deeds can be asked for by that: a verb, or any kind of events.

    Raises:
        InputError: it is neither. A typing error would read as if nobody had done anything.
    """
    if verb in VERBS.values() or verb in VERBS or "." in verb:
        return
    raise InputError(
        f"no deed is called {verb!r}",
        hint=nearest(verb, VERBS.values()) or f"one of {', '.join(sorted(set(VERBS.values())))}",
    )


#: Kinds of events that agents write by themselves, or that others stand for: never deeds.
NO_DEEDS = frozenset({
    "agent.found", "agent.key-made", "agent.key-taken", "agent.lost", "agent.started",
    "agent.stopped", "build.artifact", "build.asked", "build.checked-out", "build.finished",
    "build.queued", "build.started", "build.swept", "build.waiting", "cache.saved", "cache.used",
    "chat.answered", "chat.heard", "chat.standing", "chat.told", "cloud.answered", "cloud.failed",
    "cloud.gone", "cloud.joined", "cloud.launched", "cloud.wanted", "history.sealed",
    "hook.called", "leader.elected", "leader.resigned", "limits.set", "notices.dropped",
    "notices.queued", "notices.sending", "notices.sent", "schedules.fired", "schedules.set",
    "scm.changed", "scm.seen", "status.posted", "token.used", "trigger.failed", "voter.appointed",
    "voter.dismissed", "voter.listening",
})  # fmt: skip


class Deed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the audit. ``kind`` is that of the event with the sequence ``seq``.

    ``on`` are builds, or an agent, a user, a ref: what the event was about. ``to`` is what that came
    to, such as a commit. ``agent`` took it, ``via`` names the chat command, ``token`` the token, and
    ``address`` whence it was asked for over TCP.
    """

    seq: Int
    at: Instant
    by: str = ""
    kind: str
    on: tuple[str, ...] = ()
    to: str = ""
    why: str = ""
    agent: str = ""
    via: str = ""
    token: str = ""
    address: str = ""

    @property
    def verb(self) -> str:
        """What it is called on the command line."""
        return VERBS.get(self.kind, self.kind)

    @property
    def is_urgent(self) -> bool:
        """Whether a commit is made for it; one about a build goes along with the build's record."""
        return not self.kind.startswith(("build.", "pipeline."))


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Deed)


def deed_of(
    seq: int, event: Event, changed: tuple[Build, ...], builds: Mapping[str, Build]
) -> Deed | None:
    """Return the deed that an event is; ``None`` for what nobody asked for, or what changed nothing.

    Args:
        seq: The event's.
        event: As it was folded.
        changed: The builds that it changed, itself first.
        builds: All that are in memory after it.
    """
    if isinstance(event, Unknown):
        return None
    told = _told(seq, event, changed, builds)
    if told is None:
        return None
    on, to, why = told
    return Deed(
        seq=seq,
        at=event.at,
        by=event.by,
        kind=kind_of(event),
        on=on,
        to=to,
        why=why[:MAX_WHY],
        agent=event.agent,
        via=event.via,
        token=event.token,
        address=event.address,
    )


def _told(
    seq: int, event: Fact, changed: tuple[Build, ...], builds: Mapping[str, Build]
) -> tuple[tuple[str, ...], str, str] | None:
    """Return what an event is about, what that came to, and why; ``None`` if it is no deed."""
    match event:
        case BuildRequested() | PipelineRequested():
            new = tuple(build.ref for build in changed if build.requested_seq == seq)
            return (new, "", "") if new and _is_asked(event) else None
        case BuildRejected(timed_out=True) | BuildAnswered(timed_out=True):
            return None
        case BuildCancelled() | BuildRetried() | BuildApproved() | BuildRejected():
            return _on_build(event, changed, "", getattr(event, "why", ""))
        case BuildAnswered():
            return _on_build(event, changed, str(event.question), "")
        case BuildEntered():
            build = builds.get(event.build)
            return (build.ref if build is not None else event.build,), event.program, ""
        case AgentDrained():
            word = "leaving" if event.leaving else "" if event.draining else "takes builds again"
            return (event.name,), word, ""
        case AgentLabelled():
            return (event.name,), " ".join(_labels(event)), ""
        case AgentJoined():
            return (event.name,), event.pin, ""
        case AgentLeft():
            return (event.name,), "", event.why
        case ClusterRaised():
            return (), f"level {event.level}", ""
        case CloudDraining() if _is_asked(event):
            return (event.machine,), "now" if event.now else "", event.why
        case CloudPaused():
            return (event.cloud,), "" if event.paused else "goes on", ""
        case StoreMoved():
            return (event.ref,), event.new, event.message
        case Emitted() if not event.build:
            return (event.type,), "", ""
        case CachesDropped() if _is_asked(event):
            return event.caches, "", event.why
        case TokenMade():
            return (event.user,), token_id(event.digest), event.note
        case TokenRevoked():
            return (event.user,), event.id or "all", ""
        case UserCode():
            return (event.user,), event.network, ""
        case UserLinked() | UserUnlinked():
            return (event.user,), f"{event.network} {event.who}".strip(), ""
        case _:
            return None


def _is_asked(event: Fact) -> bool:
    """Whether somebody asked for it, and not an agent by itself."""
    match event:
        case BuildRequested():
            return event.by != event.agent or event.trigger.kind == "manual"
        case PipelineRequested():
            return event.by != event.agent or any(
                it.trigger.kind == "manual" for it in event.builds
            )
        case _:
            return event.by != event.agent


def _on_build(
    event: BuildFact, changed: tuple[Build, ...], to: str, why: str
) -> tuple[tuple[str, ...], str, str] | None:
    its = [build for build in changed if build.id == event.build] or changed
    return (tuple(build.ref for build in its), to, why) if its else None


def _labels(event: AgentLabelled) -> Iterator[str]:
    for name, value in event.labels.items():
        yield f"-{name}" if value is None else f"{name}={value}" if value else name


def deed_line(deed: Deed) -> str:
    """Return the line of a commit's message that tells a deed."""
    return LINE + _encoder.encode(deed).decode()


def read_deed(line: str) -> Deed | None:
    """Return the deed that a line tells; ``None`` if it tells none."""
    if not line.startswith(LINE):
        return None
    try:
        return _decoder.decode(line[len(LINE) :])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def fits(deed: Deed, *, by: str = "", job: str = "", verb: str = "") -> bool:
    """Whether a deed is one of those that are asked for; what is empty is not asked about.

    ``job`` is a glob. A commit fits one that its first line names.
    """
    if (by and deed.by != by) or (verb and verb not in (deed.verb, deed.kind)):
        return False
    return not job or any(matches(name, job) for name in _jobs(deed))


def _jobs(deed: Deed) -> Iterator[str]:
    for on in deed.on:
        name, _, number = on.rpartition("#")
        if name and number.isdigit():
            yield name
    if deed.kind == "store.moved":
        yield from deed.why.split()
