"""Workflow commands in a log, such as ``::error file=a,line=3::message``.

The syntax is the one that build tools already print for GitHub Actions (Workflow commands, GitHub
Docs). A :class:`Scanner` reads a log once, piece by piece, in constant memory whatever the lines'
lengths, and says how far the log may be shown: never past something that may turn out a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from rota.core.build import Annotation, Metric
from rota.core.disguises import REACH
from rota.core.masks import Masks
from rota.core.metric_line import MetricError
from rota.core.metrics import MAX_METRICS, metric_of
from rota.core.steps import COMMANDS, Step, Steps

MAX_ANNOTATIONS = 50
#: A log asks for so many values to be masked; of more all of it is hidden. Each costs its agent some ms.
MAX_SAID = 100
#: A command of more bytes is text. Fifty annotations must fit into one event, escaped as JSON.
MAX_COMMAND = 8192
MAX_MESSAGE = 1000
MAX_PLACE = 200
#: Bytes of one value, as its command has it.
MAX_MASK = 16 * 1024
LEVELS = ("error", "warning", "notice")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HIDDEN = "the log is hidden: there is more to mask than can be kept in mind"

_COMMAND = re.compile(rb"::([A-Za-z][A-Za-z-]*)(?: ([^\r\n]*?))?::(.*)", re.DOTALL)
_MASK = re.compile(rb"::add-mask(?: [^\r\n]*?)?::(.*)", re.DOTALL | re.IGNORECASE)
_COLONS = re.compile(rb"::")
#: What a line begins with that matters, by whether annotations and steps are taken still.
_NEXT = {
    (True, True): re.compile(
        rb"\n::(?i:add-mask|metric|error|warning|notice|(?:end)?group|(?:end)?step)"
    ),
    (True, False): re.compile(rb"\n::(?i:add-mask|metric|error|warning|notice)"),
    (False, True): re.compile(rb"\n::(?i:add-mask|metric|(?:end)?group|(?:end)?step)"),
    (False, False): re.compile(rb"\n::(?i:add-mask|metric)"),
}
_MASK_HEAD = b"::add-mask"


class Command(msgspec.Struct, frozen=True):
    """One workflow command, unescaped."""

    name: str
    properties: dict[str, str]
    message: str


def parse_command(line: bytes) -> Command | None:
    """Return the command that a line (without its end) holds, or ``None``; never raises."""
    match = _COMMAND.match(line)
    if match is None:
        return None
    name, properties, message = match.groups()
    pairs = (item.partition(b"=") for item in (properties or b"").split(b","))
    return Command(
        name=name.decode().lower(),
        properties={
            key.strip().decode("utf-8", "replace"): _unescape(value, inside=True)
            for key, equals, value in pairs
            if equals
        },
        message=_unescape(message, inside=False),
    )


def _unescape(raw: bytes, *, inside: bool) -> str:
    if inside:
        raw = raw.replace(b"%3A", b":").replace(b"%2C", b",")
    return _unescape_data(raw).decode("utf-8", "replace")


def _unescape_data(raw: bytes) -> bytes:
    return raw.replace(b"%0D", b"\r").replace(b"%0A", b"\n").replace(b"%25", b"%")


class Scanner:
    """Reads a log once from its start; knows annotations, masks, and what may be shown.

    ``end`` is how many bytes were fed; ``safe_end`` how many of them may be shown now. ``time`` says
    when what stands at a byte of the log was read.
    """

    def __init__(
        self, time: Callable[[int], datetime] = lambda _: EPOCH, masks: Masks | None = None
    ) -> None:
        self.steps = Steps(time)
        self.failed_step = ""
        self.masks = Masks() if masks is None else masks
        self.annotations: list[Annotation] = []
        self.metrics: dict[str, Metric] = {}
        self.end = 0
        self.safe_end = 0
        self._line: bytes | None = b""  # the unfinished line if it may be a command; None: text
        self._recent = b""  # the last bytes, as far back as a masked value may reach
        self._hidden_at: int | None = None
        self._said: set[bytes] = set()  # what the log asked to be masked

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the log."""
        start = self.end
        self.end += len(data)
        position = self._end_line(data, start)
        if position is not None:
            self._lines(data, start, position)
        self._settle(data)

    def finish(self) -> None:
        """The log is whole: an unfinished last line is a line."""
        if self._line:
            self._command(self._line, self.end - len(self._line))
        self._line = None
        self.safe_end = self.end
        self.failed_step = self._masked(self.steps.failed())
        self.steps.finish(self.end)

    def shown_steps(self) -> tuple[Step, ...]:
        """Return the steps so far, their names as they may be shown."""
        return tuple(replace(step, name=self._masked(step.name)) for step in self.steps.all)

    def shown_annotations(self) -> tuple[Annotation, ...]:
        """Return the annotations as they may be shown, and what there is to say of the log."""
        shown = tuple(
            replace(
                note,
                message=self._masked(note.message),
                title=self._masked(note.title),
                file=self._masked(note.file),
            )
            for note in self.annotations
        )
        if self._hidden_at is None:
            return shown
        return (*shown, Annotation(level="warning", message=HIDDEN, offset=self._hidden_at))

    def _masked(self, text: str) -> str:
        return self.masks.text(text)

    def _end_line(self, data: bytes, start: int) -> int | None:
        """Finish the line that was begun before; return where the next begins, if it does."""
        if self._line == b"":
            return 0
        newline = data.find(b"\n")
        if self._line is not None:
            offset = start - len(self._line)
            line = self._line + data[: MAX_MASK + 1 if newline < 0 else min(newline, MAX_MASK + 1)]
            if newline < 0:
                self._begin_line(line, offset)
            else:
                self._command(line, offset)
        return None if newline < 0 else newline + 1

    def _lines(self, data: bytes, start: int, position: int) -> None:
        """Take the lines from ``position`` on, where one begins."""
        at = position if data.startswith(b"::", position) else self._next(data, position)
        while at is not None:
            newline = data.find(b"\n", at)
            if newline < 0:
                break
            self._command(data[at : min(newline, at + MAX_MASK + 1)], start + at)
            at = self._next(data, newline)
        if at is None:
            at = max(position, data.rfind(b"\n") + 1)
        self._begin_line(data[at : at + MAX_MASK + 1], start + at)

    def _next(self, data: bytes, position: int) -> int | None:
        """Return where the next command begins that matters, in a line after ``position``."""
        # Two looks, the second slower and seldom needed. Both by `re`: it is three times as fast
        # as `bytes.find` at two or three characters, and every byte of a log comes by here.
        if _COLONS.search(data, position) is None:
            return None
        wanted = _NEXT[len(self.annotations) < MAX_ANNOTATIONS, not self.steps.is_full]
        match = wanted.search(data, position)
        return None if match is None else match.start() + 1

    def _begin_line(self, line: bytes, offset: int) -> None:
        """Keep the unfinished line at the end, if it may be a command."""
        may_be_command = b"::".startswith(line[:2]) and not self._is_too_long(line, offset)
        self._line = line if may_be_command else None

    def _is_too_long(self, line: bytes, offset: int) -> bool:
        if not _may_be_mask(line):
            return len(line) > MAX_COMMAND
        if len(line) > MAX_MASK:
            self.masks.hides_all = True
            self._note_hidden(offset)
        return len(line) > MAX_MASK

    def _note_hidden(self, offset: int) -> None:
        if self.masks.hides_all and self._hidden_at is None:
            self._hidden_at = offset

    def _settle(self, data: bytes) -> None:
        """Work out how far the log may be shown."""
        self.safe_end = self.end
        if self._line and _may_be_mask(self._line):
            self.safe_end -= len(self._line)
        # Kept also while there is nothing to mask: what is held back must not depend on the cuts.
        self._recent = (self._recent + data[-REACH:])[-REACH:]
        if self.masks:
            self.safe_end = min(self.safe_end, self.end - self.masks.open_tail(self._recent))

    def _command(self, line: bytes, offset: int) -> None:
        if self._is_too_long(line, offset):
            return
        line = line.rstrip(b"\r")
        mask = _MASK.match(line)
        if mask is not None:
            # As it stands in this line, too, which is shown like any other.
            self._mask(mask[1])
            self._note_hidden(offset)
        elif command := parse_command(line):
            if command.name in COMMANDS:
                # Masked before it is cut: half a value would not be known for one.
                name = self._masked(command.message)
                self.steps.take(command.name, command.properties, name, offset)
            elif command.name == "metric":
                self._measure(command, offset)
            elif command.name in LEVELS and len(self.annotations) < MAX_ANNOTATIONS:
                self._annotate(command, offset)

    def _mask(self, value: bytes) -> None:
        if value in self._said:
            return
        if len(self._said) >= MAX_SAID:
            self.masks.hides_all = True
            return
        self._said.add(value)
        self.masks.add(value)
        self.masks.add(_unescape_data(value))

    def _measure(self, command: Command, offset: int) -> None:
        """Take a metric; one that is none is said to be so, since nobody would miss it."""
        told = command.properties
        try:
            metric = metric_of(
                self._masked(told.get("name", "")),
                self._masked(command.message),
                self._masked(told.get("unit", "")),
            )
        except MetricError as error:
            self._warn(str(error), offset)
            return
        if metric.name not in self.metrics and len(self.metrics) >= MAX_METRICS:
            self._warn(f"{metric.name} is one metric too many: {MAX_METRICS} are kept", offset)
            return
        self.metrics[metric.name] = metric

    def _warn(self, message: str, offset: int) -> None:
        if len(self.annotations) < MAX_ANNOTATIONS:
            note = Annotation(level="warning", title="metric", message=message, offset=offset)
            self.annotations.append(note)

    def _annotate(self, command: Command, offset: int) -> None:
        place = command.properties
        number = place.get("line", "")
        # Masked before it is cut: half a value would not be known for one.
        self.annotations.append(
            Annotation(
                level=command.name,
                message=self._masked(command.message)[:MAX_MESSAGE],
                title=self._masked(place.get("title", ""))[:MAX_PLACE],
                file=self._masked(place.get("file", ""))[:MAX_PLACE],
                line=int(number)
                if number.isascii() and number.isdigit() and len(number) < 10
                else 0,
                offset=offset,
            )
        )


def _may_be_mask(line: bytes) -> bool:
    return _MASK_HEAD.startswith(line[: len(_MASK_HEAD)].lower())
