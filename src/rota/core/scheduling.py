"""What definitions mean for schedules: which there are to be, and what a build of one is given."""

from __future__ import annotations

import hashlib
from datetime import datetime

import msgspec

from rota.core.build import Trigger
from rota.core.definitions import Definition, Definitions
from rota.core.durations import format_duration
from rota.core.events import EPOCH
from rota.core.job import ParamValue
from rota.core.pipelines import Wish
from rota.core.schedules import Pause, Scheduled, build_id
from rota.core.template import TemplateError, fill
from rota.core.triggers import Schedule, rule_id
from rota.errors import InputError

CALENDARS = "calendars/"


def wanted_schedules(
    definitions: Definitions, definition: Definition, commit: str
) -> dict[str, Scheduled]:
    """Return the schedules of a job as its header has them; when they began is not said here."""
    job, paused = definition.job, definition.paused
    pause = None
    if paused is not None:
        pause = Pause(paused.by, paused.at, paused.reason, paused.misses)
    return {
        rule_id(job.name, rule): Scheduled(
            job=job.name,
            rule=rule,
            since=EPOCH,
            pause=pause,
            calendars=calendars_hash(definitions) if rule.calendars or rule.excepts else "",
            commit=commit,
        )
        for rule in job.on
        if isinstance(rule, Schedule)
    }


def calendars_hash(definitions: Definitions) -> str:
    """Return a hash of all calendars: one may be made of others."""
    files = sorted(
        (path, parsed.blob)
        for path, parsed in definitions.files.items()
        if path.startswith(CALENDARS)
    )
    return hashlib.sha256(msgspec.json.encode(files)).hexdigest()[:16]


def wish_for(id_: str, scheduled: Scheduled, at: datetime, kind: str, by: str) -> Wish:
    """Return what an instant of a schedule asks for; ``kind`` is the trigger's.

    Raises:
        InputError: the rule's parameters cannot be filled in.
    """
    rule = scheduled.rule
    fields = {"at": at.isoformat(), "date": f"{at:%Y-%m-%d}", "job": scheduled.job}
    try:
        params: dict[str, ParamValue] = {
            name: fill(text, fields) for name, text in rule.params.items()
        }
    except TemplateError as error:
        raise InputError(f"params {error}") from None
    return Wish(
        id=build_id(id_, at),
        job=scheduled.job,
        params=params,
        trigger=Trigger(kind=kind, by=by, source=id_, at=at),
        priority=rule.priority,
    )


def described(rule: Schedule) -> str:
    """Return when a rule fires, as a header has it: ``H 2 * * * Europe/Berlin``."""
    if rule.every_s:
        text = f"every {format_duration(rule.every_s)}"
    elif rule.cron:
        text = rule.cron if rule.tz == "UTC" else f"{rule.cron} {rule.tz}"
    else:
        text = "at " + ", ".join(f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in rule.at[:3])
        text += ", …" if len(rule.at) > 3 else ""
    return text
