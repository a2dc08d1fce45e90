"""Verbs on what waits for a person: approvals, and questions of running scripts."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from datetime import timedelta

from rota.core.build import Build
from rota.core.events import BuildAnswered, BuildApproved, BuildAsked, BuildEvent, BuildRejected
from rota.core.job import Param, ParamValue
from rota.core.params import read_param
from rota.core.people import (
    approval_until,
    asked_text,
    find_question,
    open_questions,
    resolved,
    wants_approval,
)
from rota.core.questions import Question
from rota.core.states import State
from rota.errors import (
    ConflictError,
    DeniedError,
    InputError,
    NotFoundError,
    StaleError,
    UnavailableError,
)
from rota.service import messages as m
from rota.service.builds import TRIES, find_build, newer
from rota.service.context import Principal, Service

#: What a build may ask at the same time.
MAX_OPEN = 20
#: A script that asks waits for no build; it leaves its slot to others all the same.
A_PERSON = "a person"


async def approve(service: Service, request: m.WordRequest, who: Principal) -> Build:
    """Let a build begin that has to be approved; a second yes changes nothing.

    Raises:
        ConflictError: it waits for no approval.
        DeniedError: it is not for this principal to say.
    """
    return await _say(service, request, who, BuildApproved)


async def reject(service: Service, request: m.WordRequest, who: Principal) -> Build:
    """End a build that has to be approved, before it begins.

    Raises:
        ConflictError: it waits for no approval.
        DeniedError: it is not for this principal to say.
    """
    return await _say(service, request, who, BuildRejected)


async def _say(
    service: Service,
    request: m.WordRequest,
    who: Principal,
    word: type[BuildApproved | BuildRejected],
) -> Build:
    """Write a yes or a no, looking again where somebody else was faster."""
    found = find_build(service.world, request.build)
    for _ in range(TRIES):
        is_approved = found.approval is not None and found.approval.approved
        if word is BuildApproved and is_approved:
            return found
        _refuse_word(service, found, who)
        event = word(
            at=service.clock.now(),
            by=who.name,
            agent=service.me.name,
            build=found.id,
            why=request.why,
        )
        if await _written(service, event, found):
            return service.world.find(found.id) or found
        found = await newer(service, found)
    raise UnavailableError(f"{found.ref} changes too fast; try again")


async def ask(service: Service, request: m.AskRequest, who: Principal) -> Question:
    """Put a question of a running script down; the same key gives the same question.

    Raises:
        InputError: it cannot be answered as it is asked.
        ConflictError: the build does not run, or asks too much.
        DeniedError: the caller is not that build.
    """
    found = find_build(service.world, request.build)
    if who.build != found.id:
        raise DeniedError(
            f"only {found.ref} itself asks in its name", known=True, hint="from inside its script"
        )
    asked = _question(service, found, request)
    for _ in range(TRIES):
        known = next((it for it in found.questions if it.key == asked.key), None)
        if known is not None:
            return known
        if found.state is not State.RUNNING:
            raise ConflictError(f"{found.ref} is {found.state}; only a running build asks")
        if len(open_questions(found)) >= MAX_OPEN:
            raise ConflictError(
                f"{found.ref} has {MAX_OPEN} open questions, and no more may be",
                hint="wait for answers: rota asks",
            )
        event = BuildAsked(
            at=asked.at,
            by=who.name,
            agent=service.me.name,
            build=found.id,
            question=_of_attempt(asked, found),
        )
        await _written(service, event, found)
        found = await newer(service, found)
    raise UnavailableError(f"{found.ref} changes too fast; try again")


async def question(service: Service, request: m.QuestionRequest, who: Principal) -> Question:
    """Show a question; with ``wait``, once it is settled or the time is over."""
    found = find_build(service.world, request.build)
    asked = _find(found, request.question)
    if request.wait <= 0 or not _is_open(found, asked):
        return asked
    async with service.waits.of(who.build, A_PERSON):
        until = service.clock.monotonic() + request.wait
        while True:
            # Looked up anew each time: it may have been answered while the slot was given up.
            found = service.world.find(found.id) or found
            asked = _find(found, request.question)
            left = until - service.clock.monotonic()
            if left <= 0 or not _is_open(found, asked):
                return asked
            await service.world.changed(found.id, left)


async def answer(service: Service, request: m.AnswerRequest, who: Principal) -> Question:
    """Answer a question that a build asks; the first answer counts.

    Raises:
        InputError: the answer is not of the question's type, or no choice of it.
        ConflictError: there is none to answer.
        DeniedError: it is not for this principal to answer.
    """
    found = find_build(service.world, request.build)
    for _ in range(TRIES):
        asked = _to_answer(found, request.question)
        _refuse_stranger(service, found, asked.who, who, f"question {asked.number} of {found.ref}")
        value, fault = read_param(asked.param, request.value)
        if fault is not None or value is None:
            raise InputError(f"the answer to {asked.text!r} {fault}")
        event = BuildAnswered(
            at=service.clock.now(),
            by=who.name,
            agent=service.me.name,
            build=found.id,
            question=asked.number,
            answer=value,
        )
        if await _written(service, event, found):
            return _find(service.world.find(found.id) or found, asked.number)
        found = await newer(service, found)
    raise UnavailableError(f"{found.ref} changes too fast; try again")


async def asks(service: Service, request: m.Nothing, who: Principal) -> list[m.AskView]:
    """List what waits for people, what was asked first first."""
    live = (build for build in service.world.live() if who.sees(build.job))
    views = (view for build in live for view in _views(service, build))
    return sorted(views, key=lambda it: (it.asked_at is None, it.asked_at or 0, it.build))


def _views(service: Service, build: Build) -> Iterator[m.AskView]:
    groups = service.world.definitions.settings.groups
    if wants_approval(build):
        approve = build.spec.approve
        who = approve.who if approve is not None else ()
        yield m.AskView(
            build=build.ref,
            id=build.id,
            question=0,
            text=asked_text(build),
            type="approval",
            choices=(),
            default=None,
            who=who,
            names=tuple(sorted(resolved(who, groups))),
            asked_at=build.asked_at,
            until=approval_until(build),
        )
    for asked in open_questions(build):
        yield m.AskView(
            build=build.ref,
            id=build.id,
            question=asked.number,
            text=asked.text,
            type=asked.type,
            choices=asked.choices,
            default=asked.default,
            who=asked.who,
            names=tuple(sorted(resolved(asked.who, groups))),
            asked_at=asked.at,
            until=asked.until,
        )


async def _written(service: Service, event: BuildEvent, build: Build) -> bool:
    """Write an event on a build as it was seen; say whether nobody came between."""
    try:
        await service.write(event, expect=build.last_seq)
    except StaleError:
        return False
    return True


def _refuse_word(service: Service, build: Build, who: Principal) -> None:
    """Refuse a word on a build that waits for none, or not for this principal's."""
    if not wants_approval(build):
        said = build.approval
        if said is not None:
            what = "approved" if said.approved else "rejected"
            raise ConflictError(f"{build.ref} was {what} by {said.by}")
        raise ConflictError(
            f"{build.ref} is {build.result or build.state}, and waits for no approval",
            hint="see what does: rota asks",
        )
    approve = build.spec.approve
    _refuse_stranger(service, build, approve.who if approve is not None else (), who, build.ref)
    if approve is not None and not approve.self_approval and who.name == build.trigger.by:
        raise DeniedError(
            f"{who.name} asked for {build.ref}, and somebody else has to approve it (`self`)",
            known=True,
        )
    if who.build:
        raise DeniedError(f"{build.ref} is approved by people, not from inside a build", known=True)


def _refuse_stranger(
    service: Service, build: Build, wanted: Sequence[str], who: Principal, what: str
) -> None:
    """Refuse who is not among those that were asked."""
    if not wanted:
        return
    groups = service.world.definitions.settings.groups
    if who.name in resolved(wanted, groups) and not who.build:
        return
    missing = [name for name in wanted if name.startswith("@") and name[1:] not in groups]
    hint = f"settings.toml has no group {missing[0][1:]}: [groups]" if missing else None
    me = f"{who.name}, from inside a build," if who.build else who.name
    raise DeniedError(f"{what} is for {', '.join(wanted)}, {me} is not", known=True, hint=hint)


def _question(service: Service, build: Build, request: m.AskRequest) -> Question:
    """Return a question as it is asked.

    Raises:
        InputError: a choice or the default is not of its type.
    """
    problems: list[str] = []

    def typed(what: str, value: ParamValue, param: Param) -> ParamValue:
        found, fault = read_param(param, value)
        if fault is not None or found is None:
            problems.append(f"{what} {fault}")
            return value
        return found

    choices = tuple(
        typed(f"choice {number}", value, Param(type=request.type))
        for number, value in enumerate(request.choices, 1)
    )
    default = request.default
    if default is not None:
        default = typed("the default", default, Param(type=request.type, choices=choices))
    if problems:
        raise InputError("the question cannot be asked", problems=tuple(problems))
    now = service.clock.now()
    wait_s = request.timeout_s
    return Question(
        number=0,
        attempt=build.attempt,
        text=request.text,
        key=request.key or secrets.token_hex(8),
        type=request.type,
        choices=choices,
        default=default,
        who=request.who,
        at=now,
        until=now + timedelta(seconds=wait_s) if wait_s is not None else None,
    )


def _of_attempt(asked: Question, build: Build) -> Question:
    from msgspec.structs import replace

    return replace(asked, attempt=build.attempt)


def _is_open(build: Build, asked: Question) -> bool:
    return any(it.number == asked.number for it in open_questions(build))


def _find(build: Build, number: int) -> Question:
    found = find_question(build, number)
    if found is None:
        known = ", ".join(str(it.number) for it in build.questions)
        raise NotFoundError(
            f"{build.ref} has no question {number}",
            hint=f"it asked {known}" if known else "it asked nothing",
        )
    return found


def _to_answer(build: Build, number: int) -> Question:
    """Return the open question of that number; the only one for 0.

    Raises:
        ConflictError: there is none, or it is settled.
        InputError: there are several.
    """
    waiting = open_questions(build)
    if number == 0 and len(waiting) > 1:
        each = "; ".join(f"{it.number} {it.text!r}" for it in waiting)
        raise InputError(
            f"{build.ref} asks {len(waiting)} questions: {each}",
            hint=f"say which: rota answer {build.ref!r} {waiting[0].number} VALUE",
        )
    if number == 0 and not waiting:
        raise ConflictError(f"{build.ref} asks nothing now", hint="see who does: rota asks")
    asked = waiting[0] if number == 0 else _find(build, number)
    if asked in waiting:
        return asked
    if asked.timed_out:
        raise ConflictError(f"it is too late: nobody answered question {number} in time")
    if asked.answer is not None:
        raise ConflictError(f"question {number} of {build.ref} was answered by {asked.by}")
    raise ConflictError(f"attempt {asked.attempt} of {build.ref}, which asked, is over")
