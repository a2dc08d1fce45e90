"""Users: who there is, what each may, where they are known, and what they are told."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.render import Cell, Look, ago, clean, facts, table
from rota.cli.screen import Screen
from rota.client.answer import Answer
from rota.errors import InputError

ME = "@me"
_USER = "[list] | show NAME | set NAME | rm NAME | link [NETWORK] | unlink NETWORK [WHO]"
_NOTIFY = "[show] | add | rm NUMBER | none | usual | quiet HOURS | quiet off | test TARGET"


def user(args: Namespace, screen: Screen) -> int:
    """Do with users what the words say."""
    match args.words:
        case [] | ["list"]:
            _refuse_options(args, "user list")
            return _list(args, screen)
        case ["show"]:
            _refuse_options(args, "user show", "user")
            return _show(args.user or ME, args, screen)
        case ["show", name]:
            _refuse_options(args, "user show")
            return _show(name, args, screen)
        case ["set", name]:
            _refuse_options(args, "user set", "role", "email", "timezone")
            return _set(name, args, screen)
        case ["rm", name]:
            _refuse_options(args, "user rm")
            return _rm(name, args, screen)
        case ["link", *_] if not screen.has_files:
            raise InputError(
                "a code that is shown in a room is anybody's", hint="from a shell: rota user link"
            )
        case ["link", *network] if len(network) <= 1:
            _refuse_options(args, "user link", "user")
            return _link("".join(network), args, screen)
        case ["unlink", network, *who] if len(who) <= 1:
            _refuse_options(args, "user unlink", "user")
            return _unlink(network, "".join(who), args, screen)
        case words:
            raise InputError(f"user: {' '.join(words)!r} is none of its forms", hint=_USER)


def notify(args: Namespace, screen: Screen) -> int:
    """Do with what a user is told what the words say."""
    match args.words:
        case [] | ["show"]:
            _refuse_options(args, "notify show", "user")
            return _told(connected(args).call("user", user=args.user or ME), args, screen)
        case ["add"]:
            _refuse_options(args, "notify add", "user", "jobs", "on", "to", "whose")
            return _add(args, screen)
        case ["rm", number]:
            _refuse_options(args, "notify rm", "user")
            return _fewer(args, screen, number=_number(number))
        case ["none"]:
            _refuse_options(args, "notify none", "user")
            return _fewer(args, screen, number=0)
        case ["usual"]:
            _refuse_options(args, "notify usual", "user")
            return _fewer(args, screen, number=0, usual=True)
        case ["quiet", *hours] if len(hours) <= 1:
            _refuse_options(args, "notify quiet", "user", "days")
            return _quiet("".join(hours), args, screen)
        case ["test", target]:
            _refuse_options(args, "notify test", "user")
            return _try(target, args, screen)
        case words:
            raise InputError(f"notify: {' '.join(words)!r} is none of its forms", hint=_NOTIFY)


def _refuse_options(args: Namespace, words: str, *good: str) -> None:
    for name in ("user", "role", "email", "timezone", "jobs", "on", "to", "whose", "days"):
        if name not in good and getattr(args, name, None) is not None:
            raise InputError(f"--{name} goes not with rota {words}")


# -- list, show -----------------------------------------------------------------------------------


def _list(args: Namespace, screen: Screen) -> int:
    answer = connected(args).call("users")
    if args.json:
        screen.json(answer)
        return 0
    found, look = answer.json(), screen.at(answer)
    screen.lines(table([_row(one) for one in found], look, shrink=(2, 3)))
    if not found and screen.out.is_terminal:
        screen.note(
            "there is no user yet\n\nhint: make one: rota user set ann --email ann@example.org"
        )
    return 0


def _row(one: dict[str, Any]) -> tuple[Cell, ...]:
    where = [*one["chat"], *(f"{it['network']} for a session" for it in one["sessions"])]
    return (
        Cell(one["name"], "bold"),
        Cell(one["role"]),
        Cell(" ".join(one["emails"])),
        Cell(", ".join(where) or "linked nowhere", "" if where else "dim"),
    )


def _show(name: str, args: Namespace, screen: Screen) -> int:
    answer = connected(args).call("user", user=name)
    if args.json:
        screen.json(answer)
        return 0
    view, look = answer.json(), screen.at(answer)
    screen.line(f"{clean(view['name'])}, {view['role']}")
    screen.lines(facts([(key, clean(text)) for key, text in _facts(view, look)], look))
    return 0


def _facts(view: dict[str, Any], look: Look) -> Iterator[tuple[str, str]]:
    if view["emails"]:
        yield "e-mail", ", ".join(view["emails"])
    for network, identities in view["chat"].items():
        yield network, ", ".join(identities)
    for it in view["sessions"]:
        nick = it["nick"] or "somebody"
        yield it["network"], f"{nick}, until that session ends, linked {ago(look, it['at'])}"
    if view["groups"]:
        yield "groups", " ".join(f"@{group}" for group in view["groups"])
    if view["timezone"]:
        yield "time zone", view["timezone"]
    for line in _rules(view):
        yield "told", line
    if view["quiet"]["text"] != "never":
        yield "quiet", view["quiet"]["text"]


def _rules(view: dict[str, Any]) -> list[str]:
    usual = " (as is usual)" if view["is_usual"] else ""
    return [it["text"] + usual + _not_now(it) for it in view["notify"]]


def _not_now(rule: dict[str, Any]) -> str:
    return f" (not now: {rule['why_not']})" if rule["why_not"] else ""


# -- set, rm --------------------------------------------------------------------------------------


def _set(name: str, args: Namespace, screen: Screen) -> int:
    answer = connected(args).call(
        "put_user",
        user=name,
        role=args.role,
        emails=_words(args.email),
        timezone=args.timezone,
    )
    if args.json:
        screen.json(answer)
        return 0
    view = answer.json()
    what = "is now" if view["changed"] else "was already"
    emails = f", {', '.join(view['emails'])}" if view["emails"] else ""
    screen.line(clean(f"{view['name']} {what} {_role(view['role'])}{emails}"))
    return 0


def _role(role: str) -> str:
    if role == "none":
        return "without a role but for some jobs"
    return f"an {role}" if role[0] in "aeiou" else f"a {role}"


def _rm(name: str, args: Namespace, screen: Screen) -> int:
    answer = connected(args).call("rm_user", user=name)
    if args.json:
        screen.json(answer)
        return 0
    view = answer.json()
    screen.line(clean(f"{view['name']} is no user any more"))
    if view["groups"]:
        groups = ", ".join(f"@{group}" for group in view["groups"])
        screen.note(f"note: settings.toml still has {clean(view['name'])} in {groups}")
    return 0


# -- link, unlink ---------------------------------------------------------------------------------


def _link(network: str, args: Namespace, screen: Screen) -> int:
    answer = connected(args).call("link_code", user=args.user or ME, network=network)
    if args.json:
        screen.json(answer)
        return 0
    made = answer.json()
    screen.line(f"{made['code']} makes whoever says it first {clean(made['user'])} there")
    for place in made["places"]:
        at = f" ({place['server']})" if place["server"] else ""
        screen.line(clean(f"on {place['network']}{at}, to {place['nick']} alone:  {place['say']}"))
    screen.note(clean("it holds for 10 minutes, and once; tell it to nobody"))
    return 0


def _unlink(network: str, who: str, args: Namespace, screen: Screen) -> int:
    answer = connected(args).call("unlink", user=args.user or ME, network=network, who=who)
    if args.json:
        screen.json(answer)
    else:
        name = answer.json()["name"]
        screen.line(clean(f"{who or 'whoever was ' + name} on {network} is not {name} any more"))
    return 0


# -- what somebody is told ------------------------------------------------------------------------


def _add(args: Namespace, screen: Screen) -> int:
    if not args.to:
        raise InputError("where to is not said", hint="--to matrix, --to mail, --to irc:#web")
    answer = connected(args).call(
        "add_notify",
        user=args.user or ME,
        to=_words(args.to),
        on=_words(args.on) or [],
        jobs=_words(args.jobs) or [],
        whose=args.whose or "mine",
    )
    return _told(answer, args, screen)


def _fewer(args: Namespace, screen: Screen, *, number: int, usual: bool = False) -> int:
    client = connected(args)
    answer = client.call("rm_notify", user=args.user or ME, number=number, usual=usual)
    return _told(answer, args, screen)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:5]) <= 1000:
        raise InputError(f"{text!r} is no number of a rule", hint="they are numbered: rota notify")
    return int(text)


def _quiet(hours: str, args: Namespace, screen: Screen) -> int:
    if not hours and not args.days:
        raise InputError("when is not said", hint="22:00-07:00, or --days sat,sun, or off")
    hours = "" if hours == "off" else hours
    answer = connected(args).call(
        "quiet", user=args.user or ME, hours=hours, days=_words(args.days) or []
    )
    return _told(answer, args, screen)


def _try(target: str, args: Namespace, screen: Screen) -> int:
    answer = connected(args).call("try_target", target=target, user=args.user or ME)
    if args.json:
        screen.json(answer)
        return 0
    view = answer.json()
    why = f": {view['why']}" if view["why"] else ""
    if view["state"] in ("waiting", "sending"):
        screen.line(clean(f"{view['target']} does not have it yet{why}; see rota notices"))
    else:
        screen.line(clean(f"{view['target']}: {view['state']}{why}"))
    return 0 if view["state"] == "sent" else 1


def _told(answer: Answer, args: Namespace, screen: Screen) -> int:
    """Print what a user is told, in words."""
    if args.json:
        screen.json(answer)
        return 0
    view = answer.json()
    name, rules = view["name"], view["notify"]
    if not rules:
        nowhere = f"nothing that is set up for notices knows {name}"
        screen.line(
            clean(f"{name} is told nothing: {nowhere if view['is_usual'] else 'by choice'}")
        )
    elif view["is_usual"]:
        screen.line(clean(f"{name} is told what is usual:"))
    else:
        screen.line(clean(f"{name} is told:"))
    for number, rule in enumerate(rules, 1):
        screen.line(clean(f"{number:>3}  {rule['text']}{_not_now(rule)}"))
    if view["quiet"]["text"] != "never":
        zone = view["timezone"] or "UTC"
        screen.line(
            clean(f"quiet {view['quiet']['text']} ({zone}); what came meanwhile comes after")
        )
    if not view["emails"]:
        screen.note(f"note: no e-mail address is known of {clean(name)}, so that no commit is")
    return 0


def _words(text: str | None) -> list[str] | None:
    """Return what was given with commas or spaces; an empty text is none of them."""
    return None if text is None else text.replace(",", " ").split()
