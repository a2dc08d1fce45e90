"""The part of a header that names folders to be kept from one build to the next: `caches`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rota.core import fields
from rota.core.caches import KeyFaultError, key_parts
from rota.core.fields import Field, FieldError, Spot
from rota.core.job import Cache, Job
from rota.core.problem import nearest

MAX_CACHES = 20
MAX_TEXT = 1000
SAVES = ("passed", "always", "never")
_EXAMPLE = '{ key = "npm-{hash:package-lock.json}", paths = ["node_modules"] }'


def _key(value: Any, spot: Spot) -> str:
    text = fields.text(value, spot)
    if not text.strip():
        raise FieldError("is empty", 'such as key = "npm-{hash:package-lock.json}"')
    if len(text) > MAX_TEXT:
        raise FieldError(f"has {len(text)} characters, the limit is {MAX_TEXT}")
    try:
        list(key_parts(text))
    except KeyFaultError as fault:
        raise FieldError(fault.message, fault.hint or None, offset=fault.column) from fault
    return text


def _path(value: Any, spot: Spot) -> str:
    path = fields.text(value, spot)
    hint = "paths are relative to the workspace, or to the home folder: ~/.m2/repository"
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not path.isprintable():
        raise FieldError("has a character that cannot be printed", hint)
    if path.startswith("/"):
        raise FieldError(f"must be relative, not {fields.printed_value(path)}", hint)
    if ".." in parts:
        raise FieldError(f"leaves its folder: {fields.printed_value(path)}", hint)
    if parts[:1] != ["~"] and path.startswith("~"):
        raise FieldError(f"is somebody else's home folder: {fields.printed_value(path)}", hint)
    if parts in ([], ["~"]):
        whole = "the home folder" if parts else "the workspace"
        raise FieldError(f"is {whole} as a whole", "name the folders in it")
    return "/".join(parts)


def _paths(value: Any, spot: Spot) -> tuple[str, ...]:
    found = fields.list_of(_path)(value, spot)
    if not found:
        raise FieldError("is empty, so that nothing would be kept")
    return found


def _cache(value: Any, spot: Spot) -> Cache:
    if not isinstance(value, dict):
        raise FieldError(f"must be a table, not {fields.type_name(value)}", f"such as {_EXAMPLE}")
    values = fields.read_table(value, spot, _CACHE)
    missing = [key for key in ("key", "paths") if key not in value]
    for key in missing:
        spot.fault(f"{spot.name} needs {key}", f"such as {_CACHE[key].example}")
    if missing or not {"key", "paths"} <= values.keys():
        raise FieldError
    return Cache(**values)


def _caches(value: Any, spot: Spot) -> tuple[Cache, ...]:
    found = fields.list_of(_cache)(value, spot)
    if len(found) > MAX_CACHES:
        raise FieldError(f"has {len(found)} entries, the limit is {MAX_CACHES}")
    seen: dict[str, str] = {}
    for at, cache in enumerate(found):
        for index, path in enumerate(cache.paths):
            here = spot.at(at).at("paths").at(index)
            if (other := next(_overlaps(path, seen), None)) is not None:
                fault = f"{here.name} {path!r} is within {other!r}, which is cached as well"
                here.fault(fault if other != path else f"{here.name} names {path!r} again")
            seen[path] = path
    return found


def _overlaps(path: str, seen: dict[str, str]) -> Iterator[str]:
    """Yield those of ``seen`` that hold ``path``, or that it holds."""
    for other in seen:
        if f"{path}/".startswith(f"{other}/") or f"{other}/".startswith(f"{path}/"):
            yield other


def check_caches(job: Job, spot: Spot) -> None:
    """Report a key that asks for a parameter which the job does not have."""
    if job.on or job.matrix is not None:
        return  # it may be of what a trigger brings, or of a cell
    for at, cache in enumerate(job.spec.caches):
        for where, text in (("key", cache.key), *(("restore", it) for it in cache.restore)):
            for part in key_parts(text):
                if part.kind == "param" and part.value not in job.params:
                    here = spot.at("caches").at(at).at(where)
                    known = ", ".join(job.params) or "there are none"
                    hint = nearest(part.value, job.params) or f"parameters: {known}"
                    here.fault(
                        f"{here.name} asks for {{{part.value}}}, which is no parameter", hint
                    )


_CACHE = {
    "key": Field("key", _key, 'key = "npm-{hash:package-lock.json}"'),
    "paths": Field("paths", _paths, 'paths = ["~/.m2/repository", "node_modules"]'),
    "restore": Field("restore", fields.list_of(_key), 'restore = ["npm-"]'),
    "shared": Field("shared", fields.boolean, "shared = true"),
    "save": Field("save", fields.one_of(SAVES), 'save = "always"'),
}

#: What a header says by these keys.
CACHES = {"caches": Field("caches", _caches, f"caches = [ {_EXAMPLE} ]")}
