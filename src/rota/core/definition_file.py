"""One file of ``main``: what it is by its path, and what its text comes to."""

from __future__ import annotations

import msgspec

from rota.core.calendar_check import ics_problems
from rota.core.calendar_file import NAME, Use, parse_calendar
from rota.core.calendars import CalendarFile
from rota.core.header import calendars_of, decode_script, parse_header
from rota.core.hook import HookFile, hook_name_fault, parse_hook
from rota.core.ids import job_name_fault
from rota.core.job import Job
from rota.core.paused import PAUSED, Paused, parse_paused
from rota.core.problem import Problem
from rota.core.promotions import PROMOTED, Promotion, parse_promotion, promotion_name_fault
from rota.core.secrets import RECIPIENTS, SECRETS, SecretFile, parse_recipient, parse_secret
from rota.core.settings import Settings, parse_settings
from rota.core.triggers import Schedule
from rota.core.users import USERS, Claim, User, parse_user
from rota.core.watches import (
    ADOPTED,
    WATCHES,
    Adopted,
    WatchFile,
    parse_adopted,
    parse_watch,
    watch_name_fault,
)

JOBS = "jobs/"
CALENDARS = "calendars/"
HOOKS = "hooks/"
SETTINGS = "settings.toml"
#: Files in these mean something to us, each of its own.
FOLDERS = (JOBS, PAUSED, CALENDARS, HOOKS, WATCHES, ADOPTED, SECRETS, PROMOTED, USERS)
#: A definition travels through memory whole: what is larger belongs beside it, not into it.
MAX_BYTES = 1 << 20


class Parsed(msgspec.Struct, frozen=True):
    """What one file came to: a value, or the problems that it has."""

    blob: str
    value: (
        Job
        | Paused
        | Promotion
        | CalendarFile
        | HookFile
        | WatchFile
        | Adopted
        | Settings
        | SecretFile
        | User
        | str
        | None
    )
    problems: tuple[Problem, ...] = ()
    uses: tuple[Use, ...] = ()  # the calendars that it names
    claims: tuple[Claim, ...] = ()  # what it says is its user's alone


def is_definition(path: str) -> bool:
    """Whether a file of that path means something to us."""
    return path.startswith(FOLDERS) or path == SETTINGS


def calendar_name(path: str) -> str | None:
    """Return the name of the calendar that the file at ``path`` is; ``None`` if it is none."""
    name, dot, kind = path.removeprefix(CALENDARS).rpartition(".")
    good = path.startswith(CALENDARS) and dot and kind in {"toml", "ics"} and NAME.fullmatch(name)
    return name if good else None


def parse_file(path: str, blob: str, data: bytes) -> Parsed:
    """Return what a file comes to that :func:`is_definition` speaks for; ``blob`` is its hash."""
    fault = _data_fault(data)
    if fault is not None:
        return Parsed(blob, None, (Problem(path, 0, 0, fault),))
    text = decode_script(data)
    if path == SETTINGS:
        return Parsed(blob, *parse_settings(text, path))
    if path.startswith(PAUSED):
        return Parsed(blob, *parse_paused(text, path))
    if path.startswith(CALENDARS):
        return _parsed_calendar(path, blob, text)
    if path.startswith(WATCHES):
        return _parsed_watch(path, blob, text)
    if path.startswith(ADOPTED):
        found = parse_adopted(data)
        broken = Problem(path, 0, 0, "cannot be read", "the leader writes it; remove it")
        return Parsed(blob, found, () if found is not None else (broken,))
    if path == RECIPIENTS:
        return Parsed(blob, *parse_recipient(text, path))
    if path.startswith(SECRETS):
        return Parsed(blob, *parse_secret(text, path))
    if path.startswith(USERS):
        user, claims, problems = parse_user(text, path)
        return Parsed(blob, user, problems, claims=claims)
    if path.startswith(PROMOTED):
        return _parsed_promotion(path, blob, data)
    if path.startswith(HOOKS):
        return _parsed_hook(path, blob, text)
    name = path.removeprefix(JOBS)
    fault = job_name_fault(name)
    if fault is not None:
        return Parsed(blob, None, (Problem(path, 0, 0, f"bad job name: {fault}"),))
    job, problems = parse_header(text, name=name, path=path)
    rules = job.on if job is not None else ()
    named = any(isinstance(rule, Schedule) and (rule.calendars or rule.excepts) for rule in rules)
    return Parsed(blob, job, problems, calendars_of(text, path) if named else ())


def _parsed_calendar(path: str, blob: str, text: str) -> Parsed:
    if calendar_name(path) is None:
        problem = Problem(path, 0, 0, "no calendar's name", f"{CALENDARS}NAME.toml, or NAME.ics")
        return Parsed(blob, None, (problem,))
    if path.endswith(".ics"):
        problems = ics_problems(text, path)
        return Parsed(blob, None if problems else CalendarFile(ics=text), problems)
    file, uses, problems = parse_calendar(text, path)
    return Parsed(blob, file, problems, uses)


def _parsed_watch(path: str, blob: str, text: str) -> Parsed:
    name = path.removeprefix(WATCHES)
    if not name.endswith(".toml") or watch_name_fault(name.removesuffix(".toml")):
        problem = Problem(path, 0, 0, "no watch's name", f"{WATCHES}NAME.toml")
        return Parsed(blob, None, (problem,))
    return Parsed(blob, *parse_watch(text, path))


def _parsed_promotion(path: str, blob: str, data: bytes) -> Parsed:
    name = path.removeprefix(PROMOTED).removesuffix(".json")
    if not path.endswith(".json") or promotion_name_fault(name) is not None:
        problem = Problem(path, 0, 0, "no promotion's name", f"{PROMOTED}NAME.json")
        return Parsed(blob, None, (problem,))
    found = parse_promotion(data)
    broken = Problem(path, 0, 0, "cannot be read", "promote with: rota artifacts promote")
    return Parsed(blob, found, () if found is not None else (broken,))


def _parsed_hook(path: str, blob: str, text: str) -> Parsed:
    name = path.removeprefix(HOOKS).removesuffix(".toml")
    fault = hook_name_fault(name)
    if fault is not None or not path.endswith(".toml"):
        problem = Problem(path, 0, 0, "no webhook's name", f"{HOOKS}NAME.toml, NAME of {fault}")
        return Parsed(blob, None, (problem,))
    return Parsed(blob, *parse_hook(text, path))


def _data_fault(data: bytes) -> str | None:
    if len(data) > MAX_BYTES:
        return f"larger than the limit of {MAX_BYTES} bytes"
    # Git's own rule for what is binary.
    return "a binary file, not a text" if b"\0" in data[:8000] else None
