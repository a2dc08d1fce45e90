"""Services beside a build: started on a network of their own, and waited for until they are ready."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from rota.adapters.docker.body import DROPPED, host_config, networking, security
from rota.adapters.docker.engine import Engine
from rota.adapters.docker.images import Images
from rota.adapters.docker.multiplexed import lines_of
from rota.adapters.docker.shell import Shell
from rota.core.container import Service
from rota.core.resources import Resources
from rota.errors import ConflictError, ExecutionError, NotFoundError
from rota.ports.containers import Login, Prepared, Say

SERVICE_LABEL = "rota.service"
#: Of what a service printed before it failed.
TAIL = 30
_LOOK_S = (0.05, 0.1, 0.2, 0.3, 0.5)
#: One look at a service's health takes no longer; else it is not healthy.
HEALTH_S = 10.0
#: Waits in the container until a port is listened on; /proc/net/tcp has ports in capital hexadecimal.
_LISTENS = """
for rota_file in /proc/net/tcp /proc/net/tcp6; do
  [ -r "$rota_file" ] || continue
  while read -r rota_at rota_local rota_remote rota_state rota_rest; do
    [ "$rota_state" = 0A ] || continue
    for rota_port in "$@"; do
      [ "${rota_local##*:}" != "$rota_port" ] || exit 0
    done
  done <"$rota_file"
done
exit 1
"""


class Services:
    """Starts services, and says how they fare."""

    def __init__(self, engine: Engine, images: Images) -> None:
        self._engine = engine
        self._images = images

    async def start(
        self,
        services: Sequence[Service],
        *,
        network: str,
        labels: Mapping[str, str],
        logins: Mapping[str, Login],
        shell: Shell,
        say: Say,
    ) -> None:
        """Start all at once, and return when the last one is ready.

        Raises:
            ExecutionError: one cannot be had or started, ends, or is not ready in time.
        """
        async with asyncio.TaskGroup() as group:
            for service in services:
                group.create_task(
                    self._serve(service, network, labels, logins.get(service.auth), shell, say),
                    name=f"service {service.name}",
                )

    async def _serve(
        self,
        service: Service,
        network: str,
        labels: Mapping[str, str],
        login: Login | None,
        shell: Shell,
        say: Say,
    ) -> None:
        loop = asyncio.get_running_loop()
        image = await self._images.named(service.image, service.pull, login, say)
        begun = loop.time()
        body = _body(service, image, network, labels, shell)
        identity = await self._engine.create(body)
        try:
            await self._engine.ask("POST", f"containers/{identity}/start")
        except (ExecutionError, NotFoundError, ConflictError) as error:
            raise ExecutionError(
                f"the service {service.name} cannot be started: {error.message}"
            ) from error
        check = await self._check(service, identity, shell)
        await self._until_ready(service, identity, check, say)
        say(f"service {service.name}: {service.image}, ready after {loop.time() - begun:.1f} s")

    async def _check(self, service: Service, identity: str, shell: Shell) -> list[str]:
        """Return the command that says whether a service is ready; empty if it is as it runs."""
        if service.health:
            return ["/bin/sh", "-c", service.health]
        seen = await self._engine.ask("GET", f"containers/{identity}/json")
        image = (await self._engine.ask("GET", f"images/{seen['Image']}/json")).get("Config") or {}
        test = list((image.get("Healthcheck") or {}).get("Test") or ())
        if test[:1] == ["CMD"]:
            return test[1:]
        if test[:1] == ["CMD-SHELL"]:
            return ["/bin/sh", "-c", *test[1:]]
        ports = [service.port] if service.port else _ports(image.get("ExposedPorts") or ())
        if not ports:
            return []
        return [*shell.words, "-c", _LISTENS, "sh", *(f"{port:04X}" for port in ports)]

    async def _until_ready(
        self, service: Service, identity: str, check: list[str], say: Say
    ) -> None:
        tries = 0
        try:
            async with asyncio.timeout(service.ready_timeout_s):
                while True:
                    await self._fail_if_ended(service, identity, say)
                    if not check or await self._passes(identity, check):
                        return
                    await asyncio.sleep(_LOOK_S[min(tries, len(_LOOK_S) - 1)])
                    tries += 1
        except TimeoutError as error:
            await self._show(service.name, identity, say)
            what = "its health" if service.health else "it"
            raise ExecutionError(
                f"the service {service.name} was not ready within {service.ready_timeout_s:g} s: "
                f"{what} did not answer well",
                hint="see what it printed in the log, or give it more: ready_timeout",
            ) from error

    async def _fail_if_ended(self, service: Service, identity: str, say: Say) -> None:
        state = (await self._engine.ask("GET", f"containers/{identity}/json"))["State"]
        if not state.get("Running"):
            await self._show(service.name, identity, say)
            raise ExecutionError(f"the service {service.name} {_end(state)} before it was ready")

    async def _passes(self, identity: str, check: list[str]) -> bool:
        # Attached, since the end of it is waited for: of one that is detached Podman tells none.
        body = {"Cmd": check, "AttachStdout": True, "AttachStderr": True}
        try:
            made = await self._engine.ask("POST", f"containers/{identity}/exec", body=body)
            async with asyncio.timeout(HEALTH_S):
                await self._engine.read(
                    "POST", f"exec/{made['Id']}/start", body={"Detach": False, "Tty": False}
                )
            seen = await self._engine.ask("GET", f"exec/{made['Id']}/json")
            return bool(seen.get("ExitCode") == 0)
        except (ConflictError, NotFoundError, ExecutionError, TimeoutError):
            return False  # it ended meanwhile, which the next look finds, or has no such program

    async def _show(self, name: str, identity: str, say: Say) -> None:
        """Say the last lines of a service."""
        params = {"stdout": "1", "stderr": "1", "tail": str(TAIL)}
        data = await self._engine.read("GET", f"containers/{identity}/logs", params=params)
        say(f"the service {name} printed last:")
        for line in lines_of(data):
            say(f"  {name} | {line}")

    async def ended(self, containers: Sequence[Mapping[str, Any]], say: Say) -> list[str]:
        """Return which services ended by themselves, in words; say their last lines."""
        said = []
        for container in containers:
            name = container["Labels"].get(SERVICE_LABEL, "")
            if name and container.get("State") not in ("running", "created"):
                await self._show(name, str(container["Id"]), say)
                seen = await self._engine.ask("GET", f"containers/{container['Id']}/json")
                said.append(f"the service {name} {_end(seen['State'])} while the build ran")
        return said


def _end(state: Mapping[str, Any]) -> str:
    if state.get("OOMKilled"):
        return "was killed for want of memory"
    return f"ended with exit code {state.get('ExitCode')}"


def _ports(exposed: Any) -> list[int]:
    """Return the TCP ports that an image names: ``{"5432/tcp": {}}``."""
    found = (str(port).partition("/") for port in exposed)
    return [int(number) for number, _, kind in found if number.isdecimal() and kind in ("", "tcp")]


def _body(
    service: Service,
    image: Prepared,
    network: str,
    labels: Mapping[str, str],
    shell: Shell,
) -> dict[str, Any]:
    limits = Resources(memory_bytes=service.memory_bytes)
    return {
        "Image": image.id,
        "Env": [f"{name}={value}" for name, value in service.env.items()],
        **({"Cmd": list(service.command)} if service.command else {}),
        "Hostname": service.name,
        "Labels": {**labels, SERVICE_LABEL: service.name},
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            **host_config(network, limits),
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
            "CapDrop": list(DROPPED),
            "SecurityOpt": security(no_new_privs=True),
            "Tmpfs": dict.fromkeys(service.tmpfs, ""),
            "Mounts": [
                {
                    "Type": "bind",
                    "Source": str(shell.folder),
                    "Target": str(shell.folder),
                    "ReadOnly": True,
                }
            ],
        },
        **networking(network, (service.name, *service.aliases)),
    }
