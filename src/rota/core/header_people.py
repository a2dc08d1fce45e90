"""The parts of a header about people and about what comes after the script: `approve`, `finally`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rota.core import fields
from rota.core.fields import Field, FieldError, Spot, printed_value
from rota.core.job import Approve, Finaliser, Job
from rota.core.problem import nearest
from rota.core.template import TemplateError, names

_MAX_S = 30 * 86_400.0
_MAX_TEXT = 1000
_NAME = re.compile(r"@?[^\s@{},:;#/]+")


def principal(value: Any, spot: Spot) -> str:
    """Read the name of a person, or of a group of the settings as ``@name``."""
    name = fields.text(value, spot)
    if not _NAME.fullmatch(name) or len(name) > 100:
        hint = "a name such as ann, or a group of settings.toml such as @release"
        raise FieldError(f"is no name of a person or group: {printed_value(name)}", hint)
    return name


def _question(value: Any, spot: Spot) -> str:
    found = fields.text(value, spot)
    if len(found) > _MAX_TEXT:
        raise FieldError(f"has {len(found)} characters, the limit is {_MAX_TEXT}")
    try:
        names(found)
    except TemplateError as error:
        raise FieldError(str(error)) from error
    return found


def _who(value: Any, spot: Spot) -> tuple[str, ...]:
    if value == []:
        raise FieldError("is empty, so that nobody could approve", "leave it out for anybody")
    return fields.list_of(principal)(value, spot)


def _approve(value: Any, spot: Spot) -> Approve:
    """Read who must approve: a table, or a list of names that is short for one."""
    if isinstance(value, list):
        return Approve(who=_who(value, spot))
    return fields.table(_APPROVE, Approve)(value, spot)


def _command(value: Any, spot: Spot) -> str:
    found = fields.text(value, spot)
    if not found.strip():
        raise FieldError("is empty, so that nothing would run")
    return found


def _finally(value: Any, spot: Spot) -> Finaliser:
    """Read what runs after the script: a table, or its command alone."""
    if isinstance(value, str):
        return Finaliser(run=_command(value, spot))
    if isinstance(value, dict) and "run" in value:
        values = fields.read_table(value, spot, _FINALLY)
        if "run" not in values:
            raise FieldError
        return Finaliser(**values)
    if isinstance(value, dict):
        fields.read_table(value, spot, _FINALLY)
        raise FieldError("needs run", f"such as {_FINALLY['run'].example}")
    raise FieldError(f"must be a string or a table, not {fields.type_name(value)}")


def check_people(job: Job, spot: Spot) -> None:
    """Report a parameter that the text of `approve` asks for, and the job does not have."""
    approve = job.spec.approve
    for name in unknown_places(approve.text, job.params) if approve is not None else ():
        here = spot.at("approve").at("text")
        known = ", ".join(job.params) or "none"
        hint = nearest(name, job.params) or f"its parameters: {known}"
        here.fault(f"{here.name} asks for {{{name}}}, which is no parameter of the job", hint)


def unknown_places(text: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return the names in braces that are not ``known``; dotted ones are the trigger's."""
    return tuple(name for name in names(text) if "." not in name and name not in set(known))


_APPROVE = {
    "who": Field("who", _who, 'who = ["ann", "@release"]'),
    "text": Field("text", _question, 'text = "Deploy {version}?"'),
    "timeout": Field("timeout_s", fields.duration(0.001, _MAX_S), 'timeout = "1d"'),
    "self": Field("self_approval", fields.boolean, "self = false"),
}

_FINALLY = {
    "run": Field("run", _command, 'run = "docker rm -f web"'),
    "timeout": Field("timeout_s", fields.duration(0.001, _MAX_S), 'timeout = "2m"'),
    "required": Field("required", fields.boolean, "required = true"),
}

#: What a header says by these keys.
PEOPLE = {
    "approve": Field("approve", _approve, 'approve = { who = ["ann"], timeout = "1d" }'),
    "finally": Field("finaliser", _finally, 'finally = "docker rm -f web"'),
}
