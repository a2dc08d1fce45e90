"""Changes a job in an editor. What a person wrote is never lost."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.commands.jobs import print_committed, put
from rota.cli.given import read_given
from rota.cli.screen import Screen
from rota.client.client import Client
from rota.errors import ConflictError, InputError, RotaError

#: What an interpreter's scripts are called, so that editors colour them.
SUFFIXES = {
    "bash": ".sh",
    "sh": ".sh",
    "zsh": ".sh",
    "dash": ".sh",
    "python": ".py",
    "python3": ".py",
    "perl": ".pl",
    "ruby": ".rb",
    "node": ".js",
    "lua": ".lua",
    "php": ".php",
    "fish": ".fish",
}


def edit(args: Namespace, screen: Screen) -> int:
    """Let the editor change a job and store it; or replace its script by a file."""
    client = connected(args)
    now = client.call("job", job=args.job).json()
    if args.file:
        answer = put(client, args.job, read_given(args.file, screen), args.message, _if_match(now))
        print_committed(answer, args, screen, "changed")
        return 0
    handle, name = tempfile.mkstemp(prefix="rota-", suffix=suffix_of(args.job, now["script"]))
    draft = Path(name)
    with os.fdopen(handle, "wb") as file:
        file.write(now["script"].encode())
    return _edited(client, args, screen, draft, now)


def suffix_of(job: str, script: str) -> str:
    """Return the suffix for a job's temporary file: its name's own, or its interpreter's."""
    own = Path(job).suffix
    if own:
        return own
    first = script.partition("\n")[0]
    if not first.startswith("#!"):
        return ".sh"
    words = first[2:].split()
    program = next((word for word in reversed(words) if not word.startswith("-")), "")
    return SUFFIXES.get(Path(program).name.rstrip("0123456789."), ".txt") if words else ".sh"


def editor(env: dict[str, str]) -> list[str]:
    """Return the person's editor as a command."""
    return shlex.split(env.get("VISUAL") or env.get("EDITOR") or "vi")


def _edited(
    client: Client, args: Namespace, screen: Screen, draft: Path, now: dict[str, Any]
) -> int:
    """Edit ``draft`` until it is taken or given up; it is removed only where nothing is lost."""
    original = now["script"].encode()
    while True:
        try:
            _open_editor(draft)
        except InputError as error:
            raise _kept(error, draft, original) from error
        script = draft.read_bytes()
        if script == original:
            draft.unlink()
            screen.line(f"{args.job} is so already")
            return 0
        try:
            answer = put(client, args.job, script, args.message, _if_match(now))
        except (InputError, ConflictError) as error:
            if not _again(error, screen, draft):
                raise _kept(error, draft, original) from error
            if isinstance(error, ConflictError):
                now = _beside(client, args.job, draft, screen)
        except RotaError as error:
            raise _kept(error, draft, original) from error
        else:
            draft.unlink()
            print_committed(answer, args, screen, "changed")
            return 0


def _open_editor(draft: Path) -> None:
    command = editor(dict(os.environ))
    try:
        status = subprocess.run([*command, str(draft)], check=False).returncode
    except OSError as error:
        raise InputError(
            f"cannot start the editor {command[0]!r}: {error.strerror}",
            hint="set $EDITOR, or replace the script: rota edit NAME FILE",
        ) from error
    if status != 0:
        raise InputError(
            f"the editor {command[0]!r} ended with status {status}; nothing was changed"
        )


def _again(error: RotaError, screen: Screen, draft: Path) -> bool:
    """Print what was wrong and ask whether to edit again; without a person the answer is no."""
    if not sys.stdin.isatty():
        return False
    screen.error(error)
    screen.note("")
    try:
        answer = input("edit again? [Y/n] ")
    except EOFError:
        answer = "n"
    except KeyboardInterrupt:
        screen.note(f"\nyour text is in {draft}")
        raise
    return answer.strip().lower() in ("", "y", "yes")


def _beside(client: Client, job: str, draft: Path, screen: Screen) -> dict[str, Any]:
    """Fetch what somebody else wrote meanwhile, and put it beside the draft to be merged."""
    now: dict[str, Any] = client.call("job", job=job).json()
    theirs = draft.with_name(f"{draft.stem}.theirs{draft.suffix}")
    theirs.write_text(now["script"], encoding="utf-8")
    screen.note(f"note: the other text is in {theirs}; what you save now replaces it")
    return now


def _kept(error: RotaError, draft: Path, original: bytes) -> RotaError:
    """Return the error with the news of where the text is, if there is any that could be lost."""
    if draft.read_bytes() == original:
        draft.unlink()
        return error
    tail = f"your text is in {draft}"
    error.hint = f"{error.hint}; {tail}" if error.hint else tail
    return error


def _if_match(job: dict[str, Any]) -> dict[str, str]:
    return {"If-Match": f'"{job["etag"]}"'}
