"""The cluster: who is in it, who may come, who rests, and who goes."""

from __future__ import annotations

import contextlib
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from rota.cli.bars import slots_bar
from rota.cli.commands.agent import labels_text
from rota.cli.commands.connected import at_this_agent, connected
from rota.cli.render import Cell, Look, ago, clean, table
from rota.cli.screen import Screen
from rota.client.answer import Answer
from rota.client.client import Client
from rota.errors import InputError, NotFoundError, RotaError, UnavailableError

#: How often an agent that drains or leaves is looked at.
LOOK_S = 0.5
#: How long the survivors of a cluster may take to agree again.
RECOVER_S = 60.0
#: Where there is less room than this, labels and URLs say more than a bar.
WIDE = 96
_COLOURS = {"up": "green", "draining": "yellow", "leaving": "yellow", "lost": "red"}


# -- agents -------------------------------------------------------------------------------------


def agents(args: Namespace, screen: Screen) -> int:
    """List all agents, or have one that is gone forgotten."""
    client = connected(args)
    if args.forget:
        answer = client.call("forget", agent=args.forget)
        _print(answer, args, screen, f"{args.forget} is no member any more")
        _say_what_it_knows(client, args.forget, screen)
        return 0
    if args.revoke:
        return _revoke(client, args, screen)
    if args.rotate or args.rotate_all:
        return _rotate(client, args, screen)
    answer = client.call("agents")
    if args.json:
        screen.json(answer)
    else:
        look = screen.at(answer)
        screen.lines(agents_table(answer.json(), look))
        if waited_for := _behind(answer.json()):
            screen.note(waited_for)
    return 0


def agents_table(agents: list[dict[str, Any]], look: Look) -> list[str]:
    """Return a line for each agent. On a terminal the labels that not all have come first."""
    common: frozenset[tuple[str, str]] = frozenset()
    if look.width is not None and agents:
        common = frozenset.intersection(*(frozenset(it["labels"].items()) for it in agents))
    rows = [_row({**one, "labels": _telling(one, common, look)}, look) for one in agents]
    return table(rows, look, shrink=(5, 6, 7))


def _telling(one: dict[str, Any], common: frozenset[tuple[str, str]], look: Look) -> dict[str, str]:
    """Return an agent's labels, those in front that tell it from others; its name stands there anyway."""
    labels: dict[str, str] = one["labels"]
    if look.width is None:
        return labels
    own = {key: it for key, it in labels.items() if (key, it) not in common and key != "agent"}
    return {**own, **{key: it for key, it in labels.items() if (key, it) in common}}


def _behind(agents: list[dict[str, Any]]) -> str:
    """Return in words whose older rota keeps the others from what is new; empty if nobody's does."""
    newest = max((one.get("level", 1) for one in agents), default=1)
    old = [one for one in agents if one.get("level", 1) < newest]
    names = ", ".join(f"{one['name']} (rota {one['version'] or 'unknown'})" for one in old)
    return (
        f"level {newest}, and what it brings, waits for a newer rota on {clean(names)}"
        if old
        else ""
    )


def _rotate(client: Client, args: Namespace, screen: Screen) -> int:
    names = [args.rotate] if args.rotate else [one["name"] for one in client.call("agents").json()]
    for name in names:
        answer = client.call("rotate_key", agent=name)
        _print(answer, args, screen, clean(f"{name} has another key: {answer.json()['pin'][:16]}…"))
    return 0


def _revoke(client: Client, args: Namespace, screen: Screen) -> int:
    answer = client.call("revoke_agent", agent=args.revoke)
    if args.json:
        screen.json(answer)
        return 0
    done = answer.json()
    screen.line(f"{clean(args.revoke)} is no member any more, and its key opens nothing")
    if done["given_up"]:
        screen.line(f"given up: {clean(', '.join(done['given_up']))}")
    if done["recipient"]:
        screen.line(f"secrets are encrypted for a new key: {len(done['secrets'])}")
    screen.lines(f"to do: {clean(text)}" for text in done["todo"])
    return 0


def _say_what_it_knows(client: Client, name: str, screen: Screen) -> None:
    """Say that whoever has a removed agent's disk has the key of the secrets."""
    with contextlib.suppress(RotaError):
        if client.call("secrets").json():
            screen.note(
                f"{name} had the key of the secrets, and may know their values\n\n"
                "hint: where that matters: rota secret rotate, and new values from their origin"
            )


def drain(args: Namespace, screen: Screen) -> int:
    """Let an agent take no more builds, or take them again."""
    client, name = _agent_meant(args)
    answer = client.call("drain", agent=name, off=args.off)
    if args.off:
        _print(answer, args, screen, f"{name} takes builds again")
        return 0
    left = answer.json()["running"]
    if args.wait and left:
        screen.note(f"{name} takes no more builds; {_builds(left)} still running")
        _until_idle(client, name)
        left = 0
    rest = f"; {_builds(left)} still running" if left else " and runs none"
    _print(answer, args, screen, f"{name} takes no more builds{rest}")
    return 0


def leave(args: Namespace, screen: Screen) -> int:
    """Let an agent leave for good; return when it has left."""
    client, name = _agent_meant(args)
    answer = client.call("leave", agent=name)
    if args.now:
        _cancel_all(client, name)
    elif left := answer.json()["running"]:
        screen.note(f"{name} leaves once it has finished: {_builds(left)} still running")
    is_own = not args.agent
    _until_gone(client, name, is_own=is_own)
    _print(answer, args, screen, f"{name} has left the cluster")
    return 0


def label(args: Namespace, screen: Screen) -> int:
    """Change an agent's labels while it runs, or print them."""
    name, words = _label_words(args)
    changes = _changes(words)
    if not changes:
        return _print_labels(args, screen, name)
    client, name = _agent_meant(args, name)
    answer = client.call("label", agent=name, labels=changes)
    _print(answer, args, screen, f"{name}: {clean(labels_text(answer.json()['labels']))}")
    return 0


# -- who may come -------------------------------------------------------------------------------


def join(args: Namespace, screen: Screen) -> int:
    """Start a daemon here that joins the cluster of a token."""
    from rota.cli.commands.daemon import start

    args.from_clone = args.bus = args.log_level = args.log_format = None
    return start(args, screen)


# -- after a disaster ---------------------------------------------------------------------------


def recover(args: Namespace, screen: Screen) -> int:
    """Go on with the voters that are left; say what may be missing."""
    if not args.yes and sys.stdin.isatty() and not _is_sure(screen):
        screen.note("nothing was done")
        return 2
    answer = at_this_agent(args).call("recover", wait_s=RECOVER_S)
    if args.json:
        screen.json(answer)
        return 0
    done = answer.json()
    look = screen.at(answer)
    screen.line(f"voters now: {clean(', '.join(done['voters']))}")
    screen.line(f"removed: {clean(', '.join(done['removed'])) or 'none'}")
    heard = ago(look, done["last_event_at"])
    screen.line(f"last event: {done['seq']}" + (f", {heard}" if heard else ""))
    screen.lines(f"may be missing: {clean(text)}" for text in done["may_miss"])
    return 0


# -- parts --------------------------------------------------------------------------------------


def _agent_meant(args: Namespace, name: str | None = None) -> tuple[Client, str]:
    """Return a client, and the agent that was named: by default the one that is asked."""
    name = name or getattr(args, "agent", None)
    if name:
        return connected(args), name
    return connected(args), str(at_this_agent(args).call("status").json()["agent"])


def _row(one: dict[str, Any], look: Look) -> tuple[Cell, ...]:
    state = one["state"]
    if state == "up" and (one["leaving"] or one["draining"]):
        state = "leaving" if one["leaving"] else "draining"
    slots = f"{one['running']}/{one['slots']}"
    if look.width is not None and look.width >= WIDE and not look.is_room:
        slots = f"{slots_bar(look, one['running'], one['slots'])} {slots}".strip()
    return (
        Cell(one["name"], "bold"),
        Cell(state, _COLOURS.get(state, "dim")),
        Cell("leader" if one["is_leader"] else "", "cyan"),
        Cell("ephemeral" if one.get("ephemeral") else "voter" if one["is_voter"] else "", "dim"),
        Cell(slots, right=True),
        Cell("" if look.is_room else labels_text(one["labels"])),
        Cell("" if look.is_room else one["url"], "dim"),
        Cell(ago(look, one["since"]), "dim"),
    )


def _until_idle(client: Client, name: str) -> None:
    """Return once an agent runs nothing. As long as that takes: whoever waits may stop waiting."""
    for one in _looks(client, name):
        if one is None or not one["running"]:
            return


def _until_gone(client: Client, name: str, *, is_own: bool) -> None:
    """Return once an agent is no member any more."""
    try:
        for one in _looks(client, name):
            if one is None:
                return
    except UnavailableError:
        # Who was asked is who has left, and there is no other that can be asked.
        if not is_own:
            raise


def _looks(client: Client, name: str) -> Iterator[dict[str, Any] | None]:
    while True:
        found = {one["name"]: one for one in client.call("agents").json()}
        yield found.get(name)
        time.sleep(LOOK_S)


def _cancel_all(client: Client, name: str) -> None:
    for build in client.call("builds", state="running", limit=1000).json():
        if build["agent"] == name:
            client.call("cancel", build=build["id"], why=f"{name} leaves the cluster")


def _label_words(args: Namespace) -> tuple[str | None, list[str]]:
    """Return the agent that is meant, if the first word is one's name, and the other words."""
    words: list[str] = args.words
    if not words or "=" in words[0] or words[0].startswith("-"):
        return None, words
    known = {one["name"] for one in connected(args).call("agents").json()}
    if words[0] in known:
        return words[0], words[1:]
    return None, words


def _changes(words: list[str]) -> dict[str, str | None]:
    changes: dict[str, str | None] = {}
    for word in words:
        name, _, value = word.removeprefix("-").partition("=")
        if not name or (word.startswith("-") and value):
            raise InputError(
                f"{word!r} is no label", hint="name=value or name; -name takes it away"
            )
        if name in changes:
            raise InputError(f"{name} is given twice")
        changes[name] = None if word.startswith("-") else value
    return changes


def _print_labels(args: Namespace, screen: Screen, name: str | None) -> int:
    client, name = _agent_meant(args, name)
    answer = client.call("agents")
    found = next((one for one in answer.json() if one["name"] == name), None)
    if found is None:
        raise NotFoundError(f"no agent {name!r}", hint="rota agents")
    if args.json:
        import json

        screen.line(json.dumps(found["labels"]))
    else:
        screen.lines(
            clean(f"{key}={value}" if value else key) for key, value in found["labels"].items()
        )
    return 0


def _builds(count: int) -> str:
    return "1 build is" if count == 1 else f"{count} builds are"


def _is_sure(screen: Screen) -> bool:
    screen.note(
        "This re-forms the cluster from the voters that are left. What only the others had taken is\n"
        "lost, and they must not come back with their data. Is a majority of the voters gone for ever?"
    )
    try:
        return input("recover? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _print(answer: Answer, args: Namespace, screen: Screen, text: str) -> None:
    if args.json:
        screen.json(answer)
    else:
        screen.line(text)
