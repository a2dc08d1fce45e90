"""Tokens: of users, who show them to be known, and of machines, which join with them."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from rota.cli.commands.connected import at_this_agent, connected
from rota.cli.render import Cell, Look, ago, clean, table
from rota.cli.screen import Screen
from rota.client.answer import Answer
from rota.errors import DeniedError, InputError, NotFoundError

_WORDS = "[list] | create [--for NAME] | revoke ID"


def token(args: Namespace, screen: Screen) -> int:
    """Make a token, list those that hold, or make one worthless."""
    match args.words:
        case ["create"]:
            whose = _whose(args)
            return _create_user(whose, args, screen) if whose else _create_join(args, screen)
        case ["revoke", id_]:
            return _revoke(id_, args, screen)
        case [] | ["list"]:
            return _list(args, screen)
        case words:
            raise InputError(
                f"token: {' '.join(words)!r} is none of create, list and revoke", hint=_WORDS
            )


def _create_join(args: Namespace, screen: Screen) -> int:
    for option in ("role", "jobs", "note"):
        if getattr(args, option):
            raise InputError(
                f"--{option} is for tokens of users, and this one is for a machine",
                hint="say whose: rota token create --for NAME",
            )
    answer = at_this_agent(args).call(
        "invite", expires_s=_seconds(args.expires, "--expires"), uses=args.uses
    )
    if args.json:
        screen.json(answer)
    else:
        screen.line(clean(answer.json()["token"]))
    return 0


def _whose(args: Namespace) -> str:
    """Return the user of --for, as REST names it."""
    name = str(getattr(args, "for") or "")
    return "@me" if name == "me" else name


def _create_user(user: str, args: Namespace, screen: Screen) -> int:
    if args.uses is not None:
        raise InputError(
            "--uses is for the tokens of machines; a user's is used as often as it holds"
        )
    endless = args.expires in ("never", "none")
    answer = connected(args).call(
        "make_token",
        user=user,
        role=args.role,
        jobs=_globs(args.jobs),
        expires_s=0 if endless else _seconds(args.expires, "--expires"),
        note=args.note,
    )
    if args.json:
        screen.json(answer)
        return 0
    made = answer.json()
    screen.note(clean(_made(made)))
    screen.line(clean(made["token"]))
    return 0


def _made(made: dict[str, Any]) -> str:
    until = f"until {made['expires_at']}" if made["expires_at"] else "without end"
    return f"{made['id']} is {made['user']}'s, {_scope(made)}, {until}; it is not shown again:"


def _revoke(id_: str, args: Namespace, screen: Screen) -> int:
    """Make worthless what has that id: ids of users' tokens are longer than those of machines'."""
    try:
        answer = connected(args).call("revoke_token", id=id_)
    except NotFoundError as missing:
        try:
            answer = at_this_agent(args).call("revoke", id=id_)
        except (DeniedError, NotFoundError):
            raise missing from None
        text = f"{id_} admits nobody any more"
    else:
        text = f"{id_} opens nothing any more"
    if args.json:
        screen.json(answer)
    else:
        screen.line(text)
    return 0


def _list(args: Namespace, screen: Screen) -> int:
    client = connected(args)
    user = _whose(args)
    users = client.call("tokens", user=user or None)
    machines = None if user else _machines(args)
    if args.json:
        import json

        screen.line(json.dumps([*users.json(), *(machines.json() if machines else ())]))
        return 0
    look = screen.at(users)
    rows = [_row(it, look) for it in users.json()]
    rows += [_machine_row(it) for it in (machines.json() if machines else ())]
    screen.lines(table(rows, look, shrink=(5,)))
    if not rows and look.is_terminal:
        screen.note(
            "no token opens anything\n\nhint: rota token create --for NAME makes one for a user, "
            "rota token create for a machine that joins"
        )
    return 0


def _machines(args: Namespace) -> Answer | None:
    """Return the join tokens of this agent, if who asks may know of them."""
    try:
        return at_this_agent(args).call("invitations")
    except DeniedError:
        return None


def _row(it: dict[str, Any], look: Look) -> tuple[Cell, ...]:
    until = it["expires_at"]
    used = ago(look, it["used_at"]) if it["used_at"] else ""
    return (
        Cell(it["id"], "bold"),
        Cell(it["user"]),
        Cell(_scope(it)),
        Cell(f"until {until}" if until else "without end"),
        Cell(f"used {used}" if used else "not used", "dim"),
        Cell(it["note"] or ("login" if it["login"] else ""), "dim"),
    )


def _machine_row(it: dict[str, Any]) -> tuple[Cell, ...]:
    return (
        Cell(it["id"], "bold"),
        Cell("a machine"),
        Cell("joins"),
        Cell(f"until {it['expires_at']}"),
        Cell(_uses(it["uses"]), "dim"),
        Cell(""),
    )


def _scope(it: dict[str, Any]) -> str:
    role = f"{it['role']} at most" if it["role"] else "all that the user may"
    return f"{role} on {', '.join(it['jobs'])}" if it["jobs"] else role


def _uses(left: int) -> str:
    return f"{left} uses left" if left > 1 else "1 use left" if left else "any number of uses"


def _globs(text: str | None) -> list[str] | None:
    return [glob for glob in (it.strip() for it in (text or "").split(",")) if glob] or None


def _seconds(text: str | None, option: str) -> float | None:
    if text is None:
        return None
    from rota.core.durations import parse_duration

    seconds = parse_duration(text)
    if isinstance(seconds, str):
        raise InputError(f"{option}: {seconds}")
    return seconds
