"""The part of a header that says in what a script runs, and what runs beside it: image, services."""

from __future__ import annotations

import re
from typing import Any

from msgspec.structs import replace

from rota.core import fields
from rota.core.container import Dockerfile, Image, Service
from rota.core.environment import variable, variable_fault
from rota.core.fields import Field, FieldError, Spot, printed_value
from rota.core.header_resources import MIN_MEMORY
from rota.core.job import Job
from rota.core.labels import parse_labels, print_labels
from rota.core.problem import nearest

#: What an agent carries whose container engine answers.
LABEL = "containers"
MAX_SERVICES = 20
PULLS = ("missing", "always", "never")
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d{1,5})?|\[[0-9a-fA-F:]+\](?::\d{1,5})?)"
_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?"
    r"(?:@sha256:[0-9a-f]{64})?"
)
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_CAPABILITY = re.compile(r"[A-Z][A-Z_]{1,40}")
_PLACED = re.compile(r"\{([^{}]*)\}")
_PLACE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


def reference(value: Any, spot: Spot) -> str:
    """Read the name of an image as registries have it; ``{…}`` in it stands for a parameter."""
    name = fields.text(value, spot)
    plain = _PLACED.sub(lambda found: "x" if _PLACE.fullmatch(found[1]) else "", name)
    if _REFERENCE.fullmatch(plain) and len(name) <= 500:
        return name
    hint = "such as debian:12 or registry.example/team/build:1.4"
    if name != name.lower() and _REFERENCE.fullmatch(plain.lower()):
        hint = f"names of images have no capital letters: {name.lower()}"
    raise FieldError(f"is no name of an image: {printed_value(name)}", hint)


def _below(value: Any, spot: Spot) -> str:
    path = fields.text(value, spot)
    if path.startswith("/") or ".." in path.split("/") or not path.strip():
        hint = "paths are relative to the workspace, such as docker/ci"
        raise FieldError(f"must be a path in the workspace, not {printed_value(path)}", hint)
    return path


def _secret(value: Any, spot: Spot) -> str:
    name = fields.text(value, spot)
    if not _SECRET.fullmatch(name):
        raise FieldError(f"is no name of a secret: {printed_value(name)}")
    return name


def absolute(value: Any, spot: Spot) -> str:
    """Read the path of a folder from the root on."""
    path = fields.text(value, spot)
    if not path.startswith("/") or ".." in path.split("/"):
        raise FieldError(f"must be absolute, not {printed_value(path)}", "such as /scratch")
    return path


def _mount(value: Any, spot: Spot) -> str:
    parts = fields.text(value, spot).split(":")
    if not 1 <= len(parts) <= 3 or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
        hint = "a folder of the agent, and where it is seen: /srv/data:/data:ro"
        raise FieldError(f"is no mount: {printed_value(value)}", hint)
    for part in parts[:2]:
        absolute(part, spot)
    return ":".join(parts)


def capability(value: Any, spot: Spot) -> str:
    """Read the name of a capability, with or without CAP_ before it."""
    name = fields.text(value, spot).upper().removeprefix("CAP_")
    if not _CAPABILITY.fullmatch(name):
        raise FieldError(f"is no capability: {printed_value(value)}", "such as SYS_PTRACE")
    return name


def _dockerfile(value: Any, spot: Spot) -> Dockerfile:
    if isinstance(value, str):
        return Dockerfile(context=_below(value, spot))
    return fields.table(_DOCKERFILE, Dockerfile)(value, spot)


def _image(value: Any, spot: Spot) -> Image:
    """Read what a script runs in: a table, or the name of an image that is short for one."""
    if isinstance(value, str):
        return Image(name=reference(value, spot))
    if not isinstance(value, dict):
        raise FieldError(f"must be a string or a table, not {fields.type_name(value)}")
    values = fields.read_table(value, spot, _IMAGE)
    short = {key: values.pop(key) for key in ("file", "target", "args") if key in values}
    if not value.keys() & {"name", "build"}:
        raise FieldError("needs name or build", 'such as name = "debian:12", or build = "."')
    if {"name", "build"} <= value.keys():
        spot.at("build").key_fault("image has both name and build", "keep one of them")
    if short and "build" not in value:
        key = "dockerfile" if "dockerfile" in value else next(iter(short))
        spot.at(key).key_fault(f"image.{key} says nothing without build", 'add build = "."')
    if "build" in values:
        values["build"] = replace(values["build"], **short)
    return Image(**values)


def _service(value: Any, spot: Spot) -> Service:
    name = str(spot.path[-1])
    if isinstance(value, str):
        return Service(name=name, image=reference(value, spot))
    if not isinstance(value, dict):
        raise FieldError(f"must be a string or a table, not {fields.type_name(value)}")
    values = fields.read_table(value, spot, _SERVICE)
    if "image" not in value:
        raise FieldError("needs image", 'such as image = "postgres:16"')
    return Service(**{"image": "", **values}, name=name)


def _services(value: Any, spot: Spot) -> tuple[Service, ...]:
    found = fields.table_of(_name_fault, _service)(value, spot)
    if len(found) > MAX_SERVICES:
        raise FieldError(f"are {len(found)}, the limit is {MAX_SERVICES}")
    taken: dict[str, str] = {}
    for service in found.values():
        for name in (service.name, *service.aliases):
            if taken.setdefault(name, service.name) != service.name:
                spot.at(service.name).fault(
                    f"services {taken[name]} and {service.name} both have the name {name!r}"
                )
    return tuple(found.values())


def _name_fault(name: str) -> str | None:
    if _NAME.fullmatch(name):
        return None
    return "is no name of a host: small letters, digits and -, the first and last no sign"


def _alias(value: Any, spot: Spot) -> str:
    name = fields.text(value, spot)
    fault = _name_fault(name)
    if fault is not None:
        raise FieldError(fault)
    return name


def _command(value: Any, spot: Spot) -> tuple[str, ...]:
    if isinstance(value, str):
        return ("/bin/sh", "-c", fields.text(value, spot))
    return fields.list_of(fields.text)(value, spot)


def check_container(job: Job, spot: Spot) -> Job:
    """Report what does not fit together; return the job as one that asks for an agent with an engine."""
    spec = job.spec
    if spec.services and spec.container is None:
        spot.at("services").key_fault(
            "services are reached from a container alone", 'add image = "…", or start them yourself'
        )
    if spec.services and spec.network in ("none", "host"):
        spot.at("network").fault(
            f'network = "{spec.network}" keeps the script from its services', "leave it out"
        )
    if spec.container is None:
        return job
    if job.matrix is None:
        for name in _PLACED.findall(spec.container.name):
            if name not in job.params:
                known = ", ".join(job.params) or "there are none"
                hint = nearest(name, job.params) or f"parameters: {known}"
                spot.at("image").fault(f"image names {name!r}, which is no parameter", hint)
    return replace(job, spec=replace(spec, labels=with_engine(spec.labels)))


def with_engine(labels: str) -> str:
    """Return a label expression that asks for an engine as well."""
    wanted = f"({labels}) && {LABEL}" if labels else LABEL
    if "{" in wanted:
        return wanted  # of a matrix: it is read once the cells are known
    expr, faults = parse_labels(wanted)
    return labels if faults else print_labels(expr)


_MEMORY = fields.size(MIN_MEMORY, 1 << 60)
_PULL = Field("pull", fields.one_of(PULLS), 'pull = "always"')
_AUTH = Field("auth", _secret, 'auth = "REGISTRY_LOGIN"')
_TMPFS = Field("tmpfs", fields.list_of(absolute), 'tmpfs = ["/scratch"]')

_DOCKERFILE = {
    "context": Field("context", _below, 'context = "."'),
    "dockerfile": Field("file", _below, 'dockerfile = "ci/Dockerfile"'),
    "target": Field("target", fields.text, 'target = "test"'),
    "args": Field("args", fields.table_of(variable_fault, variable), 'args = { JAVA = "21" }'),
}

_IMAGE = {
    "name": Field("name", reference, 'name = "debian:12"'),
    "build": Field("build", _dockerfile, 'build = "."'),
    "dockerfile": _DOCKERFILE["dockerfile"],
    "target": _DOCKERFILE["target"],
    "args": _DOCKERFILE["args"],
    "pull": _PULL,
    "auth": _AUTH,
    "entrypoint": Field("entrypoint", fields.boolean, "entrypoint = true"),
    "mounts": Field("mounts", fields.list_of(_mount), 'mounts = ["/srv/data:/data:ro"]'),
    "tmpfs": _TMPFS,
    "shm": Field("shm_bytes", _MEMORY, 'shm = "256M"'),
    "capabilities": Field(
        "capabilities", fields.list_of(capability), 'capabilities = ["SYS_PTRACE"]'
    ),
    "privileged": Field("privileged", fields.boolean, "privileged = true"),
}

_SERVICE = {
    "image": Field("image", reference, 'image = "postgres:16"'),
    "env": Field("env", fields.table_of(variable_fault, variable), 'env = { A = "1" }'),
    "command": Field("command", _command, 'command = ["redis-server", "--save", ""]'),
    "health": Field("health", fields.text, 'health = "pg_isready"'),
    "port": Field("port", fields.integer(1, 65535), "port = 5432"),
    "ready_timeout": Field("ready_timeout_s", fields.duration(0.1, 3600), 'ready_timeout = "60s"'),
    "aliases": Field("aliases", fields.list_of(_alias), 'aliases = ["database"]'),
    "pull": _PULL,
    "auth": _AUTH,
    "tmpfs": _TMPFS,
    "memory": Field("memory_bytes", _MEMORY, 'memory = "512M"'),
}

CONTAINER = {
    "image": Field("container", _image, 'image = "debian:12"'),
    "services": Field("services", _services, 'services = { db = "postgres:16" }'),
}
