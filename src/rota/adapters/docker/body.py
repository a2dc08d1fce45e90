"""What the engine is told of a container: pure, so that a test can read it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from rota.adapters.docker.home import Home
from rota.adapters.docker.interpreter import is_ours, wanted_programs
from rota.adapters.docker.shell import Shell
from rota.core.resources import Resources
from rota.ports.executor import Container, Mount, Task

_ADDED = ("PWD", "OLDPWD", "SHLVL")  # by sh; of Task.env they have sh's values
#: Rights over devices, raw packets, the audit log and files' rights: no build needs them by default.
DROPPED = ("AUDIT_WRITE", "MKNOD", "NET_RAW", "SETFCAP", "SETPCAP")
_NETWORKS = {"bridge", "host", "none"}


def container_body(task: Task, container: Container, shell: Shell) -> dict[str, Any]:
    """Return the body of the request that creates the container of ``task``."""
    home = Home(task.home)
    interpreter, program = wanted_programs(task)
    added = " ".join(name for name in _ADDED if name not in task.env)
    words = (str(home.run), str(task.cwd), str(home.output.absolute()), interpreter, program, added)
    return {
        "Image": container.image,
        "Entrypoint": [*shell.words, shell.supervisor],
        "Cmd": [*words, *container.entrypoint, *task.argv],
        "Env": [f"{name}={value}" for name, value in task.env.items()],
        "User": container.user,
        "WorkingDir": "/",
        "Labels": dict(container.labels),
        # The engine asks with it when it stops; the script is asked otherwise, and this sh hears nothing.
        "StopSignal": "SIGKILL",
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            **host_config(container.network, container.resources),
            "LogConfig": {"Type": "none"},
            "Mounts": [mount_body(mount) for mount in _mounts(task, container, shell)],
            "Tmpfs": dict.fromkeys(container.tmpfs, ""),
            "CapDrop": [] if container.privileged else list(DROPPED),
            "CapAdd": list(container.capabilities),
            "SecurityOpt": security(no_new_privs=container.no_new_privs),
            "Privileged": container.privileged,
            **({"ShmSize": container.shm_bytes} if container.shm_bytes else {}),
        },
        **networking(container.network, container.aliases),
    }


def host_config(network: str, resources: Resources) -> dict[str, Any]:
    """Return what a container may use: its network and its limits; swap counts as memory."""
    limits: dict[str, Any] = {}
    if resources.cpus:
        limits["NanoCpus"] = round(resources.cpus * 1e9)
    if resources.memory_bytes:
        limits["Memory"] = limits["MemorySwap"] = resources.memory_bytes
    if resources.pids:
        # the supervisor is one of them, and a person means the script's
        limits["PidsLimit"] = resources.pids + 1
    return {"NetworkMode": network, **limits}


def networking(network: str, aliases: Iterable[str]) -> dict[str, Any]:
    """Return by which names a container is found on a network of its own."""
    if network in _NETWORKS:
        return {}
    return {"NetworkingConfig": {"EndpointsConfig": {network: {"Aliases": list(aliases)}}}}


def security(*, no_new_privs: bool) -> list[str]:
    """Return the security options; SELinux would keep a container from what is mounted."""
    options = ["no-new-privileges"] if no_new_privs else []
    if Path("/sys/fs/selinux/enforce").exists():
        options.append("label=disable")
    return options


def mount_body(mount: Mount) -> dict[str, Any]:
    """Return a mount as the engine has it."""
    return {
        "Type": "bind",
        "Source": str(mount.source),
        "Target": mount.target,
        "ReadOnly": not mount.writable,
    }


def environment_of(words: Iterable[str]) -> Mapping[str, str]:
    """Return an image's variables."""
    return dict(word.partition("=")[::2] for word in words)


def _mounts(task: Task, container: Container, shell: Shell) -> list[Mount]:
    """Return what the container sees of the machine; everything at its own path.

    Not the attempt's folder itself: its root could put links in the place of what the agent reads or
    writes there.
    """
    home = Home(task.home)
    folders = topmost([task.cwd, *existing(home.run, *home.folders)])
    mounts = [_shown(folder) for folder in (*folders, *existing(home.output.absolute()))]
    mounts += [_seen(folder) for folder in existing(home.own)]
    script = Path(task.argv[0])
    if is_ours(script) and script.is_file() and not _is_below(script, folders):
        mounts.append(_seen(script))
    mounts.append(_seen(shell.folder))
    taken = {mount.target for mount in mounts}
    own = [_at_home(mount, task.env) for mount in (*task.mounts, *container.mounts)]
    return mounts + [mount for mount in own if mount.target not in taken]


def _shown(path: Path) -> Mount:
    return Mount(source=path, target=str(path))


def _seen(path: Path) -> Mount:
    return Mount(source=path, target=str(path), writable=False)


def _at_home(mount: Mount, env: Mapping[str, str]) -> Mount:
    if not mount.target.startswith("~/"):
        return mount
    return replace(mount, target=f"{env.get('HOME', '/root')}/{mount.target[2:]}")


def existing(*paths: Path) -> list[Path]:
    """Return those of ``paths`` that there are."""
    return [path for path in paths if path.exists()]


def topmost(paths: Iterable[Path]) -> list[Path]:
    """Return those of ``paths`` that are below none of the others."""
    found: list[Path] = []
    for path in sorted(
        {path.absolute() for path in paths}, key=lambda path: (len(path.parts), path)
    ):
        if not _is_below(path, found):
            found.append(path)
    return found


def _is_below(path: Path, folders: Iterable[Path]) -> bool:
    return any(os.path.commonpath([path, folder]) == str(folder) for folder in folders)
