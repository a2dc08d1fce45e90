"""A job's header: the settings in the comment block at the top of a script.

All faults are reported at once, with their places in the file and a hint. What is unknown is an
error, and so is what another version knows and this one does not: a setting that is passed over
in silence is found at two in the morning.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from msgspec.structs import replace

from rota.core import fields
from rota.core.calendar_file import Use, calendar_uses
from rota.core.confinement import abilities_for
from rota.core.environment import param_fault, variable, variable_fault
from rota.core.fields import Field, FieldError, Spot
from rota.core.header_block import decode_script, find_block
from rota.core.header_caches import CACHES, check_caches
from rota.core.header_container import CONTAINER, check_container
from rota.core.header_joins import JOINS, check_joins
from rota.core.header_limits import LIMITS, check_limits
from rota.core.header_notify import NOTIFY
from rota.core.header_on import read_on
from rota.core.header_people import PEOPLE, check_people
from rota.core.header_reports import REPORTS
from rota.core.header_resources import RESOURCES
from rota.core.header_secrets import SECRETS, check_secrets
from rota.core.header_workspace import WORKSPACE
from rota.core.job import Job, Keep, Param, ParamValue, Reason, Retry, Spec
from rota.core.labels import parse_labels, print_labels
from rota.core.params import TYPES, choice_fault, conform, value_fault
from rota.core.problem import Problem, nearest
from rota.core.scm import read_scm
from rota.core.toml_document import Document, read_document
from rota.core.triggers import Push

__all__ = ["MAX_SCRIPT_BYTES", "decode_script", "parse_header"]

MAX_SCRIPT_BYTES = 1024 * 1024
#: Room for any header a person writes; bounds what a hostile one can cost.
MAX_HEADER_CHARACTERS = 64 * 1024
DAY_S = 86_400.0
MAX_DURATION_S = 30 * DAY_S

#: What is of the job itself; all else travels with each build.
_TOP = ("description", "params", "on", "needs", "matrix", "supersede_key")
#: What other versions know.
UNSUPPORTED: tuple[str, ...] = ()


def parse_header(text: str, *, name: str, path: str) -> tuple[Job | None, tuple[Problem, ...]]:
    """Return the job that a script defines, or all that is wrong with it, sorted by place.

    A script without a header is a job of defaults. Label expressions come back in their canonical
    form. Never raises.

    Args:
        text: The whole file, as `decode_script` returns it.
        name: The job's name, as it will stand in `Job`.
        path: How to call the file in problems.

    Cost: about 0.3 ms for a header of ten lines.
    """
    problems = list(_file_faults(text, path))
    if problems and problems[0].line == 0:
        return None, tuple(problems)
    block, faults = find_block(text, path)
    problems += faults
    job = Job(name=name)
    if block is not None:
        if sum(map(len, block.source.lines)) > MAX_HEADER_CHARACTERS:
            message = f"the header has more than {MAX_HEADER_CHARACTERS} characters"
            return None, (*problems, Problem(path, block.source.first_line - 1, 1, message))
        document, faults = read_document(block.source)
        # The comments after a header that never ends are no TOML, and not meant to be.
        problems += faults if block.closed else ()
        job = _read_job(document, name, problems)
    if problems:
        return None, tuple(sorted(problems, key=lambda it: (it.line, it.column, it.message)))
    return job, ()


def calendars_of(text: str, path: str) -> tuple[Use, ...]:
    """Return the calendars that a good script's header names, and where."""
    block, _ = find_block(text, path)
    if block is None:
        return ()
    document, _ = read_document(block.source)
    rules = document.table.get("tool", {}).get("rota", {}).get("on", ())
    return tuple(
        use
        for index in range(len(rules))
        for use in calendar_uses(document, ("tool", "rota", "on", index))
    )


def _file_faults(text: str, path: str) -> Iterator[Problem]:
    size = len(text.encode("utf-8", "replace"))
    if size > MAX_SCRIPT_BYTES:
        yield Problem(path, 0, 0, f"{size} bytes, the limit is {MAX_SCRIPT_BYTES}")
    if text.startswith("\ufeff"):
        message = "the file starts with a byte order mark, so that the kernel sees no #!"
        yield Problem(path, 1, 1, message, "save it as UTF-8 without a byte order mark")
    first, line_end, _ = text.partition("\n")
    if line_end and first.startswith("#!") and first.endswith("\r"):
        message = "the line ends in a carriage return, which the kernel takes for part of the name"
        yield Problem(path, 1, len(first), message, "save the file with Unix line ends")


def _read_job(document: Document, name: str, problems: list[Problem]) -> Job:
    """Return the job, with defaults for what is faulty and has been reported."""
    spot = Spot(document, problems, ("tool", "rota"), hidden=2)
    table = _own_table(document, problems)
    values = fields.read_table(table, spot, _JOB, unsupported=UNSUPPORTED)
    for key in values.get("params", {}).keys() & values.get("env", {}).keys():
        spot.at("env").at(key).key_fault(f"env.{key} is a parameter as well", "keep one of them")
    top = {key: values.pop(key) for key in _TOP if key in values}
    takes = values.pop("limits", ())
    values["limits"] = tuple(placed.take for placed in takes)
    places = tuple((placed.line, placed.column) for placed in takes)
    job = Job(name=name, **top, spec=_with_abilities(Spec(**values)), limit_places=places)
    _check_poll(job, spot)
    check_people(job, spot)
    check_secrets(job, spot)
    check_caches(job, spot)
    return check_joins(check_limits(check_container(job, spot), spot), spot)


def _with_abilities(spec: Spec) -> Spec:
    """Ask of an agent that it can do to a build what its header says."""
    abilities = abilities_for(spec)
    if not abilities:
        return spec
    text = " && ".join([*([f"({spec.labels})"] if spec.labels else []), *abilities])
    expr, faults = parse_labels(text)
    return replace(spec, labels=text if faults else print_labels(expr))


def _check_poll(job: Job, spot: Spot) -> None:
    """Report a job that looks for pushes, and says not of which branch."""
    scm = job.spec.scm
    if scm is None or scm.poll_s is None or any(isinstance(rule, Push) for rule in job.on):
        return
    if not scm.branch or "{" in scm.branch:
        spot.at("scm").fault(
            "scm polls, and it is not said for pushes of which branch",
            'give it a branch, or on = [{ push = "main" }]',
        )


def _own_table(document: Document, problems: list[Problem]) -> dict[str, Any]:
    """Return ``[tool.rota]``, and report what was meant for it and stands elsewhere."""
    root = Spot(document, problems)
    for key in document.table:
        if key in _JOB or key in UNSUPPORTED or key == "rota":
            root.at(key).key_fault(
                f"{key} stands outside of [tool.rota]", "put [tool.rota] before it"
            )
    tools = document.table.get("tool", {})
    if not isinstance(tools, dict):
        root.at("tool").fault("tool must be a table", "write [tool.rota]")
        return {}
    if "rota" not in tools:
        for key in tools:
            if nearest(key, ["rota"]):
                root.at("tool").at(key).key_fault(
                    f"unknown table [tool.{key}]", nearest(key, ["rota"])
                )
    own = tools.get("rota", {})
    if not isinstance(own, dict):
        root.at("tool").at("rota").fault("tool.rota must be a table", "write [tool.rota]")
        return {}
    return own


def _labels(value: object, spot: Spot) -> str:
    text = fields.text(value, spot)
    if "{" in text:
        return text  # of a matrix: what it comes to is looked at once the cells are known
    expr, faults = parse_labels(text)
    for fault in faults:
        spot.fault(f"labels: {fault.message}", fault.hint, offset=fault.column)
    if faults:
        raise FieldError
    return print_labels(expr)


def _artifact(value: object, spot: Spot) -> str:
    glob = fields.text(value, spot)
    hint = "paths are relative to the workspace, such as dist/*.whl"
    if not glob.strip():
        raise FieldError("is empty", hint)
    if glob.startswith("/"):
        raise FieldError(f"must be relative, not {fields.printed_value(glob)}", hint)
    if ".." in glob.split("/"):
        raise FieldError(f"leaves the workspace: {fields.printed_value(glob)}", hint)
    return glob


def _keep(value: object, spot: Spot) -> Keep:
    if value == {}:
        raise FieldError("is empty, so that it says nothing")
    return fields.table(_KEEP, Keep)(value, spot)


def _reason(value: object, spot: Spot) -> Reason:
    reason = fields.one_of(_REASONS)(value, spot)
    return Reason(reason)


def _scalar(value: object, _: Spot) -> ParamValue:
    """Read a value of whatever type a parameter can have."""
    if not isinstance(value, str | int | float):
        hint = "a string, a number or a boolean"
        raise FieldError(f"cannot be {fields.type_name(value)}", hint)
    found = conform(value, _type_of(value))
    if found is None:
        raise FieldError("is not a finite number of 64 bits")
    if (fault := value_fault(found)) is not None:
        raise FieldError(fault)
    return found


def _type_of(value: object) -> str:
    """Return the type of parameter that ``value`` speaks for."""
    kinds = {bool: "bool", int: "int", float: "float"}
    return kinds.get(type(value), "string")


def _param(value: object, spot: Spot) -> Param:
    """Read a parameter, or the bare default that is short for one."""
    if not isinstance(value, dict):
        if isinstance(value, list):
            raise FieldError("cannot be an array", 'write { choices = ["a", "b"] }')
        bare = _scalar(value, spot)
        return Param(type=cast("Any", _type_of(bare)), default=bare)
    values = fields.read_table(value, spot, _PARAM)
    if not values.keys() >= value.keys() & _PARAM.keys():
        raise FieldError
    kind = values.get("type") or _inferred(values)
    default = _typed(values.get("default"), kind, spot.at("default"))
    choices = tuple(
        _typed(choice, kind, spot.at("choices").at(index))
        for index, choice in enumerate(values.get("choices", ()))
    )
    _check_choices(default, choices, spot)
    return Param(
        kind, default, cast("tuple[ParamValue, ...]", choices), values.get("description", "")
    )


def _inferred(values: dict[str, Any]) -> Any:
    """Return the one type of default and choices; integers among floats are floats."""
    given = [*values.get("choices", ()), values.get("default")]
    kinds = {_type_of(it) for it in given if it is not None}
    if kinds == {"int", "float"}:
        return "float"
    return _type_of(next((it for it in reversed(given) if it is not None), ""))


def _typed(value: ParamValue | None, kind: str, spot: Spot) -> ParamValue | None:
    found = None if value is None else conform(value, kind)
    if value is not None and found is None:
        hint = f'write "{fields.printed_value(value)}"' if kind == "string" else None
        spot.fault(f"{spot.name} must be of type {kind}, not {fields.type_name(value)}", hint)
    return found


def _check_choices(
    default: ParamValue | None, choices: tuple[ParamValue | None, ...], spot: Spot
) -> None:
    good = [choice for choice in choices if choice is not None]
    if default is not None and good and default not in good:
        here = spot.at("default")
        here.fault(f"{here.name} {choice_fault(default, good)}")
    for index, choice in enumerate(choices):
        if choice is not None and choice in choices[:index]:
            here = spot.at("choices").at(index)
            here.fault(f"{here.name} is given twice: {fields.printed_value(choice)}")


def _choices(value: object, spot: Spot) -> tuple[ParamValue, ...]:
    if value == []:
        raise FieldError("is empty, so that no value would fit")
    return fields.list_of(_scalar)(value, spot)


def _share(value: object, _: Spot) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise FieldError("must be a number from 0 to 1", "the part of a wait left to chance")
    return float(value)


_POSITIVE = fields.duration(0.001, MAX_DURATION_S)
#: Somebody wanted it to end, or it never ran.
_ENDED = {Reason.CANCELLED, Reason.SUPERSEDED, Reason.UNMET, Reason.GROUP, Reason.REJECTED}
_REASONS = tuple(str(reason) for reason in Reason if reason not in _ENDED)

_RETRY = {
    "times": Field("times", fields.integer(0, 20), "times = 2"),
    "on": Field("on", fields.list_of(_reason), 'on = ["lost", "timeout"]'),
    "delay": Field("delay_s", fields.duration(0, DAY_S), 'delay = "30s"'),
    "max_delay": Field("max_delay_s", fields.duration(0, DAY_S), 'max_delay = "10m"'),
    "jitter": Field("jitter", _share, "jitter = 0.5"),
    "exit_codes": Field("exit_codes", fields.list_of(fields.integer(1, 255)), "exit_codes = [75]"),
}

_AGE = fields.duration(1, 3650 * DAY_S)

_KEEP = {
    "logs": Field("logs_s", _AGE, 'logs = "30d"'),
    "artifacts": Field("artifacts_s", _AGE, 'artifacts = "7d"'),
    "builds": Field("builds", fields.integer(1, 1_000_000), "builds = 50"),
    "bytes": Field("bytes", fields.size(1 << 20, 1 << 60), 'bytes = "1G"'),
}

_PARAM = {
    "type": Field("type", fields.one_of(TYPES), 'type = "int"'),
    "default": Field("default", _scalar, 'default = "fast"'),
    "choices": Field("choices", _choices, 'choices = ["fast", "full"]'),
    "description": Field("description", fields.text, 'description = "which tests"'),
}

_JOB = {
    "description": Field("description", fields.text, 'description = "unit tests"'),
    "labels": Field("labels", _labels, 'labels = "linux && docker"'),
    "timeout": Field("timeout_s", _POSITIVE, 'timeout = "20m"'),
    "idle_timeout": Field("idle_timeout_s", _POSITIVE, 'idle_timeout = "5m"'),
    "grace": Field("grace_s", _POSITIVE, 'grace = "10s"'),
    "retry": Field(
        "retry",
        fields.table(_RETRY, Retry, required=("times",)),
        'retry = { times = 2, on = ["lost"] }',
    ),
    "priority": Field("priority", fields.integer(-100, 100), "priority = 10"),
    "params": Field("params", fields.table_of(param_fault, _param), 'params = { suite = "fast" }'),
    "env": Field("env", fields.table_of(variable_fault, variable), 'env = { LANG = "C" }'),
    "stdin": Field("stdin", fields.boolean, "stdin = true"),
    "artifacts": Field("artifacts", fields.list_of(_artifact), 'artifacts = ["dist/*.whl"]'),
    "keep": Field("keep", _keep, 'keep = { logs = "30d", builds = 50 }'),
    "exclusive": Field("exclusive", fields.boolean, "exclusive = true"),
    "scm": Field("scm", read_scm, 'scm = "https://git.example/web.git"'),
    "on": Field("on", read_on, 'on = [ { cron = "H 2 * * *" }, { push = "main" } ]'),
    **LIMITS,
    **JOINS,
    **PEOPLE,
    **CACHES,
    **RESOURCES,
    **CONTAINER,
    **WORKSPACE,
    **REPORTS,
    **SECRETS,
    **NOTIFY,
}
