"""What a message is to the bot: a command, an answer to what its thread asks, or none of its business."""

from __future__ import annotations

import re

from rota.core.build import Build
from rota.core.job import ParamValue
from rota.core.people import open_questions, wants_approval

#: Longer commands are refused: cut, they would be others.
MAX_COMMAND = 2000
#: What the bot carries out by itself; all else is the command line's.
LINK, HELP, FOLLOW, UNFOLLOW = "link", "help", "follow", "unfollow"
#: After these the build is followed where the answer stands.
BEGIN_BUILDS = frozenset({"run", "retry", "approve"})
#: What a build waits for: it need not be named where one alone that is followed does.
ANSWER = "answer"
WORDS = frozenset({ANSWER, "approve", "reject"})
#: Given again, it does the same once, by its key.
REPEATABLE = frozenset({"run"})
#: What leaves no event, and would be done twice if it were given again.
UNSURE = frozenset({"send"})
_YES = {"approve": "approve", "approved": "approve", "reject": "reject", "rejected": "reject"}


def command_in(text: str, *, prefix: str, nick: str, is_direct: bool = False) -> str | None:
    """Return the command that a message is, without what it is known by; ``None`` if it is none.

    It begins with the prefix, or with the bot's name; to the bot alone anything is one. Of several
    lines the first counts that quotes nobody.
    """
    line = _own_line(text)
    if line.startswith(prefix):
        line = line[len(prefix) :]
        return line.strip() if line[:1].isalnum() or line.strip() == "?" else None
    name = re.escape(nick)
    called = re.match(rf"(?:@{name}_*[:,]?|{name}_*[:,])\s+(\S.*)", line, re.IGNORECASE)
    if called is not None:
        return called[1].removeprefix(prefix).strip()
    return line if is_direct and line else None


def reply_in(text: str, build: Build) -> str | None:
    """Return the command that a plain word in a build's thread stands for, if it is asked for one."""
    word = _own_line(text)
    if wants_approval(build):
        verb = _YES.get(word.casefold().rstrip(".!"))
        return f"{verb} {build.ref}" if verb is not None else None
    waiting = open_questions(build)
    if len(waiting) != 1 or not word or len(word) > 200:
        return None
    question = waiting[0]
    choices = question.choices or ((True, False) if question.type == "bool" else ())
    for choice in choices:
        if word.casefold() in _spellings(choice):
            return f"answer {build.ref} {question.number} {quoted(_written(choice))}"
    return None


def quoted(word: str) -> str:
    """Return a word so that a command line takes it for one."""
    return "'" + word.replace("'", "'\\''") + "'"


def first_word(line: str) -> str:
    """Return the command's name."""
    return next(iter(line.split()), "").casefold()


def _own_line(text: str) -> str:
    """Return the first line of a message that is the writer's own."""
    for line in text.splitlines():
        own = line.strip()
        if own and not own.startswith(">"):
            return own
    return ""


def _written(choice: ParamValue) -> str:
    return str(choice).lower() if isinstance(choice, bool) else str(choice)


def _spellings(choice: ParamValue) -> set[str]:
    words = {_written(choice).casefold()}
    if choice is True:
        words.add("yes")
    elif choice is False:
        words.add("no")
    return words
