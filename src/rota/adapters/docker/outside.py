"""Where an agent's folders are for the engine, if the agent runs in a container itself.

The engine mounts what is on its own machine. An agent in a container has folders that are mounted
from there under other names; what is mounted nowhere the engine cannot see.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from rota.errors import ExecutionError, NotFoundError

#: Docker and Podman mount /etc/hostname from a folder of the container's, which is called after it.
_OWN = re.compile(r"/(?:overlay-)?containers/([0-9a-f]{64})/\S*")
_MOUNTINFO = Path("/proc/self/mountinfo")

Ask = Callable[[str, str], Awaitable[Any]]


class Outside:
    """Translates this agent's paths into the engine's.

    Args:
        ask: Asks the engine: method and path.
        mountinfo: What is mounted here.
    """

    def __init__(self, ask: Ask, mountinfo: Path = _MOUNTINFO) -> None:
        self._ask, self._mountinfo = ask, mountinfo
        self._mounts: dict[Path, str] | None = None
        self._is_inside = True

    async def body(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return what is asked of the engine for a new container, its mounts as the engine sees them.

        Raises:
            ExecutionError: the engine cannot see one of them.
        """
        host = body.get("HostConfig") or {}
        mounts = host.get("Mounts")
        if not mounts or not await self._known():
            return body
        seen = [
            {**mount, "Source": self._place(mount["Source"])}
            if mount.get("Type") == "bind"
            else mount
            for mount in mounts
        ]
        return {**body, "HostConfig": {**host, "Mounts": seen}}

    async def _known(self) -> bool:
        """Find out what of this container is mounted from where; say whether it is one at all."""
        if self._mounts is None and self._is_inside:
            own = own_container(self._mountinfo)
            self._is_inside = own is not None
            if own is not None:
                try:
                    told = await self._ask("GET", f"containers/{own}/json")
                    self._mounts = {
                        Path(it["Destination"]): it["Source"] for it in told.get("Mounts", ())
                    }
                except NotFoundError:
                    # It runs us not: it is in this container, or both are in another one.
                    self._is_inside = False
        return self._is_inside

    def _place(self, source: str) -> str:
        path = Path(source)
        for folder in (path, *path.parents):
            known = (self._mounts or {}).get(folder)
            if known is not None:
                return str(Path(known) / path.relative_to(folder))
        raise ExecutionError(
            f"this agent runs in a container, and the container engine does not see its {source}",
            hint="mount the agent's data folder from outside, such as -v rota:/var/lib/rota",
        )


def own_container(mountinfo: Path = _MOUNTINFO) -> str | None:
    """Return the id of the container that this process runs in; ``None`` if it is in none."""
    try:
        text = mountinfo.read_text()
    except OSError:
        return None
    for line in text.splitlines():
        fields = line.split(" ")
        found = _OWN.search(fields[3]) if len(fields) > 4 else None
        if found is not None and fields[4] in ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf"):
            return found[1]
    return None
