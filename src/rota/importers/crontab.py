"""Jobs of a crontab (crontab(5) of Vixie's cron, and Debian's): one for each line that runs something."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from rota.core.cron import cron_fault
from rota.core.environment import variable_fault
from rota.importers.draft import Draft, job_name, quoted

_SETTING = re.compile(r"\s*(\"[^\"]*\"|'[^']*'|[A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*$")
_NICKNAMES = ("hourly", "daily", "midnight", "weekly", "monthly", "yearly", "annually")
_LINE = re.compile(r"\s*(@\w+|(?:\S+\s+){4}\S+)\s+(\S.*?)\s*$", re.DOTALL)
#: What is no variable of the command's, but tells cronie or anacron how to run it.
_OTHERS = {
    "RANDOM_DELAY": "an H in place of a number spreads jobs, each always the same: H H(1-4) * * *",
    "START_HOURS_RANGE": "say the hours in the expression",
    "MAILFROM": "who sends mails is said in [mail] of settings.toml",
    "CONTENT_TYPE": None,
    "CONTENT_TRANSFER_ENCODING": None,
    "LOGNAME": "`user` in the job's header, where it is to be another than the agent's",
}
_WORDS = re.compile(r"[A-Za-z0-9_./+-]+")
#: A folder to go to first, a variable that is set for the command.
_BEFORE = re.compile(r"\bcd\s+\S+\s*(?:&&|;)|\b[A-Za-z_][A-Za-z0-9_]*=\S*")
#: Words that say how a command is run, not what it is.
_AROUND = frozenset(
    [
        "cd",
        "test",
        "[",
        "nice",
        "ionice",
        "env",
        "sudo",
        "exec",
        "flock",
        "timeout",
        "chronic",
        "command",
        "if",
        "then",
        "while",
        "for",
        "true",
        "exit",
        "sh",
        "bash",
        "python",
        "python3",
        "perl",
        "php",
        "ruby",
        "node",
    ]
)


@dataclass
class _Settings:
    """What the lines above say: variables hold for all lines below them."""

    shell: str = "/bin/sh"
    zone: str = ""
    mail: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    home: str = '"$HOME"'
    others: dict[str, str] = field(default_factory=dict)


def read_crontab(
    text: str, place: str, *, zone: str, has_user: bool, folder: str = "cron"
) -> tuple[list[Draft], list[tuple[int, str]]]:
    """Return the drafts of a crontab, and the lines that say nothing that is understood.

    Args:
        text: The file.
        place: How to call it.
        zone: By whose clocks it goes where it says none.
        has_user: Whether each line names a user, as in ``/etc/crontab`` and ``/etc/cron.d``.
        folder: Below which the jobs stand.
    """
    drafts: list[Draft] = []
    unread: list[tuple[int, str]] = []
    settings = _Settings(zone=zone)
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        setting = _SETTING.match(raw)
        if setting is not None:
            _set(settings, setting[1].strip("\"'"), setting[2])
            continue
        found = _LINE.match(raw)
        if found is None:
            unread.append((number, line))
            continue
        user, command = _parted(found[2]) if has_user else ("", found[2])
        if not command:
            unread.append((number, line))
            continue
        name = job_name(folder, _called(command), taken=[draft.name for draft in drafts])
        drafts.append(_draft(name, place, number, found[1], user, command, settings))
    return drafts, unread


def _set(settings: _Settings, name: str, value: str) -> None:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    match name:
        case "SHELL":
            settings.shell = value
        case "CRON_TZ":
            settings.zone = value
        case "MAILTO":
            settings.mail = value
        case "HOME":
            settings.home = quoted(value)
        case _ if name in _OTHERS:
            settings.others[name] = value
        case _:
            settings.env[name] = value


def _draft(
    name: str, place: str, number: int, when: str, user: str, command: str, settings: _Settings
) -> Draft:
    draft = Draft(name=name, place=place, shebang=f"#!{settings.shell}")
    script, percent, given = _input(command)
    draft.keys["description"] = f"{place}:{number}: {' '.join(script.split())}"[:200]
    _when(draft, number, when, settings)
    if user and user != "root":
        draft.keys["user"] = user
    elif user:
        message = "it ran as root, and runs as the agent's user here"
        draft.remark(number, message, "give that user the rights, or run the agent as root")
    _env(draft, number, settings.env)
    for name, value in settings.others.items():
        draft.remark(number, f"{name}={value} is not carried over", _OTHERS[name])
    if settings.mail:
        to = [{"to": f"mail:{it.strip()}", "on": "failed"} for it in settings.mail.split(",")]
        draft.keys["notify"] = to
        draft.remark(
            number,
            "cron mailed all that was printed; rota mails when it fails",
            'needs [mail] in settings.toml; on = "always" tells each time',
        )
    # Cron begins in the home folder, rota in a workspace of the build's own.
    draft.body = [f"cd {settings.home} || exit 1"]
    if percent:
        draft.body += [f"{script} <<'CRON'", *given.split("\n"), "CRON"]
    else:
        draft.body.append(script)
    return draft


def _when(draft: Draft, number: int, when: str, settings: _Settings) -> None:
    # Of a line that begins with a dash Debian's cron and cronie say nothing in the system's log.
    when = when.removeprefix("-")
    nickname = when.removeprefix("@").lower()
    if when.startswith("@") and nickname == "reboot":
        message = f"{when} has no like: rota knows no start of a machine"
        hint = 'a systemd unit does that; or run it when an agent starts: on = [{ event = "agent.started" }]'
        draft.remark(number, message, hint)
        return
    if when.startswith("@") and nickname not in _NICKNAMES:
        draft.remark(number, f"{when} is no time that rota knows", "five fields say it as well")
        return
    text = f"@{nickname}" if when.startswith("@") else " ".join(when.split())
    fault = cron_fault(text)
    if fault is not None:
        draft.remark(number, f"{text!r} is not taken: {fault[0]}", fault[1] or None)
        return
    rule: dict[str, object] = {"cron": text}
    if settings.zone and settings.zone != "UTC":
        rule["tz"] = settings.zone
    draft.add("on", rule)


def _env(draft: Draft, number: int, env: Mapping[str, str]) -> None:
    for name, value in env.items():
        fault = variable_fault(name)
        if fault is None:
            draft.tables.setdefault("env", {})[name] = value
        else:
            draft.remark(number, f"{name}={value}: {fault}")


def _parted(rest: str) -> tuple[str, str]:
    """Return user and command; no command where there is only one word."""
    user, *command = rest.split(maxsplit=1)
    return user, "".join(command)


def _input(command: str) -> tuple[str, bool, str]:
    """Return the command, whether it has input, and that: after the first bare ``%`` (crontab(5))."""
    parts = re.split(r"(?<!\\)%", command, maxsplit=1)
    script = parts[0].replace("\\%", "%")
    if len(parts) == 1:
        return script.strip(), False, ""
    # A newline at the end is not written twice: cron adds one where there is none.
    given = re.sub(r"(?<!\\)%", "\n", parts[1]).removesuffix("\n").replace("\\%", "%")
    return script.strip(), True, given


def _called(command: str) -> str:
    """Return what a command is about: the first word that is a program, without folder and suffix."""
    for word in _WORDS.findall(_BEFORE.sub(" ", command)):
        stem = PurePosixPath(word).name
        if stem in _AROUND or not re.search("[A-Za-z]", stem) or word.startswith("-"):
            continue
        return PurePosixPath(stem).stem or stem
    return "job"
