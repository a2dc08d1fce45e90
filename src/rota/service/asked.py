"""What people are asked, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from rota.core.build import Build
from rota.core.durations import format_duration
from rota.core.people import approval_until, asked_text, open_questions, wants_approval

Groups = Mapping[str, Sequence[str]]


def approval_words(build: Build, now: datetime, groups: Groups) -> str:
    """Return who must approve a build, and until when; empty if nobody must."""
    if not wants_approval(build):
        return ""
    approve = build.spec.approve
    who = _people(approve.who if approve is not None else (), groups)
    question = f": {asked_text(build)!r}" if asked_text(build) else ""
    return f"{who} must approve it{question}{_left(approval_until(build), now)}: rota approve {build.ref!r}"


def question_words(build: Build, now: datetime, groups: Groups) -> list[str]:
    """Return what a running build's script asks, a text for each open question."""
    return [
        f"it asks {_people(it.who, groups)}: {it.text!r}{_left(it.until, now)}:"
        f" rota answer {build.ref!r} {it.number} VALUE"
        for it in open_questions(build)
    ]


def _people(who: Sequence[str], groups: Groups) -> str:
    """Return names, a group with its members."""
    names = [
        f"{name} ({', '.join(groups.get(name[1:], ('nobody',)))})" if name[:1] == "@" else name
        for name in who
    ]
    return " or ".join(names) or "somebody"


def _left(until: datetime | None, now: datetime) -> str:
    if until is None:
        return ""
    return f", within {format_duration(max(0, round((until - now).total_seconds())))}"
