"""What the bot says of builds where they are followed: short, for people, the same whoever says it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from rota.core.build import Build
from rota.core.chat import Followed
from rota.core.durations import format_duration
from rota.core.job import Reason
from rota.core.people import asked_text, open_questions, wants_approval
from rota.core.questions import Question
from rota.core.states import Result, State

#: A command's first word where one is told of: nothing that people write of rota itself.
_COMMAND = re.compile(r"(?:^|(?<=: )|(?<=`))rota (?=[a-z])", re.MULTILINE)


def saying_id(*parts: object) -> str:
    """Return the one id that a message of ours has, by what it is about."""
    digest = hashlib.sha256("\0".join(str(part) for part in parts).encode())
    return f"{parts[0]}-{digest.hexdigest()[:24]}"


def answer_id(key: str) -> str:
    """Return the id of the answer to a command: the same for whoever answers it."""
    return saying_id("answer", key)


def told_id(note: Followed, mark: str) -> str:
    """Return the id of what a follower is told."""
    return saying_id("told", note.place, note.build, mark)


def marks(note: Followed, build: Build, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield what is to be said of a build's questions where it is followed, in order: mark and text."""
    if wants_approval(build) and build.asked_at is not None:
        yield "approve", _approval(note, build, prefix)
    elif build.approval is not None and "approve" in note.told:
        word = "approved" if build.approval.approved else "rejected"
        why = f": {build.approval.why}" if build.approval.why else ""
        yield "approved", f"{build.ref} was {word} by {build.approval.by}{why}"
    for question in build.questions:
        ask, said = f"ask{question.number}", f"said{question.number}"
        is_open = not question.is_settled and build.state is State.RUNNING
        if is_open and question.attempt == build.attempt:
            yield ask, _question(note, build, question, prefix)
        elif question.is_settled and ask in note.told:
            yield said, _settled(build, question)


def ending(build: Build) -> str:
    """Return how a build ended, in a line."""
    word = "did not run" if build.reason is Reason.UNMET else build.result or build.state
    text = f"{build.ref} {word}"
    if build.started_at is not None and build.finished_at is not None:
        text += f" in {format_duration((build.finished_at - build.started_at).total_seconds())}"
    if build.agent and build.result is not Result.PASSED:
        text += f" on {build.agent}"
    return text + _why(build)


def tone(build: Build) -> str:
    """Return in which colour a build's end is told."""
    return "good" if build.result is Result.PASSED else "bad"


def _why(build: Build) -> str:
    parts = []
    if build.reason is Reason.CANCELLED and build.cancelled_by:
        parts.append(f"by {build.cancelled_by}")
    if build.reason is Reason.SUPERSEDED and build.superseded_by:
        parts.append(f"superseded by {build.superseded_by}")
    if build.reason is Reason.SCRIPT and build.exit_code:
        parts.append(f"exit code {build.exit_code}")
    if build.step:
        parts.append(f"in step {build.step}")
    if build.message:
        parts.append(build.message)
    elif build.tests is not None and build.tests.bad:
        parts.append(build.tests.text)
    return f": {', '.join(parts)}" if parts else ""


def _approval(note: Followed, build: Build, prefix: str) -> str:
    approve = build.spec.approve
    who = f" of {', '.join(approve.who)}" if approve is not None and approve.who else ""
    text = asked_text(build)
    return f"{build.ref} waits for approval{who}{f': {text}' if text else ''}\n" + _how(
        note, f"{prefix}approve {build.ref}, or {prefix}reject {build.ref}", "approve, reject"
    )


def _question(note: Followed, build: Build, question: Question, prefix: str) -> str:
    who = f" {', '.join(question.who)}" if question.who else ""
    choices = ", ".join(_shown(choice) for choice in question.choices)
    if not choices and question.type == "bool":
        choices = "yes, no"
    is_lone = len(open_questions(build)) == 1
    number = "" if is_lone else f" {question.number}"
    example = f"{prefix}answer {build.ref}{number} …"
    return f"{build.ref} asks{who}: {question.text}\n" + _how(note, example, choices)


def _how(note: Followed, command: str, words: str) -> str:
    if note.thread and words:
        return f"answer here: {words}; or {command}"
    return f"answer: {command}" + (f" ({words})" if words else "")


def _settled(build: Build, question: Question) -> str:
    if question.timed_out:
        taken = f"; {_shown(question.answer)} is taken" if question.answer is not None else ""
        return f"{build.ref}: nobody answered in time{taken}"
    return f"{build.ref}: {question.by} answered {_shown(question.answer)}"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def link_to(url: str, build: Build) -> str:
    """Return where people find a build; empty where the settings have no URL."""
    return f"{url}/v1/builds/{build.id}" if url else ""


def log_link(url: str, build: Build) -> str:
    """Return where people find a build's log; empty where the settings have no URL."""
    return f"{url}/v1/builds/{build.id}/log" if url else ""


def as_here(text: str, prefix: str) -> str:
    """Return text with commands as they are given in a room, but for what is for a shell."""
    return text if "shell" in text else _COMMAND.sub(lambda _: prefix, text)


def stranger_text(network: str, prefix: str) -> str:
    """Return what is said to somebody unknown who wants what only users may."""
    return (
        f"I do not know you here, so I cannot do that; `rota user link {network}` gives you a code, "
        f"and {prefix}link CODE, written to me alone, makes us known"
    )


def leads_text(agent: str, why: str) -> str:
    """Return the line about a change of leader."""
    return f"{agent} speaks for the cluster now{f' ({why})' if why else ''}"
