"""The audit: who did what, and whether all is as it was."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from rota.cli.commands.connected import at_this_agent, connected
from rota.cli.render import Cell, Look, ago, clean, paint, table
from rota.cli.screen import Screen, no_files
from rota.client.connection import lines
from rota.errors import InputError, NotFoundError, UnavailableError

_WORDS = "[list] | head | verify"
_OF_LIST = ("user", "job", "verb", "after", "until", "before", "limit")
_OF_VERIFY = ("clone", "head", "no_logs")
#: What a stage of a verification looks at.
_STAGES = {
    "objects": "objects of git",
    "commits": "commits of history",
    "main": "commits of main",
    "records": "records",
    "journal": "events",
    "logs": "logs",
    "agents": "other agents",
}


def audit(args: Namespace, screen: Screen) -> int:
    """List deeds, print the head of the history, or verify all."""
    match args.words:
        case [] | ["list"]:
            _refuse(args, "audit list", _OF_VERIFY)
            return _list(args, screen)
        case ["head"]:
            _refuse(args, "audit head", (*_OF_LIST, *_OF_VERIFY))
            return _head(args, screen)
        case ["verify"]:
            _refuse(args, "audit verify", _OF_LIST)
            return _verify(args, screen)
        case words:
            raise InputError(f"audit: {' '.join(words)!r} is none of its forms", hint=_WORDS)


def _refuse(args: Namespace, what: str, options: tuple[str, ...]) -> None:
    for option in options:
        if getattr(args, option):
            raise InputError(f"--{option.replace('_', '-')} is not for {what}", hint=_WORDS)


def _list(args: Namespace, screen: Screen) -> int:
    answer = connected(args).call(
        "audit",
        by=args.user,
        job=args.job,
        what=args.verb,
        after=args.after,
        until=args.until,
        before=args.before,
        limit=args.limit,
    )
    if args.json:
        screen.json(answer)
        return 0
    found = answer.json()
    look = screen.at(answer)
    screen.lines(table([_row(deed, look) for deed in reversed(found["deeds"])], look, (4, 5)))
    if not found["deeds"] and screen.out.is_terminal:
        screen.note("nobody did anything that fits")
    elif found["more"] and screen.out.is_terminal:
        screen.note("older ones: -n N, or --until TIME")
    return 0


def _row(deed: dict[str, Any], look: Look) -> tuple[Cell, ...]:
    on = deed["on"]
    about = " ".join(on[:3]) + (f" and {len(on) - 3} more" if len(on) > 3 else "")
    came_to = deed["to"][:10] if deed["kind"] == "store.moved" else deed["to"]
    more = " ".join(filter(None, (came_to, deed["why"])))
    return (
        Cell(ago(look, deed["at"]), "dim"),
        Cell(clean(deed["by"]), "bold"),
        Cell(clean(deed["verb"])),
        Cell(clean(about)),
        Cell(clean(more), "dim"),
        Cell(clean(_whence(deed)), "dim"),
    )


def _whence(deed: dict[str, Any]) -> str:
    """Return through which agent, by what, and from where, somebody did it."""
    by = [f"token {deed['token']}"] if deed["token"] else []
    by += [f"from {deed['address']}"] if deed.get("address") else []
    by += [deed["via"].partition(":")[0]] if deed["via"] else []
    return " ".join([f"at {deed['agent']}", *by])


def _head(args: Namespace, screen: Screen) -> int:
    answer = at_this_agent(args).call("audit_head")
    if args.json:
        screen.json(answer)
    else:
        screen.line(clean(answer.json()["line"]))
    return 0


# -- verification -----------------------------------------------------------------------------


def _verify(args: Namespace, screen: Screen) -> int:
    flaws = 0
    last: dict[str, Any] = {}
    steps = _of_clone(args, screen) if args.clone else _of_agent(args)
    for step in steps:
        match step["type"]:
            case "progress":
                _show_progress(step, screen)
                continue
            case "flaw":
                flaws += 1
            case "broke-off":
                _hide_progress(screen)
                raise UnavailableError(step["text"], hint=step["hint"] or None)
            case _:
                last = step
        _hide_progress(screen)
        if args.json:
            screen.text(json.dumps(step) + "\n")
        elif step["type"] == "flaw":
            what, where = step["what"], step["where"].removeprefix(f"{step['what']} ")
            screen.line(f"{paint(screen.out, 'red', what)} {clean(where)}: {clean(step['text'])}")
    if not args.json:
        screen.lines(_verdict(last, flaws, args, screen))
    return 1 if flaws else 0


def _of_agent(args: Namespace) -> Iterator[dict[str, Any]]:
    client = at_this_agent(args)
    with client.opened("verify", head=_kept(args), logs=not args.no_logs) as response:
        for raw in lines(response):
            yield json.loads(raw)


def _of_clone(args: Namespace, screen: Screen) -> Iterator[dict[str, Any]]:
    """Read a clone here, by git alone."""
    from pathlib import Path

    import msgspec

    from rota.bootstrap.inspection import inspected
    from rota.core.audit import read_head

    if not screen.has_files:
        raise no_files("audit verify --clone")
    heads = []
    for line in filter(str.strip, _kept(args).split("\n")):
        head = read_head(line)
        if head is None:
            raise InputError(
                f"{line[:100]!r} is no head of a history",
                hint="what rota audit head printed: rota-audit-1 SEQUENCE CHAIN COMMIT",
            )
        heads.append(head)
    for step in inspected(Path(args.clone), heads):
        found: dict[str, Any] = msgspec.to_builtins(step)
        if found["type"] == "summary":
            head = found.pop("head")
            found["line"] = (
                f"rota-audit-1 {head['seq']} {head['chain'] or '-'} {head['commit'] or '-'}"
            )
        yield found


def _kept(args: Namespace) -> str:
    """Return the heads that somebody kept: the line itself, or the lines of a file."""
    from pathlib import Path

    given = str(args.head or "")
    if not given or given.startswith("rota-audit-"):
        return given
    try:
        return Path(given).read_text("utf-8")
    except (OSError, UnicodeError) as error:
        raise NotFoundError(
            f"--head {given}: {getattr(error, 'strerror', None) or error}",
            hint="give the line that rota audit head printed, or a file with such lines",
        ) from None


def _show_progress(step: dict[str, Any], screen: Screen) -> None:
    if screen.err.is_terminal:
        total = f" of {step['total']}" if step.get("total") else ""
        text = f"{step['done']}{total} {_STAGES.get(step['stage'], step['stage'])}"
        screen.text(f"\r{text:<60}", on_error=True)


def _hide_progress(screen: Screen) -> None:
    if screen.err.is_terminal:
        screen.text(f"\r{'':<60}\r", on_error=True)


def _verdict(last: dict[str, Any], flaws: int, args: Namespace, screen: Screen) -> list[str]:
    looked = [
        _counted(last["commits"], "commit"),
        _counted(last["records"], "record"),
        _counted(last["deeds"], "deed"),
        f"main at {_counted(last['moves'], 'place')}",
    ]
    if not args.clone:
        looked.append(_counted(last["events"], "event"))
        looked.append(_counted(last["agents"], "other agent"))
        if not args.no_logs:
            gone = f" ({last['gone']} no longer kept)" if last["gone"] else ""
            looked.append(f"{_counted(last['logs'], 'log')}{gone}")
    verdict = _counted(flaws, "flaw") if flaws else "all as it was"
    colour = "red" if flaws else "green"
    lines = [f"{paint(screen.out, colour, verdict)}: {', '.join(looked)}"]
    if not last["since"] and last["commits"]:
        lines.append(
            "no commit says what the journal was: that git's hashes fit is all that can be told"
        )
    elif last["older"]:
        lines.append(
            f"{last['older']} commits are from before {clean(last['since'])}, with which the chain "
            "begins: for them git's hashes speak, and that commit for all of them"
        )
    if last["since"] and not args.head:
        lines.append(f"up to {clean(last['line'])}")
    return lines


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
