"""The daemon: start it, stop it, look at it."""

from __future__ import annotations

import os
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from rota.cli.commands.connected import at_this_agent, connected
from rota.cli.render import Look, ago, clean, facts, size
from rota.cli.screen import Screen
from rota.client.connection import is_there
from rota.client.place import Place
from rota.errors import InputError, UnavailableError

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
    if args.invite:
        raise InputError("--invite needs --daemon", hint="or, once it runs: rota token create")
    from rota.bootstrap.options import AgentOptions
    from rota.bootstrap.run import run_agent
    from rota.cli.commands.daemon import data_folder, join_token

    return run_agent(
        AgentOptions(
            data=data_folder(args),
            name=args.name,
            listen=args.listen,
            labels=args.labels or "",
            slots=args.slots,
            join=join_token(args),
            ephemeral=args.ephemeral,
            bus=args.bus,
            log_level=args.log_level,
            log_format=args.log_format,
            from_clone=Path(args.from_clone).absolute() if args.from_clone else None,
            ready_fd=args.ready_fd,
        )
    )


def reload(args: Namespace, screen: Screen) -> int:
    """Let the agent read its file anew; say what is other than before."""
    answer = at_this_agent(args).call("reload", log_level=args.log_level or "")
    if args.json:
        screen.json(answer)
        return 0
    found = answer.json()
    said = f"changed: {', '.join(found['changed'])}" if found["changed"] else "nothing changed"
    screen.line(f"{found['agent']} is as {clean(found['path'])} says; {said}")
    for text in found["waits"]:
        screen.note(f"not yet: {clean(text)}")
    for name in found["overruled"]:
        screen.note(f"{clean(name)} in the file holds for nothing: the command line gives it too")
    if args.log_level:
        screen.line(f"logs from {found['log_level']} on, until it is started or reloads again")
    return 0


def stop(args: Namespace, screen: Screen) -> int:
    """Stop the agent; return when it is gone."""
    client = at_this_agent(args)
    pid = _listener(client.place) if client.place.is_local else 0
    answer = client.call("stop")
    stopping = answer.json()
    if not _is_gone(client.place, pid):
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
    answer = at_this_agent(args).call("status")
    if args.json:
        screen.json(answer)
    elif screen.out.is_room:
        found = connected(args).call("agents").json()
        screen.lines(room_lines(answer.json(), found, screen.at(answer)))
    else:
        screen.lines(status_lines(answer.json(), screen.at(answer)))
    return 0


def room_lines(state: dict[str, Any], agents: list[dict[str, Any]], look: Look) -> list[str]:
    """Return how the cluster is, in a few lines: what is wrong first, then what it does."""
    busy, slots = (sum(one[key] for one in agents) for key in ("running", "slots"))
    away = [f"{one['name']} is {one['state']}" for one in agents if one["state"] != "up"]
    rests = [f"{one['name']} drains" for one in agents if one["draining"] or one["leaving"]]
    rows = [
        *(("trouble", text) for text in state.get("trouble") or ()),
        (
            "builds",
            f"{busy} running of {slots} slots, {state['queued']} queued, {state['held']} held",
        ),
        ("agents", ", ".join([f"{len(agents) - len(away)} up", *away, *rests])),
        ("leader", _leader(state, look)),
        ("quorum", _quorum(state, look)),
        ("rota", f"{state['version']}, {state['jobs']} jobs, {state['url']}"),
    ]
    return facts([(name, clean(text)) for name, text in rows], look)


def _certificate(state: dict[str, Any]) -> list[tuple[str, str]]:
    until = state.get("certificate_until")
    return [("certificate", f"until {clean(until)}, and renewed before")] if until else []


def status_lines(state: dict[str, Any], look: Look) -> list[str]:
    """Return how an agent and its cluster are, as a paragraph of facts."""
    slots = f"{state['running']} running of {state['slots']} slots"
    if state["draining"]:
        slots += ", takes no more"
    return facts(
        [
            (
                "agent",
                f"{clean(state['agent'])}, rota {clean(state['version'])}, pid {state['pid']}",
            ),
            ("up", ago(look, state["started_at"])),
            ("leader", _leader(state, look)),
            ("cluster", _members(state)),
            ("quorum", _quorum(state, look)),
            ("url", clean(state["url"])),
            ("peer", clean(state["peer"])),
            ("data", f"{clean(state['data'])}, {size(state['free_bytes'])} free"),
            ("engine", clean(state["engine"])),
            ("builds", f"{slots}, {state['queued']} queued, {state['held']} held"),
            ("jobs", str(state["jobs"])),
            ("labels", clean(labels_text(state["labels"]))),
            ("durability", clean(state["durability"])),
            *_certificate(state),
            *(("trouble", clean(text)) for text in state.get("trouble") or ()),
        ],
        look,
    )


def _leader(state: dict[str, Any], look: Look) -> str:
    """Return who leads, since when and why."""
    name = state["leader"]
    is_itself = name == state["agent"] and not look.is_room
    lead = "itself" if is_itself else clean(name or "none")
    since = ago(look, state["leader_since"])
    why = clean(state["leader_why"])
    return ", ".join(part for part in (lead, since, why) if part)


def _members(state: dict[str, Any]) -> str:
    members, voters = state["members"], state["voters"]
    agents = "1 agent" if members == 1 else f"{members} agents"
    voting = f", voters: {clean(', '.join(voters))}" if voters else ""
    return f"{agents}{voting}, level {state.get('level', 1)}"


def _quorum(state: dict[str, Any], look: Look) -> str:
    """Return whether anything can be decided now, and how much may fail."""
    tolerates = state["tolerates"]
    if state["stale_since"] or tolerates == -1:
        since = ago(look, state["stale_since"])
        gone = f"none since {since}" if since else "none"
        return f"{gone}: builds that run go on, nothing can be written"
    if tolerates is None:
        return "the engine is run by others"
    failures = {0: "no failure is", 1: "1 failure is"}.get(tolerates, f"{tolerates} failures are")
    return f"yes; {failures} tolerated now"


def labels_text(labels: dict[str, str]) -> str:
    """Return labels as they are written: ``docker, arch=arm64``."""
    return ", ".join(f"{name}={value}" if value else name for name, value in labels.items())


def _is_gone(place: Place, pid: int) -> bool:
    """Whether the agent is gone, at most :data:`STOP_S` from now."""
    began = time.monotonic()
    while time.monotonic() - began < STOP_S:
        if not (_runs(pid) if pid else is_there(place)):
            return True
        time.sleep(0.02)
    return False


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

    from rota.client.connection import connect_unix, unreachable

    try:
        with connect_unix(place.path) as sock:
            raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError as error:
        raise unreachable(place, error) from error
    pid: int = struct.unpack("3i", raw)[0]
    return pid if pid != os.getpid() else 0
