"""The part of a header that says which secrets a job is given: `secrets`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from rota.core import fields
from rota.core.environment import variable_fault
from rota.core.fields import Field, FieldError, Spot, printed_value
from rota.core.job import Job
from rota.core.secret_use import SecretUse, provider_name_fault, secret_name_fault

MAX_SECRETS = 50
MAX_PATH = 1000
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def _name(value: Any, spot: Spot) -> SecretUse:
    """Read a secret's name: of the store, or of a provider as ``vault:kv/web#token``."""
    text = fields.text(value, spot)
    provider, colon, path = text.partition(":")
    if not colon:
        if (fault := secret_name_fault(text)) is not None:
            raise FieldError(f"is no secret's name: {printed_value(text)}", fault)
        return SecretUse(text)
    if (fault := provider_name_fault(provider)) is not None:
        raise FieldError(f"names a provider that {fault}: {printed_value(provider)}")
    if not path.strip() or not path.isprintable() or len(path) > MAX_PATH:
        hint = 'what it is asked for, such as "vault:kv/web#token"'
        raise FieldError(f"asks the provider {provider} for {printed_value(path)}", hint)
    if path.startswith("-"):
        raise FieldError("asks for what starts with a dash, which programs take for an option")
    return SecretUse(path, provider=provider)


def _env(value: Any, spot: Spot) -> str:
    name = fields.text(value, spot)
    if (fault := variable_fault(name)) is not None:
        raise FieldError(f"{fault}: {printed_value(name)}")
    return name


def _file(value: Any, spot: Spot) -> str | bool:
    if isinstance(value, bool):
        return value
    name = fields.text(value, spot)
    if not _FILE.fullmatch(name):
        hint = "true, or what the file is called: letters, digits and . _ -"
        raise FieldError(f"is no file's name: {printed_value(name)}", hint)
    return name


def _use(value: Any, spot: Spot) -> SecretUse:
    if isinstance(value, str):
        use, here = _name(value, spot), spot
    elif isinstance(value, dict):
        given = fields.read_table(value, spot, _SECRET)
        if "name" not in value:
            spot.fault(f"{spot.name} needs name", f"such as {_SECRET['name'].example}")
        if not given.keys() >= value.keys() & _SECRET.keys() or "name" not in given:
            raise FieldError
        use, here = given["name"], spot.at("name")
        file = given.get("file", False)
        use = replace(
            use,
            env=given.get("env", ""),
            file=(_file_name(use) if file is True else file) or "",
            optional=given.get("optional", False),
        )
    else:
        hint = 'a name, or { name = "deploy-key", file = true, env = "KEY" }'
        raise FieldError(f"must be a string or a table, not {fields.type_name(value)}", hint)
    if not use.env:
        use = replace(use, env=_own_variable(use))
    place = here.document.source.problem(here.document.places.value(here.path, 0), "")
    return replace(use, line=place.line, column=place.column)


def _file_name(use: SecretUse) -> str:
    return (
        re.sub(r"[^A-Za-z0-9_.-]", "-", use.name.rpartition("/")[2])[-100:].lstrip(".-") or "secret"
    )


def _own_variable(use: SecretUse) -> str:
    """Return the variable that a secret's name is itself."""
    if not use.provider and variable_fault(use.name) is None:
        return use.name
    fit = re.sub(r"[^A-Za-z0-9]+", "_", use.name).strip("_").upper()
    fit = fit if variable_fault(fit) is None else f"SECRET_{fit}"
    raise FieldError(
        f"is no name of a variable: {printed_value(use.ref)}",
        f'say which: {{ name = "{use.ref[:60]}", env = "{fit[:60]}" }}',
    )


def _uses(value: Any, spot: Spot) -> tuple[SecretUse, ...]:
    found = fields.list_of(_use)(value, spot)
    if len(found) > MAX_SECRETS:
        raise FieldError(f"has {len(found)} secrets, the limit is {MAX_SECRETS}")
    for what, names in (
        ("the variable", [use.env for use in found]),
        ("the file", [use.file for use in found]),
    ):
        for index, name in enumerate(names):
            if name and name in names[:index]:
                here = spot.at(index)
                here.fault(f"{here.name} has {what} {name} again", "give it another one")
    return found


def _faults(job: Job) -> Iterator[tuple[int, str]]:
    for index, use in enumerate(job.spec.secrets):
        for what, taken in (("env", job.spec.env), ("a parameter", job.params)):
            if use.env in taken:
                yield index, f"has the variable {use.env}, which is of {what} as well"


def check_secrets(job: Job, spot: Spot) -> None:
    """Report a secret whose variable something else of the job sets."""
    for index, text in _faults(job):
        here = spot.at("secrets").at(index)
        here.fault(f"{here.name} {text}", "give it another one: env = …")


_SECRET = {
    "name": Field("name", _name, 'name = "NPM_TOKEN"'),
    "env": Field("env", _env, 'env = "TOKEN"'),
    "file": Field("file", _file, "file = true"),
    "optional": Field("optional", fields.boolean, "optional = true"),
}

#: What a header says by this key.
SECRETS = {
    "secrets": Field("secrets", _uses, 'secrets = ["NPM_TOKEN", { name = "key", file = true }]'),
}
