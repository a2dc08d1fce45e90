"""The words of notices: for a person all that helps, for a channel one line, for many at once a list.

Nothing here is trusted: names, commit messages, tests and logs come from anywhere. Control
characters and line ends are taken out of whatever stands in a line; what the networks make of the
rest (names of channels, of people) is their adapters' to defuse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from rota.core.build import Build
from rota.core.durations import format_duration
from rota.core.ids import derived_id
from rota.core.job import ParamValue, Reason
from rota.core.notices import is_bad, lane_of
from rota.core.outbox import TEST, Notice
from rota.core.people import asked_text, find_question, wants_approval
from rota.core.questions import Question
from rota.core.states import Result
from rota.core.targets import MAIL, parse_target

#: What of a build a person is shown.
MAX_TESTS, MAX_COMMITS, MAX_BUILDS = 5, 5, 8
TAIL_LINES, MAX_TAIL = 20, 4000
MAX_LINE = 300
#: A list names so many.
MAX_ITEMS = 30
MAX_NUMBERS = 12

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
#: Of a log, what is said to rota and not to people.
_MARK = re.compile(r"::(?:step|endstep|group|endgroup|add-mask)(?: [^:]*)?::")
_REASONS = {
    Reason.SIGNAL: "ended by a signal",
    Reason.OOM_KILLED: "out of memory",
    Reason.NO_OUTPUT: "printed nothing for too long",
    Reason.TOO_MUCH_OUTPUT: "printed more than a log may have",
    Reason.CHECKOUT: "its source code could not be had",
    Reason.AGENT_ERROR: "the agent could not run it",
    Reason.UNMET: "what it needs did not pass",
    Reason.REPORTS: "its reports do not pass",
    Reason.FINALLY: "its finaliser failed",
    Reason.REJECTED: "rejected",
}


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a notice is about, as it was found: ``failed`` are the builds named in it, cells too.

    ``build`` is ``None`` where it is gone. ``tail`` are the last bytes of its log, as text.
    """

    notice: Notice
    build: Build | None = None
    failed: tuple[Build, ...] = ()
    tail: str = ""


class Wording(msgspec.Struct, frozen=True, kw_only=True):
    """What a message says: as of :class:`rota.ports.networks.Saying`, without its id and room."""

    text: str
    code: str = ""
    link: str = ""
    tone: str = ""
    subject: str = ""
    thread: str = ""


def line(text: str, most: int = MAX_LINE) -> str:
    """Return a text as it may stand in a line: without control characters, and not too long."""
    plain = " ".join(_ANSI.sub("", text).split())
    plain = "".join(it for it in plain if it.isprintable())
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"


def last_lines(tail: str, lines: int = TAIL_LINES, most: int = MAX_TAIL) -> str:
    """Return the last lines of a log as text: of a line that was written over what came last."""
    found = [it.rstrip("\r").rpartition("\r")[2] for it in _ANSI.sub("", tail).split("\n")]
    found = [it for it in found if not _MARK.match(it)]
    while found and not found[-1].strip():
        found.pop()
    plain = ["".join(c for c in it if c.isprintable() or c == "\t") for it in found[-lines:]]
    return "\n".join(plain)[-most:]


def wording(found: Sequence[Facts], *, left_out: int, base: str) -> Wording:
    """Return what a target is told of one notice, or of several at once.

    Args:
        found: The notices of one target, oldest first.
        left_out: So many older ones were dropped.
        base: The URL under which people find builds; empty: nobody said.
    """
    if len(found) > 1 or left_out:
        return _list(found, left_out=left_out, base=base)
    facts = found[0]
    notice, build = facts.notice, facts.build
    if notice.occasion == TEST:
        return Wording(text=_test(notice), subject="A test")
    if build is None:
        text = f"{line(notice.ref)}: {notice.occasion}, and its record is gone"
        return Wording(text=text, subject=line(notice.ref))
    is_long = is_direct(notice)
    is_log_of_use = is_long and notice.occasion != "asked" and _is_failure(build)
    return Wording(
        text="\n".join([headline(facts), *_details(facts)]) if is_long else short_form(facts),
        code=last_lines(facts.tail) if is_log_of_use else "",
        link=f"{base}/v1/builds/{build.id}" if base else "",
        tone=tone_of(facts),
        subject=subject_of(facts),
        thread=_thread(build) if _is_mail(notice) else "",
    )


def is_direct(notice: Notice) -> bool:
    """Whether it is for one person, who is told more than a channel; mail has room for it, too."""
    return bool(notice.user) or _is_mail(notice)


def _is_mail(notice: Notice) -> bool:
    target = parse_target(notice.target)
    return not isinstance(target, str) and target.network == MAIL


def _thread(build: Build) -> str:
    """Return a word that notices of the same job and branch have in common."""
    return f"lane-{derived_id('lane', lane_of(build))}"


def tone_of(facts: Facts) -> str:
    """Return how a notice is meant: good, bad, or neither."""
    match facts.notice.occasion:
        case "failed" | "first-failure":
            return "bad"
        case "fixed" | "passed":
            return "good"
        case _:
            return "bad" if facts.build is not None and _is_failure(facts.build) else ""


def subject_of(facts: Facts) -> str:
    """Return the subject of a mail: the job and what is the matter, without what differs each time."""
    return line(headline(facts), 120)


def headline(facts: Facts) -> str:
    """Return the whole in a line: ``web#7 failed: exit code 2``."""
    notice, build = facts.notice, facts.build
    ref = line(notice.ref)
    if build is None:
        return f"{ref}: {notice.occasion}"
    if notice.occasion == "asked":
        return _asked(build, notice)
    if notice.occasion == "fixed":
        since = f": {line(notice.since)} had failed" if notice.since else ""
        return f"{ref} is fixed{since}"
    if build.result is Result.PASSED:
        took = _took(build)
        return f"{ref} passed" + (f" in {took}" if took else "")
    result = str(build.result if build.result is not None else build.state).replace("-", " ")
    why = _why(build, facts.failed)
    again = f" again, since {line(notice.since)}" if _is_failure(build) and notice.since else ""
    word = "failed" if build.reason is Reason.UNMET else result
    return f"{ref} {word}{again}" + (f": {why}" if why else "")


def short_form(facts: Facts) -> str:
    """Return what a channel is told: one line."""
    build = facts.build
    head = headline(facts)
    if build is None or facts.notice.occasion == "asked":
        return head
    words = [head]
    if _is_failure(build) and build.tests is not None and build.tests.failures:
        names = [line(it.test, 80) for it in build.tests.failures[:2]]
        more = build.tests.bad - len(names)
        words.append(f"tests: {', '.join(names)}" + (f" and {more} more" if more > 0 else ""))
    who = _who(build)
    if who:
        words.append(who)
    return "; ".join(words)


def _who(build: Build) -> str:
    """Return whose commits are in it: names alone, since addresses are nobody's business in a room."""
    source = build.source
    if source is None:
        return ""
    names = [line(it.partition("<")[0], 40) for it in source.culprits] or [line(source.author, 40)]
    names = [it for it in dict.fromkeys(names) if it]
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    where = f" on {line(source.branch, 60)}" if source.branch else ""
    return f"commits of {shown}{where}" if shown else ""


def _is_failure(build: Build) -> bool:
    return is_bad(build) or build.reason is Reason.UNMET


def _why(build: Build, failed: Sequence[Build]) -> str:
    """Return why a build ended as it did, in some words; empty if there is nothing to say."""
    words = []
    cells = [it for it in failed if it.cell and it.parent == build.id]
    if build.group is not None and cells:
        which = "; ".join(_cell(it) for it in cells[:3]) + ("; …" if len(cells) > 3 else "")
        words.append(f"{len(cells)} of {len(build.group.cells)} builds failed: {which}")
    others = [it for it in failed if not it.cell]
    if others:
        names = [line(it.ref) for it in others[:3]]
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        words.append(f"{', '.join(names)}{more} failed")
    elif build.group is None:
        words.append(_reason(build))
    if build.step:
        words.append(f"in step {line(build.step, 80)}")
    if build.message and not others and not cells:
        words.append(line(build.message, 200))
    elif build.tests is not None and build.tests.bad:
        words.append(build.tests.text)
    return ", ".join(word for word in words if word)


def _cell(build: Build) -> str:
    return line(", ".join(f"{key}={value}" for key, value in build.cell.items()), 60)


def _reason(build: Build) -> str:
    if build.reason is Reason.SCRIPT:
        return f"exit code {build.exit_code}" if build.exit_code is not None else ""
    if build.reason is Reason.SIGNAL and build.signal:
        return f"ended by signal {build.signal}"
    if build.reason is Reason.TIMEOUT:
        limit = build.spec.timeout_s
        return f"ran longer than {format_duration(limit)}" if limit else "ran too long"
    return _REASONS.get(build.reason, "") if build.reason is not None else ""


def _took(build: Build) -> str:
    if build.started_at is None or build.finished_at is None:
        return ""
    seconds = max(0.0, (build.finished_at - build.started_at).total_seconds())
    return format_duration(seconds)


def _details(facts: Facts) -> Iterator[str]:
    """Yield the lines below the first one for a person."""
    build, notice = facts.build, facts.notice
    if build is None:
        return
    if notice.occasion == "asked":
        yield from _how_to_answer(build, notice)
        return
    yield from _source(build, facts.failed)
    if not _is_failure(build):
        return
    for other in facts.failed[:MAX_BUILDS]:
        name = line(other.ref)
        cell = ", ".join(f"{key}={value}" for key, value in other.cell.items())
        why = _why(other, ())
        yield f"- {name}" + (f" ({line(cell, 100)})" if cell else "") + (f": {why}" if why else "")
    if len(facts.failed) > MAX_BUILDS:
        yield f"- and {len(facts.failed) - MAX_BUILDS} more"
    yield from _tests([build, *facts.failed])
    yield f"again: rota retry {line(build.ref)}"


def _tests(builds: Sequence[Build]) -> Iterator[str]:
    failures = [it for build in builds if build.tests for it in build.tests.failures]
    bad = sum(build.tests.bad for build in builds if build.tests)
    if not failures:
        return
    yield "tests that failed:"
    for failure in failures[:MAX_TESTS]:
        text = f": {line(failure.message, 200)}" if failure.message else ""
        yield f"- {line(failure.test, 200)}{text}"
    if bad > MAX_TESTS:
        yield f"- and {bad - MAX_TESTS} more"


def _source(build: Build, failed: Sequence[Build]) -> Iterator[str]:
    source = next((it.source for it in (build, *failed) if it.source is not None), None)
    if source is None:
        return
    branch = f"{line(source.branch or source.ref, 100)}, " if source.branch or source.ref else ""
    yield f"of {branch}{source.commit[:10]}"
    if not _is_failure(build) or not source.changes:
        return
    yield "commits since the build before:"
    for commit in source.changes[:MAX_COMMITS]:
        first = commit.message.strip().partition("\n")[0]
        yield f"- {commit.commit[:10]} {line(commit.author, 60)}: {line(first, 120)}"
    more = len(source.changes) - MAX_COMMITS
    if more > 0 or source.more:
        yield f"- and {max(more, 1)}{'' if not source.more else ' or'} more"


# -- questions ----------------------------------------------------------------------------------------


def is_settled(notice: Notice, build: Build | None) -> bool:
    """Whether what a notice asks is answered by now, so that nobody need be asked."""
    if notice.occasion != "asked":
        return False
    if build is None:
        return True
    if not notice.number:
        return not wants_approval(build)
    question = find_question(build, notice.number)
    return question is None or question.is_settled or question.attempt != build.attempt


def _asked(build: Build, notice: Notice) -> str:
    ref = line(build.ref)
    question = find_question(build, notice.number) if notice.number else None
    if question is None:
        text = line(asked_text(build))
        return f"{ref} waits for your approval" + (f": {text}" if text else "")
    return f"{ref} asks: {line(question.text)}" + _choices(question)


def _choices(question: Question) -> str:
    if not question.choices:
        return ""
    return f" ({line(', '.join(map(_shown, question.choices)), 200)})"


def _shown(choice: ParamValue) -> str:
    return line(str(choice).lower() if isinstance(choice, bool) else str(choice), 60)


def _how_to_answer(build: Build, notice: Notice) -> Iterator[str]:
    ref = line(build.ref)
    if not notice.number:
        here = "answer here: approve, reject; or " if _is_chat(notice) else ""
        yield f"{here}yes: rota approve {ref}   no: rota reject {ref}"
        return
    question = find_question(build, notice.number)
    if question is None:
        return
    number = "" if _is_lone(build, question) else f" {notice.number}"
    words = ", ".join(map(_shown, question.choices)) or (
        "yes, no" if question.type == "bool" else ""
    )
    here = f"answer here: {words}; or:" if words and _is_chat(notice) else "answer:"
    yield f"{here} rota answer {ref}{number} {_example(question)}"
    if question.until is not None:
        yield f"until {question.until:%Y-%m-%d %H:%M} UTC"


def _is_chat(notice: Notice) -> bool:
    """Whether it is for one person on a network where people answer."""
    target = parse_target(notice.target)
    return not isinstance(target, str) and bool(target.user) and target.network != MAIL


def _is_lone(build: Build, question: Question) -> bool:
    """Whether a build asks nothing else now, so that an answer need not say to what."""
    return all(it.is_settled or it == question for it in build.questions)


def _example(question: Question) -> str:
    if question.choices:
        word = _shown(question.choices[0])
        return word if re.fullmatch(r"[\w.+-]+", word) else f"'{word}'"
    return "yes" if question.type == "bool" else "ANSWER"


def _test(notice: Notice) -> str:
    by = f", asked for by {line(notice.ref)}" if notice.ref else ""
    return f"This is a test of {line(notice.target)}{by}: notices of builds would come here."


# -- many at once -------------------------------------------------------------------------------------


def _list(found: Sequence[Facts], *, left_out: int, base: str) -> Wording:
    head = _counted(found)
    lines = [f"- {item}" for item in _items(found)]
    if len(lines) > MAX_ITEMS:
        lines[:-MAX_ITEMS] = [f"- and {len(lines) - MAX_ITEMS} lines before these"]
    if left_out:
        lines.append(f"and {left_out} more that were too many to keep")
    tones = {tone_of(facts) for facts in found}
    return Wording(
        text="\n".join([head, *lines]),
        link=f"{base}/v1/builds" if base else "",
        tone="bad" if "bad" in tones else "good" if tones == {"good"} else "",
        subject=head,
    )


def _items(found: Sequence[Facts]) -> Iterator[str]:
    """Yield what happened, a line each; what happened to several builds of a job is one."""
    alike: dict[tuple[str, str], list[Facts]] = {}
    for facts in found:
        kind, build = _kind(facts), facts.build
        is_lone = build is None or kind not in ("failed", "passed", "ended")
        key = ("", facts.notice.id) if is_lone or build is None else (kind, build.job)
        alike.setdefault(key, []).append(facts)
    for several in alike.values():
        last = several[-1]
        text = short_form(last)
        if len(several) > 1 and last.build is not None:
            text = _numbers([it.build.number for it in several if it.build]) + text.removeprefix(
                line(last.notice.ref)
            )
            text = line(last.build.job) + text
        yield text


def _numbers(numbers: Sequence[int]) -> str:
    """Return builds' numbers: ``#3, #4, #7``, or the first and the last of many."""
    if len(numbers) <= MAX_NUMBERS:
        return ", ".join(f"#{number}" for number in numbers)
    return f"#{numbers[0]}, #{numbers[1]} … #{numbers[-1]} ({len(numbers)} builds)"


def _counted(found: Sequence[Facts]) -> str:
    """Return the whole in a line: ``12 builds failed, 3 were fixed``."""
    kinds = [_kind(facts) for facts in found]
    words: list[str] = []
    for kind, what in _KINDS.items():
        count = kinds.count(kind)
        if count:
            noun = "" if words else (" build" if count == 1 else " builds")
            words.append(f"{count}{noun} {what[count != 1]}")
    return ", ".join(words) or f"{len(found)} notices"


def _kind(facts: Facts) -> str:
    occasion = facts.notice.occasion
    if occasion in ("asked", "fixed", TEST):
        return occasion
    if facts.build is not None and _is_failure(facts.build):
        return "failed"
    is_passed = facts.build is not None and facts.build.result is Result.PASSED
    return "passed" if is_passed else "ended"


_KINDS = {
    "asked": ("asks something", "ask something"),
    "failed": ("failed", "failed"),
    "fixed": ("was fixed", "were fixed"),
    "passed": ("passed", "passed"),
    "ended": ("ended", "ended"),
}
