"""The daemon: start it, stop it, look at it."""

from __future__ import annotations

import os
import time
from argparse import Namespace
from typing import Any

from rota.cli.client import Client, RefusedError
from rota.cli.commands.connected import connected
from rota.cli.place import Place
from rota.cli.render import Cell, Look, ago, clean, facts, size, table
from rota.cli.screen import Screen
from rota.errors import UnavailableError

#: How long `rota stop` waits for the daemon and its engine to be gone.
STOP_S = 30.0


def agent(args: Namespace, screen: Screen) -> int:
    """Run an agent in the foreground, start one in the background, or install its unit."""
    if args.install is not None:
        from rota.cli.commands.systemd import install

        return install(args, screen)
    if args.daemon:
        from rota.cli.commands.daemon import start

        return start(args, screen)
    from rota.bootstrap import AgentOptions, run_agent
    from rota.cli.commands.daemon import data_folder

    return run_agent(
        AgentOptions(
            data=data_folder(args),
            name=args.name,
            listen=args.listen,
            labels=args.labels or "",
            slots=args.slots,
            join=args.join,
            bus=args.bus,
            ready_fd=args.ready_fd,
        )
    )


def stop(args: Namespace, screen: Screen) -> int:
    """Stop the agent; return when it is gone."""
    client = connected(args)
    pid = _listener(client.place) if client.place.is_local else 0
    answer = client.call("stop")
    stopping = answer.json()
    if not _is_gone(client, pid):
        raise UnavailableError(
            f"{stopping['agent']} still stops after {STOP_S:.0f} s",
            hint="see agent.log in its data folder",
        )
    if args.json:
        screen.json(answer)
        return 0
    left = stopping["running"]
    rest = f"; {left} builds go on, and are found again when it starts" if left else ""
    screen.line(f"{stopping['agent']} stopped{rest}")
    return 0


def status(args: Namespace, screen: Screen) -> int:
    """Print how the agent is."""
    answer = connected(args).call("status")
    if args.json:
        screen.json(answer)
    else:
        screen.lines(status_lines(answer.json(), screen.at(answer)))
    return 0


def agents(args: Namespace, screen: Screen) -> int:
    """List all agents."""
    answer = connected(args).call("agents")
    if args.json:
        screen.json(answer)
        return 0
    look = screen.at(answer)
    rows = [
        (
            Cell(one["name"], "bold"),
            Cell("up" if one["up"] else "down", "green" if one["up"] else "red"),
            Cell(f"{one['slots']} slots" if look.is_terminal else str(one["slots"])),
            Cell(labels_text(one["labels"])),
            Cell(one["url"], "dim"),
        )
        for one in answer.json()
    ]
    screen.lines(table(rows, look, shrink=(3, 4)))
    return 0


def status_lines(state: dict[str, Any], look: Look) -> list[str]:
    """Return how an agent is, as a paragraph of facts."""
    lead = "itself" if state["leader"] == state["agent"] else clean(state["leader"] or "none")
    since = ago(look, state.get("leader_since")) if state["leader"] else ""
    slots = f"{state['running']} running of {state['slots']} slots"
    return facts(
        [
            (
                "agent",
                f"{clean(state['agent'])}, rota {clean(state['version'])}, pid {state['pid']}",
            ),
            ("up", ago(look, state["started_at"])),
            ("leader", f"{lead}, {since}" if since else lead),
            ("url", clean(state["url"])),
            ("data", f"{clean(state['data'])}, {size(state['free_bytes'])} free"),
            ("engine", clean(state["engine"])),
            ("builds", f"{slots}, {state['queued']} queued, {state['held']} held"),
            ("jobs", str(state["jobs"])),
            ("labels", clean(labels_text(state["labels"]))),
            ("durability", clean(state["durability"])),
            *(("trouble", clean(text)) for text in state.get("trouble") or ()),
        ],
        look,
    )


def labels_text(labels: dict[str, str]) -> str:
    """Return labels as they are written: ``docker, arch=arm64``."""
    return ", ".join(f"{name}={value}" if value else name for name, value in labels.items())


def _is_gone(client: Client, pid: int) -> bool:
    """Whether the agent is gone, at most :data:`STOP_S` from now."""
    began = time.monotonic()
    while time.monotonic() - began < STOP_S:
        if not (_runs(pid) if pid else _answers(client)):
            return True
        time.sleep(0.02)
    return False


def _answers(client: Client) -> bool:
    try:
        client.call("status", repeat=False)
    except RefusedError:
        return False
    except UnavailableError:
        return True
    return True


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def _listener(place: Place) -> int:
    """Return the process that listens on a local socket, 0 if the kernel does not say."""
    import socket
    import struct

    from rota.cli.place import connect_unix, unreachable

    try:
        with connect_unix(place.path) as sock:
            raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError as error:
        raise unreachable(place, error) from error
    pid: int = struct.unpack("3i", raw)[0]
    return pid if pid != os.getpid() else 0
