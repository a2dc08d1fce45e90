"""A build's container, and the services beside it: what a header asks for."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Pull = Literal["missing", "always", "never"]
Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Dockerfile(msgspec.Struct, frozen=True, omit_defaults=True):
    """An image that is made of the workspace; paths are relative to it.

    ``file`` is empty for the ``Dockerfile`` of the folder ``context``. ``target`` is a stage of it.
    """

    context: str = "."
    file: str = ""
    target: str = ""
    args: dict[str, str] = {}


class Image(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a script runs in: an image of a registry, or one that is made of a ``Dockerfile``.

    ``auth`` is the secret with the registry's user and password. With ``entrypoint`` the script is
    started by what the image is started by. ``mounts`` are folders of the machine,
    ``/srv/data:/data:ro``; like ``privileged`` and ``capabilities`` they need leave in the settings.
    """

    name: str = ""
    build: Dockerfile | None = None
    pull: Pull = "missing"
    auth: str = ""
    entrypoint: bool = False
    mounts: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()
    shm_bytes: Bytes = 0
    capabilities: tuple[str, ...] = ()
    privileged: bool = False


class Service(msgspec.Struct, frozen=True, omit_defaults=True):
    """A container beside the build's, reached by the names it has.

    It is ready when ``health`` passes, a command of its own or the image's; else when a port that the
    image names answers, or ``port``; else when it runs.
    """

    name: str
    image: str
    env: dict[str, str] = {}
    command: tuple[str, ...] = ()
    health: str = ""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    ready_timeout_s: float = 60.0
    aliases: tuple[str, ...] = ()
    pull: Pull = "missing"
    auth: str = ""
    tmpfs: tuple[str, ...] = ()
    memory_bytes: Bytes = 0
