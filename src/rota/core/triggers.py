"""What a job's header says of what starts it: one structure for each kind of trigger.

A :class:`Schedule` is a trigger by time; all others are *reactions* to an event of the journal.
Here are values only; :mod:`rota.core.header_on` reads them from a header. Times are in seconds.

Each has an id that stays the same for as long as it says the same, wherever it stands in the list:
``job:name`` where it was given a name, else ``job:kind-`` and a hash of what it says. The id is
what a build's trigger names as its source, and what makes the build's own id, so that nothing
fires twice.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from rota.core.durations import format_duration
from rota.core.instant import Instant

#: What happens to a wall-clock time that the change of clocks leaves out or brings twice.
Dst = Literal["skip", "once", "both", "shift"]
#: What happens to instants that nobody was there to fire.
Misfire = Literal["skip", "once", "all", "within"]
#: What happens when the build before is not over yet.
Overlap = Literal["allow", "skip", "queue", "replace"]


class Rule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """What all kinds have. ``params`` are texts with ``{fields}`` of what happened."""

    name: str = ""
    params: dict[str, str] = {}
    priority: int | None = None


class Schedule(Rule, frozen=True, kw_only=True, tag="schedule"):
    """By time: exactly one of ``cron``, ``every_s`` and ``at``.

    ``every_s`` counts from ``start`` or, without one, from 1970; never from when somebody started.
    ``calendars`` must all have the day and hour, none of ``excepts`` may. ``jitter_s`` puts off each
    instant by its own share of that, the same on every agent.
    """

    cron: str = ""
    every_s: float = 0.0
    at: tuple[Instant, ...] = ()
    tz: str = "UTC"
    start: Instant | None = None
    end: Instant | None = None
    calendars: tuple[str, ...] = ()
    excepts: tuple[str, ...] = ()
    jitter_s: float = 0.0
    dst: Dst = "once"
    misfire: Misfire = "once"
    within_s: float = 0.0  # with misfire "within": a miss younger than this still fires
    overlap: Overlap = "allow"


class After(Rule, frozen=True, kw_only=True, tag="after"):
    """A build of a job that matches the glob ``job`` finished, with one of ``results``."""

    job: str
    results: tuple[str, ...] = ("passed",)


class OnEvent(Rule, frozen=True, kw_only=True, tag="event"):
    """An event whose type matches the glob ``type``; ``where`` has a glob for fields of it."""

    type: str
    where: dict[str, str] = {}


class Push(Rule, frozen=True, kw_only=True, tag="push"):
    """A branch that matches one of the globs moved in the repository of the job's ``scm``.

    With ``files``, only if a changed file matches one of those globs; ``tags`` are globs of tags.
    """

    branches: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    repo: str = ""  # in place of the repository of `scm`


class PullRequest(Rule, frozen=True, kw_only=True, tag="pull-request"):
    """A pull request into a branch that matches one of the globs was opened, or changed."""

    branches: tuple[str, ...] = ("*",)
    files: tuple[str, ...] = ()
    repo: str = ""


class Hook(Rule, frozen=True, kw_only=True, tag="hook"):
    """The generic webhook of that name was called; its body is the event's data."""

    hook: str
    where: dict[str, str] = {}


class Chat(Rule, frozen=True, kw_only=True, tag="chat"):
    """A line that matches the regular expression was said; named groups are fields for ``params``."""

    chat: str
    channel: str = "*"


Reaction = After | OnEvent | Push | PullRequest | Hook | Chat
On = Schedule | Reaction

_encoder = msgspec.json.Encoder(order="sorted")


def rule_id(job: str, rule: On) -> str:
    """Return the id of a rule of ``job``'s header."""
    if rule.name:
        return f"{job}:{rule.name}"
    digest = hashlib.sha256(_encoder.encode(rule)).hexdigest()[:8]
    return f"{job}:{rule.__struct_config__.tag}-{digest}"


def rule_text(rule: On) -> str:
    """Return in a few words what a rule waits for."""
    match rule:
        case Schedule():
            return _schedule_text(rule)
        case After():
            return f"after {rule.job} {' or '.join(rule.results)}"
        case OnEvent():
            return f"event {rule.type}{_where_text(rule.where)}"
        case Push():
            refs = [f"push to {' '.join(rule.branches)}"] if rule.branches else []
            refs += [f"tag {' '.join(rule.tags)}"] if rule.tags else []
            return " or ".join(refs) + _scm_text(rule)
        case PullRequest():
            return f"pull request into {' '.join(rule.branches)}{_scm_text(rule)}"
        case Hook():
            return f"webhook {rule.hook}{_where_text(rule.where)}"
        case Chat():
            return f"chat {rule.chat}" + (f" in {rule.channel}" if rule.channel != "*" else "")


def _schedule_text(rule: Schedule) -> str:
    if rule.every_s:
        return f"every {format_duration(rule.every_s)}"
    return f"cron {rule.cron} {rule.tz}" if rule.cron else f"at {len(rule.at)} times"


def _where_text(where: dict[str, str]) -> str:
    return "".join(f" {path}={glob}" for path, glob in where.items())


def _scm_text(rule: Push | PullRequest) -> str:
    files = f", files {' '.join(rule.files)}" if rule.files else ""
    return files + (f", of {rule.repo}" if rule.repo else "")
