"""Starts the daemon in the background, and waits until it takes builds."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path

from rota.cli.screen import Screen
from rota.client.client import Client
from rota.client.place import default_data, folder_place
from rota.daemon.folder import DataFolder
from rota.errors import ConflictError, InputError, RotaError

READY = b"ready\n"
READY_S = 60.0
#: Who joins gets the state and the store of the cluster first.
JOIN_READY_S = 120.0
#: How much of the log is shown when the daemon did not come up.
LOG_LINES = 20


def start(args: Namespace, screen: Screen) -> int:
    """Start an agent that outlives this command; return when it takes builds."""
    data = data_folder(args)
    _refuse_second(data)
    DataFolder(data).make()
    path = data / "agent.log"
    token = join_token(args)
    command = agent_command(args, data)
    limit_s = READY_S
    if token is not None:
        # Not as an argument: those are for everybody on this machine to see.
        command += ["--join", "-"]
        limit_s = JOIN_READY_S
    before = path.stat().st_size if path.exists() else 0
    process, ready = _spawned(command, path, token or "")
    try:
        if not _is_ready(ready, process, limit_s):
            return _give_up(process, path, before, limit_s, screen)
    finally:
        os.close(ready)
    process.returncode = 0  # it is no child of ours to wait for: it goes on
    client = Client(folder_place(str(data), "--data"), moves=False)
    answer = client.call("status")
    invitation = client.call("invite").json()["token"] if args.invite else ""
    if args.json:
        screen.json(answer)
        return 0
    state = answer.json()
    screen.line(
        f"{state['agent']} is up: pid {state['pid']}, {state['url']}, data in {state['data']}"
    )
    if state["stale_since"]:
        screen.note(
            f"{state['agent']} waits for a quorum of the voters ({state['engine']}): it answers as of "
            "what it last knew; builds begin by themselves when enough of them are up"
        )
    if invitation:
        screen.line(f"others join with: rota join {invitation}")
    return 0


def data_folder(args: Namespace) -> Path:
    """Return the data folder that was given or is the default, absolute."""
    given = args.data_folder or os.environ.get("ROTA_DATA") or default_data(os.environ)
    try:
        return Path(given).expanduser().absolute()
    except RuntimeError as error:
        raise InputError(
            f"whose home is meant by {given} is not known: uid {os.geteuid()} has no entry, or no such user is there",
            hint="name it: rota agent --data /srv/rota, or ROTA_DATA=/srv/rota",
        ) from error


def agent_command(args: Namespace, data: Path) -> list[str]:
    """Return the command that runs the agent in the foreground with the same options."""
    command = [sys.executable, "-P", "-m", "rota", "agent", "--data", str(data)]
    if args.from_clone is not None:
        command += ["--from-clone", str(Path(args.from_clone).absolute())]
    for name in ("name", "listen", "labels", "slots", "bus", "log_level", "log_format"):
        value = getattr(args, name)
        if value is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    if args.ephemeral:
        command.append("--ephemeral")
    return command


def join_token(args: Namespace) -> str | None:
    """Return the join token that was given; ``-`` is standard input, a line of it.

    Raises:
        InputError: there is none on standard input; or a clone is to begin another cluster.
    """
    if args.join is None:
        if args.ephemeral:
            raise InputError(
                "--ephemeral needs --join",
                hint="an agent that comes and goes is one of a cluster of others",
            )
        return None
    if args.from_clone is not None:
        raise InputError(
            "--join and --from-clone do not go together",
            hint="who joins gets the store from the cluster; a clone begins another one",
        )
    token: str = sys.stdin.readline().strip() if args.join == "-" else args.join
    if not token:
        raise InputError("no join token", hint="make one on a member: rota token create")
    return token


def _spawned(command: list[str], log: Path, stdin: str) -> tuple[subprocess.Popen[bytes], int]:
    ready, write_end = os.pipe()
    try:
        with log.open("ab") as output, tempfile.TemporaryFile() as given:
            given.write(stdin.encode())
            given.seek(0)
            process = subprocess.Popen(
                [*command, "--ready-fd", str(write_end)],
                stdin=given,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
                pass_fds=(write_end,),
            )
    except BaseException:
        os.close(ready)
        raise
    finally:
        os.close(write_end)
    return process, ready


def _is_ready(ready: int, process: subprocess.Popen[bytes], limit_s: float) -> bool:
    """Whether the daemon said so before it closed the pipe, and was never silent for ``limit_s``."""
    deadline = time.monotonic() + limit_s
    said = b""
    while READY not in said:
        left = deadline - time.monotonic()
        if left <= 0 or process.poll() is not None:
            return False
        if select.select([ready], [], [], min(left, 0.5))[0]:
            piece = os.read(ready, 64)
            if not piece:
                return False
            said = (said + piece)[-64:]
            deadline = time.monotonic() + limit_s
    return True


def _give_up(
    process: subprocess.Popen[bytes], log: Path, before: int, limit_s: float, screen: Screen
) -> int:
    """End a daemon that did not come up, so that the next try finds the folder free; say why."""
    try:
        # Who closed the pipe is about to end by itself, and its own status says more.
        status = process.wait(1)
        how = f"ended with status {status}"
    except subprocess.TimeoutExpired:
        how = f"was not ready after {limit_s:.0f} s, and was ended"
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    screen.note(_end_of(log, before))
    screen.note(f"error: the agent {how}\n\nhint: the lines above are the end of {log}")
    return 1


def _end_of(path: Path, before: int) -> str:
    with path.open("rb") as file:
        file.seek(before)
        text = file.read().decode("utf-8", "replace")
    return "\n".join(text.splitlines()[-LOG_LINES:])


def _refuse_second(data: Path) -> None:
    try:
        place = folder_place(str(data), "--data")
        state = Client(place, moves=False).call("status", repeat=False).json()
    except RotaError:
        return
    raise ConflictError(
        f"{state['agent']} (pid {state['pid']}) runs already with {data}",
        hint="stop it: rota stop, or give another --data",
    )
