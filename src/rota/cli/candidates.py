"""What a word of a command may become, for the shells' completion and the REPL's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from rota.cli.table import AT, COLOR, COMMANDS, DATA, JSON, Arg, Command, Mouth, find

#: No longer than a person waits for the tab key.
TIMEOUT_S = 2.0
BUILDS = 30


class Agent:
    """The agent that a line is about; asked when something of it is completed."""

    def __init__(self, given: dict[str, str]) -> None:
        self._place = dict(given)

    def named(self, option: str, value: str) -> None:
        """Take note of an option that says which agent it is."""
        self._place[option] = value

    @property
    def is_named(self) -> bool:
        """Whether the line says which."""
        return bool(self._place.get("at") or self._place.get("data"))

    def ask(self, verb: str, **fields: Any) -> Any:
        """Return its answer to a verb.

        Raises:
            RotaError: it has none, or is away.
        """
        from rota.client.client import Client
        from rota.client.place import find_place

        found = find_place(self._place.get("at"), self._place.get("data"), os.environ)
        client = Client(found, patience_s=0, answer_s=TIMEOUT_S, moves=False)
        return client.call(verb, repeat=False, **fields).json()


def candidates(
    words: list[str],
    given: dict[str, str],
    *,
    mouth: Mouth = Mouth.SHELL,
    agent: Agent | None = None,
) -> Iterator[tuple[str, str]]:
    """Yield what the last word may become, with what it means."""
    *before, last = words or [""]
    agent = agent or Agent(given)
    rest = _past_options(before, agent)
    if not rest:
        found = _commands(last, mouth)
    else:
        command = find(rest[0])
        if command is None or mouth not in command.mouths:
            return iter(())
        found = _arguments(command, rest[1:], last, agent)
    return ((value, meaning) for value, meaning in found if value.startswith((last, ":file")))


def _past_options(words: list[str], agent: Agent) -> list[str]:
    """Take the options before the command, and note where the agent is."""
    rest = list(words)
    while rest and rest[0].startswith("-"):
        name, equals, value = rest.pop(0).partition("=")
        if name in ("--at", "--data", "--color"):
            agent.named(name[2:], value if equals else (rest.pop(0) if rest else ""))
    return rest


def _commands(last: str, mouth: Mouth) -> Iterator[tuple[str, str]]:
    if last.startswith("-"):
        for arg in (AT, DATA, COLOR):
            yield arg.names[-1], arg.text
        yield "--help", "all commands"
        if mouth is Mouth.SHELL:
            yield "--version", "the version"
        return
    for command in COMMANDS:
        if not command.is_hidden and mouth in command.mouths:
            yield command.name, command.summary


def _arguments(
    command: Command, before: list[str], last: str, agent: Agent
) -> Iterator[tuple[str, str]]:
    options = _options(command)
    positionals: list[str] = []
    waiting: Arg | None = None
    for word in before:
        if waiting is not None:
            _note_place(waiting, word, agent)
            waiting = None
        elif word.startswith("-") and len(word) > 1:
            arg = options.get(word.partition("=")[0])
            waiting = arg if arg and arg.kind != "flag" and "=" not in word else None
        else:
            positionals.append(word)
    if waiting is not None:
        return _values(waiting, positionals, last, agent)
    if last.startswith("-"):
        return (
            (arg.names[-1], arg.text) for arg in dict.fromkeys(options.values()) if not arg.hidden
        )
    arg = _positional(command, len(positionals))
    return iter(()) if arg is None else _values(arg, positionals, last, agent)


def _options(command: Command) -> dict[str, Arg]:
    shared = (*((JSON,) if command.has_json else ()), AT, COLOR)
    shared += (DATA,) if command.has_data else ()
    own = [arg for arg in command.args if arg.is_option]
    return {name: arg for arg in (*own, *shared) for name in arg.names}


def _positional(command: Command, number: int) -> Arg | None:
    positionals = [arg for arg in command.args if not arg.is_option]
    if number < len(positionals):
        return positionals[number]
    return positionals[-1] if positionals and positionals[-1].many in ("*", "+") else None


def _note_place(arg: Arg, value: str, agent: Agent) -> None:
    if arg.names[0] in ("--at", "--data"):
        agent.named(arg.names[0][2:], value)


def _values(arg: Arg, positionals: list[str], last: str, agent: Agent) -> Iterator[tuple[str, str]]:
    if arg.choices:
        yield from ((choice, "") for choice in arg.choices)
    if arg.completes in ("file", "folder"):
        yield ":file", ""
    elif arg.completes == "template":
        from rota.builders.catalogue import described, known

        yield from ((name, described(path)) for name, path in known().items())
    elif arg.completes == "agent":
        yield from _agents(agent)
    elif arg.completes == "agent-or-label":
        yield from _labels(positionals, agent)
    elif arg.completes == "token":
        yield from _tokens(positionals, agent)
    elif arg.completes == "secret":
        yield from _secrets(positionals, agent)
    elif arg.completes in ("user", "users", "notify"):
        yield from _PEOPLE[arg.completes](positionals, agent)
    elif arg.completes == "param":
        yield from _params(positionals[0], last, agent)
    elif arg.completes == "build" and positionals[:1] == ["put"]:
        yield ":file", ""
    elif arg.completes:
        if arg.completes in ("job", "job-or-build") and "#" not in last:
            yield from _jobs(agent)
        if arg.completes in ("build", "job-or-build"):
            yield from _builds(last, agent)


def _jobs(agent: Agent) -> Iterator[tuple[str, str]]:
    for job in agent.ask("jobs"):
        yield job["name"], _said(job["description"])


def _agents(agent: Agent) -> Iterator[tuple[str, str]]:
    for one in agent.ask("agents"):
        yield one["name"], str(one["state"])


def _labels(positionals: list[str], agent: Agent) -> Iterator[tuple[str, str]]:
    """Yield agents, then the labels that the named one has, or any."""
    found = agent.ask("agents")
    if not positionals:
        yield from ((one["name"], str(one["state"])) for one in found)
    known: dict[str, list[str]] = {}
    for one in found:
        if one["name"] == (positionals or [one["name"]])[0]:
            for name, value in (one.get("labels") or {}).items():
                known.setdefault(f"{name}={value}" if value else name, []).append(one["name"])
    yield from ((label, f"on {', '.join(names)}") for label, names in known.items())


def _secrets(positionals: list[str], agent: Agent) -> Iterator[tuple[str, str]]:
    if not positionals:
        yield from (
            ("set", "its value, or its rules"),
            ("list", "those there are"),
            ("rm", "remove one"),
            ("rotate", "encrypt all for a new key"),
            ("check", "what a job would be given"),
        )
    elif positionals == ["check"]:
        yield from _jobs(agent)
    elif positionals in (["set"], ["rm"]):
        for one in agent.ask("secrets"):
            yield one["name"], _said(one["description"])


def _users(_: list[str], agent: Agent) -> Iterator[tuple[str, str]]:
    for one in agent.ask("users"):
        yield one["name"], one["role"]


def _user_words(positionals: list[str], agent: Agent) -> Iterator[tuple[str, str]]:
    if not positionals:
        yield from (
            ("list", "those there are"),
            ("show", "one of them"),
            ("set", "make one, or change one"),
            ("rm", "remove one"),
            ("link", "a code for a chat network"),
            ("unlink", "end what a code began"),
        )
    elif positionals in (["show"], ["set"], ["rm"]):
        yield from _users(positionals, agent)
    elif positionals == ["unlink"]:
        yield from ((network, "") for network in agent.ask("user", user="@me")["chat"])


def _notify_words(positionals: list[str], agent: Agent) -> Iterator[tuple[str, str]]:
    if not positionals:
        yield from (
            ("add", "one more rule"),
            ("rm", "a rule by its number"),
            ("none", "nothing at all"),
            ("usual", "no rules of your own"),
            ("quiet", "when nothing is told"),
            ("test", "try a target"),
        )
    elif positionals == ["rm"]:
        rules = agent.ask("user", user="@me")["notify"]
        yield from ((str(number), it["text"]) for number, it in enumerate(rules, 1))
    elif positionals == ["quiet"]:
        yield "off", "at all times"


_PEOPLE = {"users": _users, "user": _user_words, "notify": _notify_words}


def _tokens(positionals: list[str], agent: Agent) -> Iterator[tuple[str, str]]:
    if not positionals:
        yield from (("create", "make one"), ("list", "those there are"), ("revoke", "end one"))
    elif positionals == ["revoke"]:
        for it in agent.ask("tokens"):
            yield it["id"], f"{it['user']}'s {it['note']}".rstrip()
        yield from ((it["id"], f"until {it['expires_at']}") for it in agent.ask("invitations"))


def _builds(last: str, agent: Agent) -> Iterator[tuple[str, str]]:
    job = last.partition("#")[0] if "#" in last else None
    for build in agent.ask("builds", job=job, limit=BUILDS):
        yield f"{build['job']}#{build['number']}", str(build["result"] or build["state"])


def _params(job: str, last: str, agent: Agent) -> Iterator[tuple[str, str]]:
    params: dict[str, dict[str, Any]] = agent.ask("job", job=job)["params"]
    name, equals, _ = last.partition("=")
    if equals:
        choices = params.get(name, {}).get("choices") or ()
        yield from ((f"{name}={choice}", "") for choice in choices)
        return
    yield from ((f"{key}=", _said(value.get("description"))) for key, value in params.items())


def _said(text: str | None) -> str:
    return " ".join((text or "").split())
