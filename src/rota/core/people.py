"""What a build waits for that only a person can give: a yes, or an answer.

An approval holds a build back before it begins; a question is asked by its script while it runs.
Who may speak is checked by the agent that is asked; the fold takes the first word that counts, and
that time is over is a leader's word like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from rota.core.build import Approval, Build, step
from rota.core.durations import format_duration
from rota.core.events import BuildAnswered, BuildApproved, BuildAsked, BuildRejected
from rota.core.job import Reason
from rota.core.params import read_param
from rota.core.questions import MAX_QUESTIONS, Question
from rota.core.states import Move, Result, State
from rota.core.template import TemplateError, fill

#: What stands in ``held`` while a build has to be approved.
APPROVAL = "approval"
#: A longer time to wait is a fault of whoever wrote the number.
MAX_WAIT_S = 366 * 86_400.0

Due = tuple[datetime, str, int]
"""(when time is over, build id, question's number; 0 is its approval): sorts by time."""


def wants_approval(build: Build) -> bool:
    """Whether somebody must approve the build before it begins."""
    return build.state is State.HELD and APPROVAL in build.held


def open_questions(build: Build) -> tuple[Question, ...]:
    """Return the questions that its running script waits for."""
    if build.state is not State.RUNNING:
        return ()
    return tuple(it for it in build.questions if it.attempt == build.attempt and not it.is_settled)


def find_question(build: Build, number: int) -> Question | None:
    """Return a question by its number."""
    return next((it for it in build.questions if it.number == number), None)


def due(build: Build) -> Iterator[Due]:
    """Yield when time is over for what the build waits for."""
    until = approval_until(build)
    if until is not None:
        yield until, build.id, 0
    for question in open_questions(build):
        if question.until is not None:
            yield question.until, build.id, question.number


def approval_until(build: Build) -> datetime | None:
    """Return until when a build may be approved; ``None``: for ever, or it is not its turn yet."""
    approve = build.spec.approve
    if approve is None or approve.timeout_s is None or build.asked_at is None:
        return None
    if not wants_approval(build):
        return None
    return build.asked_at + timedelta(seconds=min(max(approve.timeout_s, 0.0), MAX_WAIT_S))


def not_approved(build: Build) -> str:
    """Return what is to be said of a build that nobody approved in time."""
    approve = build.spec.approve
    limit = format_duration((approve.timeout_s if approve is not None else None) or 0)
    return f"nobody approved it within {limit}"


def asked_text(build: Build) -> str:
    """Return what whoever approves the build is asked, its parameters filled in."""
    approve = build.spec.approve
    if approve is None or not approve.text:
        return ""
    try:
        return fill(approve.text, {**build.trigger.data, **build.params})
    except TemplateError:
        return approve.text  # it asks for what this trigger did not bring


def resolved(who: Sequence[str], groups: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """Return the names that ``who`` comes to, its groups replaced by their members."""
    names = set[str]()
    for name in who:
        names.update(groups.get(name[1:], ()) if name.startswith("@") else (name,))
    return frozenset(names)


# -- folding ------------------------------------------------------------------------------------


def approved(build: Build, event: BuildApproved) -> Build | None:
    """Return a held build that was approved; what else it waits for holds it still."""
    if not wants_approval(build):
        return None
    return replace(
        build,
        held=tuple(it for it in build.held if it != APPROVAL),
        approval=Approval(by=event.by or "?", at=event.at, why=event.why),
        asked_at=None,
    )


def rejected(build: Build, event: BuildRejected) -> Build | None:
    """Return a held build that will not begin. A group ends when its cells have."""
    if not wants_approval(build):
        return None
    by = event.by or "?"
    word = Approval(by=by, at=event.at, approved=False, why=event.why)
    if build.group is not None:
        return step(build, Move.ASK_TO_STOP, cancelled_by=by, approval=word)
    return step(
        build,
        Move.SETTLE,
        result=Result.TIMED_OUT if event.timed_out else Result.CANCELLED,
        reason=Reason.TIMEOUT if event.timed_out else Reason.REJECTED,
        message=event.why,
        finished_at=event.at,
        approval=word,
        asked_at=None,
    )


def asked(build: Build, event: BuildAsked) -> Build | None:
    """Return a running build with one more question."""
    given = event.question
    if build.state is not State.RUNNING or given.attempt != build.attempt:
        return None
    if given.key and any(it.key == given.key for it in build.questions):
        return None
    number = build.questions[-1].number + 1 if build.questions else 1
    question = replace(given, number=number, answer=None, by="", timed_out=False)
    return replace(build, questions=(*build.questions, question)[-MAX_QUESTIONS:])


def answered(build: Build, event: BuildAnswered) -> Build | None:
    """Return a running build with an answer to an open question; the first one counts."""
    question = next((it for it in open_questions(build) if it.number == event.question), None)
    if question is None:
        return None
    if event.timed_out:
        settled = replace(question, answer=question.default, timed_out=True)
    elif event.answer is None or read_param(question.param, event.answer)[1] is not None:
        return None
    else:
        settled = replace(question, answer=event.answer, by=event.by or "?")
    return replace(
        build,
        questions=tuple(settled if it is question else it for it in build.questions),
    )
