"""The daemon's log: a line for each fact, in three forms."""

import contextlib
import io
import json
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rota.core.agent_file import LogChoice
from rota.daemon.log_formats import JournalHandler, JsonFormatter, TextFormatter, is_journal
from rota.daemon.logs import DaemonLog
from rota.daemon.repeats import MAX_KNOWN, Repeats
from rota.service.log_fields import FIELDS, about, also_about


@pytest.fixture(autouse=True)
def no_fields() -> Iterator[None]:
    token = FIELDS.set(None)
    yield
    FIELDS.reset(token)


def record(
    message: str, *args: object, name: str = "rota.x", level: int = logging.INFO
) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, message, args, None)


def fault() -> logging.LogRecord:
    try:
        int("odd")
    except ValueError as error:
        found = record("broke", level=logging.ERROR)
        found.exc_info = (ValueError, error, error.__traceback__)
        return found
    raise AssertionError


def test_text_has_the_fields_at_its_end() -> None:
    about(build="web#3", attempt="1")
    assert (
        TextFormatter()
        .format(record("it is %s", "so"))
        .endswith(" INFO    it is so  build=web#3 attempt=1")
    )


def test_nobody_makes_a_second_line_or_moves_the_cursor() -> None:
    about(principal="ann\nroot")
    text = TextFormatter().format(record("%s", "a\nb\x1b[31mc"))
    assert "\n" not in text
    assert r"a\nb\x1b[31mc  principal=ann\nroot" in text


def test_the_trace_of_a_fault_stands_below_its_line() -> None:
    text = TextFormatter().format(fault())
    assert text.splitlines()[1] == "Traceback (most recent call last):"
    assert text.splitlines()[-1].endswith("base 10: 'odd'")


def test_json_is_one_object_a_line() -> None:
    about(request="r-1")
    also_about(principal="ann")
    line = JsonFormatter(lambda: "here").format(record("a\nb"))
    assert "\n" not in line
    found = json.loads(line)
    assert found.pop("at").endswith("+00:00")
    assert found == {
        "level": "info",
        "logger": "rota.x",
        "message": "a\nb",
        "agent": "here",
        "request": "r-1",
        "principal": "ann",
    }
    assert json.loads(JsonFormatter(lambda: "").format(fault()))["error"].endswith("base 10: 'odd'")


def fields(datagram: bytes) -> dict[str, str]:
    """Read what journald is sent, by its own rules."""
    found, rest = {}, datagram
    while rest:
        line, _, rest = rest.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            [size] = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + size], rest[8 + size + 1 :]
        found[name.decode()] = value.decode()
    return found


def test_journald_gets_the_fields_as_its_own(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "j"))
        handler = JournalHandler(lambda: "here", str(tmp_path / "j"))
        with contextlib.closing(handler):
            about(build="web#3")
            handler.emit(record("two\nlines", level=logging.WARNING))
            found = fields(journal.recv(1 << 20))
            assert found == {
                "MESSAGE": "two\nlines",
                "PRIORITY": "4",
                "SYSLOG_IDENTIFIER": "rota",
                "SYSLOG_PID": str(os.getpid()),
                "ROTA_LOGGER": "rota.x",
                "ROTA_AGENT": "here",
                "ROTA_BUILD": "web#3",
            }
            handler.emit(fault())
            found = fields(journal.recv(1 << 20))
            assert found["PRIORITY"] == "3"
            assert found["MESSAGE"].endswith("base 10: 'odd'")
            handler.emit(record("x" * 1_000_000))
            assert len(fields(journal.recv(1 << 20))["MESSAGE"]) == 100_000


def test_without_journald_lines_go_to_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handler = JournalHandler(lambda: "", str(tmp_path / "nowhere"))
    with contextlib.closing(handler):
        handler.emit(record("lost?"))
    assert capfd.readouterr().err == "INFO lost?\n"


def test_under_systemd_it_is_journald(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert is_journal(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", "1:2")
        assert not is_journal(stream.fileno())
    monkeypatch.delenv("JOURNAL_STREAM")
    assert not is_journal()


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def repeats() -> tuple[Repeats, Kept, Callable[[float], None]]:
    now = [0.0]
    kept = Kept()

    def go(to: float) -> None:
        now[0] = to

    return Repeats(kept, lambda: now[0]), kept, go


def test_what_repeats_itself_is_one_line_a_minute_and_a_count() -> None:
    handler, kept, go = repeats()
    for second in range(50):
        go(second)
        handler.handle(record("the network is away"))
    handler.handle(record("another thing"))
    assert kept.lines == ["the network is away", "another thing"]
    go(61)
    handler.handle(record("the network is away"))
    assert kept.lines[2:] == [
        "the network is away (49 times more within a minute)",
        "the network is away",
    ]


def test_what_was_held_back_is_told_at_the_end() -> None:
    handler, kept, _ = repeats()
    handler.handle(record("a"))
    handler.handle(record("a"))
    handler.close()
    assert kept.lines == ["a", "a (once more within a minute)"]


def test_requests_are_each_a_fact_and_memory_is_bounded() -> None:
    handler, kept, _ = repeats()
    for _ in range(3):
        handler.handle(record("GET /v1/jobs", name="rota.http.requests"))
    assert len(kept.lines) == 3
    for number in range(2 * MAX_KNOWN):
        handler.handle(record(f"{number}"))
    assert len(handler._heard) == MAX_KNOWN
    assert len(kept.lines) == 3 + 2 * MAX_KNOWN


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    found = logging.getLogger()
    handlers, level = found.handlers[:], found.level
    yield found
    found.handlers[:], found.level = handlers, level
    logging.getLogger("rota.http.requests").setLevel(logging.NOTSET)


def test_form_and_level_change_while_it_runs(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    err = io.StringIO()
    monkeypatch.setattr("sys.stderr", err)
    log, logger = DaemonLog(), logging.getLogger("rota.x")
    log.apply(LogChoice(format="text"))
    logger.debug("hidden")
    logger.info("first")
    log.agent = "here"
    log.apply(LogChoice(level="debug", format="json", requests=True))
    logger.debug("shown")
    assert logging.getLogger("rota.http.requests").isEnabledFor(logging.INFO)
    log.apply(LogChoice(level="warning", format="json"))
    logger.info("hidden")
    assert not logging.getLogger("rota.http.requests").isEnabledFor(logging.INFO)
    first, second = err.getvalue().splitlines()
    assert first.endswith(" INFO    first")
    assert json.loads(second)["message"] == "shown"
    assert json.loads(second)["agent"] == "here"
