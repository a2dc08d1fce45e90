"""How a line of the daemon's log is written: for people, as JSON, or for journald."""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from rota.service.log_fields import FIELDS

#: Where journald takes messages in its own protocol (systemd.io, "Native Journal Protocol").
JOURNAL = "/run/systemd/journal/socket"
#: A datagram may be some 200 KB; more than this of one message nobody reads.
MAX_MESSAGE = 100_000
#: Priorities of syslog(3).
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_ESCAPES = {it: f"\\x{it:02x}" for it in (*range(32), 127)} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): " ",
}


def fields_of(record: logging.LogRecord) -> dict[str, str]:
    """Return what a line is about: what its task said, and what came with the line itself."""
    own: dict[str, str] = getattr(record, "fields", {})
    return {**(FIELDS.get() or {}), **own}


def one_line(text: str) -> str:
    """Return a text without anything that a terminal, or who reads lines, could take for more."""
    return text.translate(_ESCAPES)


class TextFormatter(logging.Formatter):
    """Time, level, message, fields: a line for each fact; a trace of a fault stands below it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's
        """Return the line."""
        record.message = one_line(record.message)
        text = super().formatMessage(record)
        fields = " ".join(f"{name}={one_line(it)}" for name, it in fields_of(record).items())
        return f"{text}  {fields}" if fields else text


class JsonFormatter(logging.Formatter):
    """An object a line: ``at`` (RFC 3339), ``level``, ``logger``, ``message``, the fields, ``error``.

    Args:
        agent: The agent's name, once it is known.
    """

    def __init__(self, agent: Callable[[], str]) -> None:
        super().__init__()
        self._agent = agent

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "agent": self._agent(),
            **fields_of(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode("utf-8", "replace")


class JournalHandler(logging.Handler):
    """Sends lines to journald, with the fields as its own: ``journalctl ROTA_BUILD=web/test#12``."""

    def __init__(self, agent: Callable[[], str], path: str = JOURNAL) -> None:
        super().__init__()
        self._agent, self._path = agent, path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line; what journald does not take is written to standard error."""
        try:
            self._socket.sendto(self._datagram(record), self._path)
        except OSError:
            os.write(2, f"{record.levelname} {one_line(record.getMessage())}\n".encode())

    def close(self) -> None:
        """Free the socket."""
        self._socket.close()
        super().close()

    def _datagram(self, record: logging.LogRecord) -> bytes:
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + logging.Formatter().formatException(record.exc_info)
        priority = next((it for level, it in _PRIORITIES if record.levelno >= level), 7)
        fields = {
            "MESSAGE": message[:MAX_MESSAGE],
            "PRIORITY": str(priority),
            "SYSLOG_IDENTIFIER": "rota",
            "SYSLOG_PID": str(os.getpid()),
            "ROTA_LOGGER": record.name,
            "ROTA_AGENT": self._agent(),
            **{f"ROTA_{name.upper()}": it for name, it in fields_of(record).items()},
        }
        return b"".join(_journal_field(name, it) for name, it in fields.items())


def _journal_field(name: str, value: str) -> bytes:
    raw = value.encode("utf-8", "replace")
    if b"\n" not in raw:
        return b"%s=%s\n" % (name.encode(), raw)
    return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(raw)), raw)


def is_journal(stream: int = 2) -> bool:
    """Whether a file descriptor leads to journald, as ``JOURNAL_STREAM`` says: systemd.exec(5)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(stream)
    except OSError:
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))
