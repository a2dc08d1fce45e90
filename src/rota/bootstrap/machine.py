"""What a machine says of itself, and what its `agent.toml` says."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from rota.bootstrap.options import AgentOptions
from rota.core.agent_file import LEVELS, NAME, AgentFile, LogChoice, parse_agent_file
from rota.core.labels import parse_agent_labels
from rota.core.settings import Settings
from rota.daemon.logs import DaemonLog
from rota.errors import InputError


def log_bytes(settings: Settings, data: Path) -> int:
    """Return how much logs may take: as the settings say, but no more than half of the disk."""
    disk = os.statvfs(data)
    return min(settings.logs.max_bytes, disk.f_blocks * disk.f_frsize // 2)


def labels_of(name: str, given: str, tools: Mapping[str, str]) -> dict[str, str]:
    """Return what the agent carries at its start: what it was given goes above what is found."""
    items = (item for item in given.split(",") if item.strip())
    return {**found_labels(name), **tools, **parse_agent_labels(items)}


def found_labels(name: str) -> dict[str, str]:
    """Return what every machine says of itself."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    system = platform.system().lower()
    return {
        "agent": name,
        system: "",
        "os": system,
        "arch": platform.machine(),
        "cores": str(os.cpu_count() or 1),
        "memory": f"{memory >> 30}G",
    }


class Machine:
    """One agent's options: its command line's, above what `agent.toml` in its data folder says."""

    def __init__(self, options: AgentOptions) -> None:
        self.options, self.path = options, options.data / NAME
        self.file = AgentFile()
        self.log = DaemonLog()
        self.hangup = asyncio.Event()  # a SIGHUP came
        self._level = ""  # that somebody asked for since the file was read

    def read(self) -> AgentFile:
        """Read the file anew and log as it says; return what it said before.

        Raises:
            InputError: something in it is wrong; what held before goes on.
        """
        found = self._read()
        before, self.file, self._level = self.file, found, ""
        self.log.apply(self.log_choice)
        return before

    def back(self, before: AgentFile) -> None:
        """Be again as it was said before."""
        self.file = before
        self.log.apply(self.log_choice)

    def log_at(self, level: str) -> None:
        """Log from that level on, until the file is read anew."""
        self._level = level
        self.log.apply(self.log_choice)

    @property
    def log_choice(self) -> LogChoice:
        """How the daemon is to log now."""
        choice, options = self.file.log, self.options
        # ROTA_LOG is how it was told before there was a file.
        default = LogChoice()
        level = self._level or options.log_level or _from_environment() or choice.level
        return LogChoice(
            level=level or default.level,
            format=options.log_format or choice.format or default.format,
            requests=choice.requests,
        )

    @property
    def labels(self) -> str:
        """The labels that it was given, as they are written."""
        return self.options.labels or self.file.labels or ""

    @property
    def slots(self) -> int:
        """How many builds run at once; the CPUs where nobody says."""
        given = self.options.slots if self.options.slots is not None else self.file.slots
        return given if given is not None else os.cpu_count() or 1

    @property
    def listen(self) -> str | None:
        """Where REST and git are served, if that was said."""
        return self.options.listen or self.file.listen

    @property
    def overruled(self) -> tuple[str, ...]:
        """What the file says in vain: the command line says it as well."""
        given, file = self.options, self.file
        pairs = (
            ("labels", given.labels or None, file.labels),
            ("slots", given.slots, file.slots),
            ("listen", given.listen, file.listen),
            ("log.level", given.log_level, file.log.level),
            ("log.format", given.log_format, file.log.format),
        )
        return tuple(name for name, ours, its in pairs if None not in (ours, its) and ours != its)

    def _read(self) -> AgentFile:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return AgentFile()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"cannot read {self.path}: {error}", hint="nothing was changed"
            ) from error
        found, problems = parse_agent_file(text, str(self.path))
        if problems:
            count = "a fault" if len(problems) == 1 else f"{len(problems)} faults"
            raise InputError(
                f"{self.path} has {count}",
                problems=[str(it) for it in problems],
                hint="nothing was changed",
            )
        return found


def _from_environment() -> str:
    level = os.environ.get("ROTA_LOG", "").lower()
    return level if level in LEVELS else ""
