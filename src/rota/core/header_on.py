"""The ``on`` list of a header: which key of an entry says its kind, and what else it may hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from fnmatch import translate
from typing import Any

from rota.core import fields
from rota.core.calendar_file import calendar_names, zone_name
from rota.core.cron import cron_fault
from rota.core.durations import parse_duration
from rota.core.fields import Field, FieldError, Spot
from rota.core.ids import job_name_fault
from rota.core.patterns import regex_fault
from rota.core.problem import nearest
from rota.core.template import TemplateError, names
from rota.core.triggers import (
    After,
    Chat,
    Dst,
    Hook,
    On,
    OnEvent,
    Overlap,
    PullRequest,
    Push,
    Schedule,
    rule_id,
)

DAY_S = 86_400.0
MAX_RULES = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_DST: tuple[Dst, ...] = ("skip", "once", "both", "shift")
_OVERLAP: tuple[Overlap, ...] = ("allow", "skip", "queue", "replace")
_RESULTS = ("passed", "failed", "cancelled", "timed-out", "lost", "errored")


def read_on(value: object, spot: Spot) -> tuple[On, ...]:
    """Read the whole list; two rules of one id are a fault."""
    rules = fields.list_of(_rule)(value, spot)
    if len(rules) > MAX_RULES:
        raise FieldError(f"has {len(rules)} rules, the limit is {MAX_RULES}")
    seen: dict[str, int] = {}
    for index, rule in enumerate(rules):
        first = seen.setdefault(rule_id("", rule), index)
        if first != index:
            what = f"the name {rule.name!r}" if rule.name else "the same"
            spot.at(index).fault(f"{spot.at(index).name} has {what} as {spot.at(first).name}")
            raise FieldError
    return rules


def _rule(value: object, spot: Spot) -> On:
    if not isinstance(value, dict):
        raise FieldError(
            f"must be a table, not {fields.type_name(value)}", 'such as { cron = "H 2 * * *" }'
        )
    kinds = [key for key in _KINDS if key in value]
    if not kinds:
        meant = next((hint for key in value if (hint := nearest(key, _KINDS))), None)
        raise FieldError("says not what it waits for", meant or fields.one_of_hint(_KINDS))
    make, table = _KINDS[kinds[0]]
    if (clash := next((key for key in kinds if key not in table), None)) is not None:
        raise FieldError(f"has both {kinds[0]} and {clash}", "make two entries of it")
    values = fields.read_table(value, spot, table)
    if len(values) < len(value):
        raise FieldError
    return make(values, spot)


# -- values -----------------------------------------------------------------------------------


def _globs(value: object, spot: Spot) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if value == []:
        raise FieldError("is empty, so that nothing would match")
    return fields.list_of(_glob)(value, spot)


def _branches(value: object, spot: Spot) -> tuple[str, ...]:
    """Read globs of branches; ``true`` is any."""
    return ("*",) if value is True else _globs(value, spot)


def _glob(value: object, spot: Spot) -> str:
    glob = fields.text(value, spot)
    if not glob.strip():
        raise FieldError("is empty, so that nothing would match")
    re.compile(translate(glob))
    return glob


def _where(value: object, spot: Spot) -> dict[str, str]:
    return fields.table_of(_path_fault, _pattern)(value, spot)


def _pattern(value: object, spot: Spot) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else fields.text(value, spot)


def _path_fault(path: str) -> str | None:
    return None if all(path.split(".")) else "is no path of fields, such as data.version"


def _params(value: object, spot: Spot) -> dict[str, str]:
    return fields.table_of(lambda _: None, _param)(value, spot)


def _param(value: object, spot: Spot) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    text = fields.text(value, spot)
    try:
        names(text)
    except TemplateError as error:
        raise FieldError(str(error)) from None
    return text


def _name(value: object, spot: Spot) -> str:
    name = fields.text(value, spot)
    if not _NAME.fullmatch(name):
        raise FieldError(
            f"cannot be {fields.printed_value(name)}", "letters, digits and . _ -, such as nightly"
        )
    return name


def _job_glob(value: object, spot: Spot) -> str:
    glob = _glob(value, spot)
    if not re.search(r"[*?\[]", glob) and (fault := job_name_fault(glob)):
        raise FieldError(f"is no job's name: {fault}")
    return glob


def _results(value: object, spot: Spot) -> tuple[str, ...]:
    if value == "any":
        return _RESULTS
    return fields.list_of(fields.one_of(_RESULTS))(
        [value] if isinstance(value, str) else value, spot
    )


def _regex(value: object, spot: Spot) -> str:
    pattern = fields.text(value, spot)
    if (fault := regex_fault(pattern)) is not None:
        raise FieldError(f"is no regular expression: {fault}")
    return pattern


def _instants(value: object, spot: Spot) -> tuple[datetime, ...]:
    return fields.list_of(_instant)(value if isinstance(value, list) else [value], spot)


def _instant(value: object, _: Spot) -> datetime:
    """Read a date and time; a text in RFC 3339 will do. Without a zone it is refused."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise FieldError(
                f"is no date and time: {fields.printed_value(value)}", "2026-12-24T18:00:00Z"
            ) from None
    if isinstance(value, date) and not isinstance(value, datetime):
        raise FieldError("must say the time of day as well", "2026-12-24T18:00:00Z")
    if not isinstance(value, datetime):
        raise FieldError(f"must be a date and time, not {fields.type_name(value)}")
    if value.tzinfo is None:
        raise FieldError("must say its zone", f"{value.isoformat()}Z, or +01:00")
    return value.astimezone(UTC)


def _cron(value: object, spot: Spot) -> str:
    text = fields.text(value, spot)
    if (fault := cron_fault(text)) is not None:
        message, hint, offset = fault
        raise FieldError(message, hint, offset=offset)
    return text


def _misfire(value: object, spot: Spot) -> str:
    """Read ``skip``, ``once``, ``all``, or a duration within which a miss still fires."""
    text = fields.text(value, spot)
    if text in ("skip", "once", "all") or not isinstance(parse_duration(text), str):
        return text
    raise FieldError(
        f"cannot be {fields.printed_value(text)}", "skip, once, all, or a duration such as 10m"
    )


# -- kinds ------------------------------------------------------------------------------------

_COMMON = {
    "name": Field("name", _name, 'name = "nightly"'),
    "params": Field("params", _params, 'params = { suite = "full" }'),
    "priority": Field("priority", fields.integer(-100, 100), "priority = 10"),
}

_SCHEDULE = _COMMON | {
    "cron": Field("cron", _cron, 'cron = "H 2 * * *"'),
    "every": Field("every_s", fields.duration(1, 3650 * DAY_S), 'every = "15m"'),
    "at": Field("at", _instants, "at = 2026-12-24T18:00:00Z"),
    "tz": Field("tz", zone_name, 'tz = "Europe/Berlin"'),
    "start": Field("start", _instant, "start = 2026-01-01T00:00:00Z"),
    "end": Field("end", _instant, "end = 2027-01-01T00:00:00Z"),
    "calendar": Field("calendars", calendar_names, 'calendar = "office-hours"'),
    "except": Field("excepts", calendar_names, 'except = "holidays"'),
    "jitter": Field("jitter_s", fields.duration(0.001, DAY_S), 'jitter = "30s"'),
    "dst": Field("dst", fields.one_of(_DST), 'dst = "once"'),
    "misfire": Field("misfire", _misfire, 'misfire = "once"'),
    "overlap": Field("overlap", fields.one_of(_OVERLAP), 'overlap = "skip"'),
}

_AFTER = _COMMON | {
    "after": Field("job", _job_glob, 'after = "web/build"'),
    "result": Field("results", _results, 'result = ["failed", "timed-out"]'),
}

_EVENT = _COMMON | {
    "event": Field("type", _glob, 'event = "release.*"'),
    "where": Field("where", _where, 'where = { "data.channel" = "stable" }'),
}

_REPO = {
    "files": Field("files", _globs, 'files = ["src/**"]'),
    "repo": Field("repo", fields.text, 'repo = "https://git.example/web.git"'),
}

_PUSH = (
    _COMMON
    | _REPO
    | {
        "push": Field("branches", _branches, 'push = "main"'),
        "tag": Field("tags", _branches, 'tag = "v*"'),
    }
)

_PULL = _COMMON | _REPO | {"pull_request": Field("branches", _branches, "pull_request = true")}

_HOOK = _COMMON | {
    "hook": Field("hook", _name, 'hook = "deploys"'),
    "where": Field("where", _where, 'where = { "action" = "published" }'),
}

_CHAT = _COMMON | {
    "chat": Field("chat", _regex, 'chat = "deploy (?P<env>\\\\w+)"'),
    "channel": Field("channel", _glob, 'channel = "#ops"'),
}


def _schedule(values: dict[str, Any], spot: Spot) -> Schedule:
    given = [key for key in ("cron", "every_s", "at") if key in values]
    if len(given) != 1:
        raise FieldError("has more than one of cron, every and at", "make two entries of it")
    misfire = values.get("misfire", "once")
    if misfire not in ("skip", "once", "all"):
        seconds = parse_duration(misfire)
        assert isinstance(seconds, float)
        values |= {"misfire": "within", "within_s": seconds}
    _check_jitter(values, spot)
    start, end = values.get("start"), values.get("end")
    if start is not None and end is not None and end <= start:
        spot.at("end").fault(f"{spot.at('end').name} is not after start")
        raise FieldError
    return Schedule(**values)


def _check_jitter(values: dict[str, Any], spot: Spot) -> None:
    """Refuse a jitter with which an instant could come after the one that follows it."""
    every = values.get("every_s")
    if every is not None and values.get("jitter_s", 0.0) > every:
        here = spot.at("jitter")
        here.fault(f"{here.name} is longer than every", "at most the interval itself")
        raise FieldError


def _of(make: Callable[..., On]) -> Callable[[dict[str, Any], Spot], On]:
    return lambda values, _: make(**values)


#: The key that says an entry's kind -> what makes it, and its fields.
_KINDS: Mapping[str, tuple[Callable[[dict[str, Any], Spot], On], Mapping[str, Field]]] = {
    "cron": (_schedule, _SCHEDULE),
    "every": (_schedule, _SCHEDULE),
    "at": (_schedule, _SCHEDULE),
    "after": (_of(After), _AFTER),
    "event": (_of(OnEvent), _EVENT),
    "push": (_of(Push), _PUSH),
    "tag": (_of(Push), _PUSH),
    "pull_request": (_of(PullRequest), _PULL),
    "hook": (_of(Hook), _HOOK),
    "chat": (_of(Chat), _CHAT),
}
