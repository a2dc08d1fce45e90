"""From what people write in rooms to the words of the command line: the build of a thread need not be named."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rota.cli.table import Command, find
from rota.errors import InputError

#: What is read from its end.
LOGS = frozenset({"log", "tail"})
#: Options of commands that wait: here the bot follows by itself.
_WAITS = frozenset({"-f", "--follow", "-w", "--wait"})
#: After these what stands first is text, whatever it looks like.
_TEXTS = frozenset({"send", "answer"})
TAIL_LINES = 20
HELP = (
    "here: follow BUILD (its log comes here), unfollow [BUILD], tail BUILD [LINES], link CODE; "
    "in a build's thread it need not be named"
)

IsBuild = Callable[[str], bool]


def phrased(words: Sequence[str], *, build: str, is_build: IsBuild, prefix: str) -> list[str]:
    """Return a command as the command line takes it.

    Args:
        words: As they were written.
        build: The build that the thread is about; empty if it is about none.
        is_build: Whether a word names a build that there is; asked only where it matters.
        prefix: What commands begin with here, for hints.

    Raises:
        InputError: it cannot be done in a room.
    """
    name, rest = words[0], list(words[1:])
    if name == "?":
        return ["help", *rest]
    if name == "tail":
        return _tail(rest, build, prefix)
    command = find(name)
    if command is None:
        return [name, *rest]
    if name in ("run", "retry"):
        rest = [word for word in rest if word not in _WAITS]
    elif _WAITS & set(rest) and any(_WAITS & set(arg.names) for arg in command.args):
        raise InputError(
            "what goes on without end is no answer",
            hint=f"a build's log comes here by {prefix}follow BUILD",
        )
    if build and _takes_build(command) and not _names_build(name, rest, is_build):
        rest = [build, *rest]
    if name == "log" and not any(word.startswith(("--tail", "--grep", "-n")) for word in rest):
        rest += ["--tail", str(TAIL_LINES)]
    return [name, *rest]


def _tail(rest: list[str], build: str, prefix: str) -> list[str]:
    numbers = [word for word in rest if word.isdecimal()]
    names = [word for word in rest if not word.isdecimal()]
    if len(numbers) > 1 or len(names) > 1 or not (names or build):
        raise InputError("which log?", hint=f"{prefix}tail web#7 {TAIL_LINES}")
    lines = numbers[0] if numbers else str(TAIL_LINES)
    return ["log", names[0] if names else build, "--tail", lines]


def _takes_build(command: Command) -> bool:
    """Whether the first word of a command is a build."""
    first = next((arg for arg in command.args if not arg.names[0].startswith("-")), None)
    return first is not None and first.names[0] == "build"


def _names_build(name: str, rest: Sequence[str], is_build: IsBuild) -> bool:
    first = next((word for word in rest if not word.startswith("-")), "")
    if not first:
        return False
    if "#" in first:
        return True
    if name == "answer":
        # One word is what is answered; before one a number is a question's.
        return len(rest) > 1 and not first.isdecimal() and is_build(first)
    return name not in _TEXTS and is_build(first)
