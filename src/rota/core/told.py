"""What outside told us, and what outside is to be told: refs of repositories, rules that failed, forges.

Each of these is bounded: who is not heard of again is forgotten, oldest first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from rota.core.build import Build
from rota.core.events import ScmChanged, ScmSeen, StatusPosted, TriggerFailed
from rota.core.instant import Instant
from rota.core.job import Int
from rota.core.states import State

_T = TypeVar("_T")

#: A cluster that follows more refs than this may take a repeated webhook of the oldest for news.
MAX_TIPS = 20_000
MAX_FAILURES = 1000
MAX_PULLS = 5000
#: A forge that took nothing for so many builds will not be told of the oldest any more.
MAX_OWED = 20_000


class Tip(msgspec.Struct, frozen=True):
    """Where a ref is, and the sequence of the event that said so.

    ``was_there`` says that nobody saw it move there.
    """

    commit: str
    seq: Int
    was_there: bool = False


class Failure(msgspec.Struct, frozen=True):
    """Why a rule last set off nothing."""

    at: Instant
    seq: Int
    job: str
    why: str


class Pull(msgspec.Struct, frozen=True, omit_defaults=True):
    """An open pull request, as it was last told of."""

    repo: str
    also: tuple[str, ...]
    ref: str
    commit: str
    seq: Int
    number: Int
    base: str
    head: str = ""
    head_url: str = ""
    fork: bool = False


def note_pull(pulls: dict[str, Pull], seq: int, event: ScmChanged) -> None:
    """Take note of a pull request, or forget it once it is closed."""
    if event.what != "pull":
        return
    known = pulls.pop(key := tip_key(event), None)
    if event.action in ("closed", "merged") or not event.new:
        return
    is_same = known is not None and known.commit == event.new
    pulls[key] = Pull(
        repo=event.repo,
        also=event.also,
        ref=event.ref,
        commit=event.new,
        seq=known.seq if is_same and known is not None else seq,
        number=event.number,
        base=event.base,
        head=event.head,
        head_url=event.head_url,
        fork=event.fork,
    )
    _forget(pulls, MAX_PULLS)


def tip_key(event: ScmChanged) -> str:
    """Return the key of the ref that an event is about."""
    return f"{event.repo} {event.ref}"


def note_seen(tips: dict[str, Tip], seq: int, event: ScmSeen) -> None:
    """Take note of where refs are that nobody had looked for."""
    for ref, commit in {"*": event.what, **event.refs}.items():
        key = f"{event.repo} {ref}"
        if ref == "*" or key not in tips:
            tips[key] = Tip(commit, seq, was_there=True)
    _forget(tips, MAX_TIPS)


def is_known(tips: Mapping[str, Tip], event: ScmChanged) -> bool:
    """Whether an event would say nothing new."""
    known = tips.get(tip_key(event))
    if not event.new:
        return False
    return (
        event.action not in ("closed", "merged") and known is not None and known.commit == event.new
    )


def move_tip(tips: dict[str, Tip], seq: int, event: ScmChanged) -> bool:
    """Take note of where a ref is; return whether that is news."""
    key = tip_key(event)
    known = tips.pop(key, None)
    is_gone = not event.new or event.action in ("closed", "merged")
    if is_gone:
        # Should it come again, that is another event than when it came first.
        if (marker := tips.get(f"{event.repo} *")) is not None:
            tips[f"{event.repo} *"] = Tip(marker.commit, seq, was_there=True)
        return known is not None or event.what != "removed"
    is_news = known is None or known.commit != event.new
    tips[key] = Tip(event.new, seq) if known is None or is_news else known
    _forget(tips, MAX_TIPS)
    return is_news


def keep_failure(failures: dict[str, Failure], seq: int, event: TriggerFailed) -> None:
    """Take note of why a rule set off nothing."""
    failures.pop(event.rule, None)
    failures[event.rule] = Failure(event.at, seq, event.job, event.why)
    _forget(failures, MAX_FAILURES)


def owe(statuses: dict[str, str], seq: int, build: Build) -> None:
    """Take note that a forge is to be told of a build, if it came from one and just began to be."""
    is_forges = bool(build.trigger.data.get("forge") and build.trigger.data.get("commit"))
    is_new = build.requested_seq == seq or build.state is not State.FINISHED
    if is_forges and is_new and not build.cell:
        statuses.setdefault(build.id, "")
        _forget(statuses, MAX_OWED)


def note_posted(statuses: dict[str, str], event: StatusPosted) -> None:
    """Take note of what a forge was told."""
    if event.build not in statuses:
        return
    if event.final:
        del statuses[event.build]
    else:
        statuses[event.build] = event.state


def _forget(notes: dict[str, _T], most: int) -> None:
    while len(notes) > most:
        del notes[next(iter(notes))]
