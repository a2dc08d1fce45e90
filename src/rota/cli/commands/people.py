"""What waits for people: approvals and questions."""

from __future__ import annotations

import os
import time
from argparse import Namespace
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.render import Cell, ago, clean, result_line, table
from rota.cli.screen import Screen
from rota.errors import InputError

#: One wait for an answer at the agent; it is asked again until there is one.
WAIT_S = 240.0


def approve(args: Namespace, screen: Screen) -> int:
    """Let a build begin."""
    return _word("approve", args, screen)


def reject(args: Namespace, screen: Screen) -> int:
    """End a build before it begins."""
    return _word("reject", args, screen)


def ask(args: Namespace, screen: Screen) -> int:
    """Ask a person from inside a build; print the answer."""
    build = os.environ.get("ROTA_BUILD")
    if not build:
        raise InputError(
            "only a build asks: this is none", hint="write it into a job's script: rota ask TEXT"
        )
    client = connected(args)
    asked = client.call(
        "ask",
        repeat=True,
        build=build,
        text=" ".join(args.text),
        type=args.type,
        choices=_listed(args.choices),
        default=args.default,
        who=_listed(args.who),
        timeout_s=_seconds(args.timeout),
        key=os.urandom(12).hex(),
    )
    question = asked.json()
    while question.get("answer") is None and not question.get("timed_out"):
        began = time.monotonic()
        asked = client.call(
            "question",
            build=build,
            question=question["number"],
            wait=WAIT_S,
            wait_s=WAIT_S,
        )
        question = asked.json()
        if question.get("answer") is None and time.monotonic() - began < 1.0:
            time.sleep(1.0)  # the attempt is over: this script is about to be ended
    return _answered(question, asked, args, screen)


def answer(args: Namespace, screen: Screen) -> int:
    """Answer a question of a build."""
    number, value = _number_and_value(args.words)
    reply = connected(args).call("answer", build=args.build, question=number, value=value)
    if args.json:
        screen.json(reply)
    else:
        question = reply.json()
        text, given = clean(question["text"]), clean(_plain(question["answer"]))
        screen.line(f"{args.build}: {text} {given}")
    return 0


def asks(args: Namespace, screen: Screen) -> int:
    """List what waits for people."""
    reply = connected(args).call("asks")
    if args.json:
        screen.json(reply)
        return 0
    look = screen.at(reply)
    found = reply.json()
    rows = []
    for one in found:
        what = "approve" if one["question"] == 0 else f"question {one['question']}"
        rows.append(
            (
                Cell(clean(one["build"]), "bold"),
                Cell(what, "yellow"),
                Cell(_asked(one)),
                Cell(" ".join(one["who"]) or "anybody"),
                Cell(ago(look, one["asked_at"]) or "not yet", "dim"),
            )
        )
    screen.lines(table(rows, look, shrink=(2, 0, 3)))
    if not found and screen.out.is_terminal:
        screen.note("nobody is asked anything")
    return 0


def _word(verb: str, args: Namespace, screen: Screen) -> int:
    reply = connected(args).call(verb, build=args.build, why=args.message or "")
    if args.json:
        screen.json(reply)
        return 0
    build = reply.json()
    by = (build.get("approval") or {}).get("by", "?")
    line = result_line(build, screen.at(reply))
    screen.line(f"{line}, approved by {clean(by)}" if verb == "approve" else line)
    return 0


def _answered(question: dict[str, Any], reply: Any, args: Namespace, screen: Screen) -> int:
    value = question.get("answer")
    if args.json:
        screen.json(reply)
    elif value is not None:
        screen.line(_plain(value))
    if value is not None:
        return 0
    screen.note(f"error: nobody answered in time: {clean(question['text'])}")
    return 1


def _asked(one: dict[str, Any]) -> str:
    choices = f" [{', '.join(map(_plain, one['choices']))}]" if one["choices"] else ""
    return clean(one["text"] or "may it begin?") + clean(choices)


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _listed(text: str | None) -> list[str] | None:
    """Return the words between commas."""
    if text is None:
        return None
    return [word.strip() for word in text.split(",") if word.strip()]


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    from rota.core.durations import parse_duration

    seconds = parse_duration(text)
    if isinstance(seconds, str):
        raise InputError(f"--timeout {text!r} cannot be read: {seconds}", hint="such as 1h")
    return seconds


def _number_and_value(words: list[str]) -> tuple[int | None, str]:
    """Return what stands after the build: a value, or a question's number and a value.

    Raises:
        InputError: it is something else.
    """
    if len(words) == 1:
        return None, words[0]
    if len(words) == 2 and words[0].isascii() and words[0].isdecimal():
        return int(words[0]), words[1]
    raise InputError(
        "an answer is one word", hint="rota answer BUILD [QUESTION] VALUE; quote what has spaces"
    )
