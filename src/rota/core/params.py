"""Parameters: the values given at a trigger, checked against what the job declares."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from rota.core.fields import printed_value, type_name
from rota.core.job import Param, ParamValue
from rota.core.problem import nearest

#: The kernel passes at most 128 KiB in one variable, its name included.
MAX_VALUE_BYTES = 64 * 1024
#: What a signed 64-bit integer holds, so that every program along the way reads the same number.
MAX_INT = 2**63 - 1

TYPES = ("string", "int", "float", "bool")
_TYPE_NAMES = {"string": "a string", "int": "an integer", "float": "a number", "bool": "a boolean"}
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_INT = re.compile(r"[+-]?[0-9]{1,19}")
_FLOAT = re.compile(
    r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})?"
)


def resolve_params(
    declared: Mapping[str, Param], given: Mapping[str, ParamValue]
) -> tuple[dict[str, ParamValue], tuple[str, ...]]:
    """Return the value of each declared parameter, or every reason why they cannot be told.

    Strings are converted to the declared type, as a command line has nothing else. The values are
    in the order of the declaration; with problems there are none.
    """
    problems = [_undeclared(name, declared) for name in given if name not in declared]
    values: dict[str, ParamValue] = {}
    for name, param in declared.items():
        if name in given:
            value, fault = read_param(param, given[name])
            if fault is not None:
                problems.append(f"parameter {name} {fault}")
        elif (value := param.default) is None:
            problems.append(f"parameter {name} is missing{_choices(param)}")
        if value is not None:
            values[name] = value
    return ({}, tuple(problems)) if problems else (values, ())


def read_param(param: Param, value: Any) -> tuple[ParamValue | None, str | None]:
    """Return ``value`` as ``param`` has it, or what is wrong: "must be a string, not …"."""
    converted = _from_text(value, param.type) if isinstance(value, str) else value
    found = conform(converted, param.type)
    if found is None:
        shown = printed_value(value) if isinstance(value, str | int | float) else type_name(value)
        return None, f"must be {_TYPE_NAMES[param.type]}, not {shown}"
    if (fault := value_fault(found)) is not None:
        return None, fault
    if param.choices and found not in param.choices:
        return None, choice_fault(found, param.choices)
    return found, None


def conform(value: object, kind: str) -> ParamValue | None:
    """Return ``value`` if it is of the type ``kind``, an integer as a float if need be."""
    match value:
        case bool():
            return value if kind == "bool" else None
        case str():
            return value if kind == "string" else None
        case int() if abs(value) <= MAX_INT:
            return {"int": value, "float": float(value)}.get(kind)
        case float() if math.isfinite(value):
            return value if kind == "float" else None
        case _:
            return None


def value_fault(value: ParamValue) -> str | None:
    """Say why ``value`` cannot be passed to a script, or ``None`` if it can."""
    if not isinstance(value, str):
        return None
    if "\0" in value:
        return "has a NUL character, which no program could be given"
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return "is not UTF-8"
    return f"is {size} bytes, the limit is {MAX_VALUE_BYTES}" if size > MAX_VALUE_BYTES else None


def choice_fault(value: ParamValue, choices: Collection[ParamValue]) -> str:
    """Say that ``value`` is not among ``choices``, what they are, and which may have been meant."""
    known = ", ".join(printed_value(choice) for choice in choices)
    meant = nearest(str(value), [choice for choice in choices if isinstance(choice, str)])
    return f"cannot be {printed_value(value)}, only {known}" + (f"; {meant}" if meant else "")


def param_env(values: Mapping[str, ParamValue]) -> dict[str, str]:
    """Return ``values`` as variables of a script's environment; booleans are true and false."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in values.items()
    }


def _undeclared(name: str, declared: Collection[str]) -> str:
    shown = name if name.isidentifier() and len(name) <= 60 else printed_value(name)
    meant = nearest(name, declared)
    known = f"it has {', '.join(declared)}" if declared else "it has none"
    return f"the job has no parameter {shown}, {known}" + (f"; {meant}" if meant else "")


def _choices(param: Param) -> str:
    known = ", ".join(printed_value(choice) for choice in param.choices)
    return f", it is one of {known}" if known else f", it is {_TYPE_NAMES[param.type]}"


def _from_text(text: str, kind: str) -> ParamValue:
    """Return what ``text`` says as a ``kind``, or the text itself where it says nothing."""
    if kind == "int" and _INT.fullmatch(text):
        return int(text)
    if kind == "float" and _FLOAT.fullmatch(text):
        return float(text)
    if kind == "bool":
        return _WORDS.get(text.lower(), text)
    return text
