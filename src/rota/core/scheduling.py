"""What definitions mean for schedules: which there are to be, and what a build of one is given."""

from __future__ import annotations

import hashlib
from datetime import datetime

import msgspec
from msgspec.structs import replace

from rota.core.definitions import Definition, Definitions
from rota.core.events import EPOCH
from rota.core.job import ParamValue, Spec
from rota.core.params import resolve_params
from rota.core.schedules import Pause, Scheduled
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


def asked(
    definitions: Definitions, definition: Definition, rule: Schedule, at: datetime
) -> tuple[dict[str, ParamValue], Spec]:
    """Return the parameters and settings of the build of an instant.

    Raises:
        InputError: the job does not take the rule's parameters.
    """
    fields = {"at": at.isoformat(), "date": f"{at:%Y-%m-%d}", "job": definition.job.name}
    try:
        given = {name: fill(text, fields) for name, text in rule.params.items()}
    except TemplateError as error:
        raise InputError(str(error)) from None
    params, problems = resolve_params(definition.job.params, given)
    if problems:
        raise InputError("; ".join(problems))
    spec = definition.job.spec
    if spec.timeout_s is None:
        spec = replace(spec, timeout_s=definitions.settings.timeout_s)
    return params, spec if rule.priority is None else replace(spec, priority=rule.priority)
