"""The Test Anything Protocol, versions 12 to 14, as Perl, Node, tap, bats, pgTAP and others write it.

Subtests stand before their own result, indented, with a ``# Subtest: NAME`` or without. What is told
are the innermost tests, by their path; a test with subtests counts itself only where it failed and
none of them did. Lines that are no TAP are passed over: tests print what they like.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec.structs import replace

from rota.core.cases import MAX_RAW, Case, Outcome

_POINT = re.compile(r"(not )?ok\b(?:[ \t]+(\d{1,9})\b)?(?:[ \t]*-(?=[ \t]|$))?[ \t]*(.*)")
_PLAN = re.compile(r"(\d{1,9})\.\.(\d{1,9})\s*(?:#\s*(.*))?$")
_DIRECTIVE = re.compile(r"(?<!\\)(?:\s|^)#\s*(skip|todo|time=)\S*\s*(.*)$", re.IGNORECASE)
_TIME = re.compile(r"#\s*time=([0-9.]{1,20})(ms|s)?", re.IGNORECASE)
_BAIL = re.compile(r"Bail out!\s*(.*)", re.IGNORECASE)
_KEY = re.compile(r"\s*(message|error|duration_ms|duration|at|location|file|line)\s*:\s*(.*)$")
_PLACE = re.compile(r"(?:file://)?(.{1,300}?):(\d{1,8})(?::\d{1,8})?\)?$")
#: Longer lines are cut.
_MAX_LINE = 16 * 1024
#: Subtests are kept in mind until their parent is named.
_MAX_KEPT = 100_000
_MAX_DEPTH = 50


class _Level:
    """The tests at one depth, up to the result that stands for them."""

    def __init__(self, indent: int) -> None:
        self.indent = indent
        self.cases: list[Case] = []
        self.plan: int | None = None
        self.seen = 0
        self.why = ""  # nothing was run


class TapParser:
    """Reads one report; cases go to ``emit`` in the order of their results.

    Args:
        emit: Takes each case.
        suite: What to call the tests' suite: TAP has none.
    """

    def __init__(self, emit: Callable[[Case], None], suite: str = "") -> None:
        self._emit, self._suite = emit, suite
        self._rest = b""
        self._levels = [_Level(0)]
        self._last: Case | None = None  # waits for what is said of it below
        self._yaml: list[str] | None = None
        self._yaml_indent = 0
        self._room = 0
        self._kept = 0
        self._block = ""  # the key whose text goes on in deeper lines
        self._is_over = False
        self.is_tap = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Never raises."""
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line[:_MAX_LINE])
        self._rest = rest[: _MAX_LINE + 1] if len(rest) > _MAX_LINE else rest

    def finish(self) -> None:
        """Take note that these were all bytes."""
        if self._rest:
            self._line(self._rest[:_MAX_LINE])
        self._settle()
        while len(self._levels) > 1:
            self._close("")
        self._check_plan(self._levels[0])

    def _line(self, raw: bytes) -> None:
        text = raw.decode("utf-8", "replace").expandtabs(4).rstrip()
        body = text.lstrip(" ")
        indent = len(text) - len(body)
        if self._yaml is not None:
            self._in_yaml(text, body, indent)
            return
        if not body or self._is_over:
            return
        if body == "---" and self._last is not None:
            self._yaml, self._yaml_indent, self._room = [], indent, MAX_RAW
            self._block = ""
        elif (bail := _BAIL.match(body)) is not None:
            self._bail(bail[1])
        elif (point := _POINT.fullmatch(body)) is not None:
            self._point(indent, point)
        elif (plan := _PLAN.fullmatch(body)) is not None:
            self._take_plan(indent, plan)
        elif self._last is not None and body.startswith("# ") and self._last.outcome.is_bad:
            # Perl says below a failed test what was wrong, as a comment.
            self._note(body[2:])

    def _take_plan(self, indent: int, plan: re.Match[str]) -> None:
        self.is_tap = True
        self._settle()
        level = self._level(indent)
        first, last = int(plan[1]), int(plan[2])
        level.plan = max(0, last - first + 1)
        if not level.plan and plan[3]:
            level.why = re.sub(r"(?i)^skip\S*\s*", "", plan[3])

    def _point(self, indent: int, point: re.Match[str]) -> None:
        self.is_tap = True
        self._settle()
        is_bad, rest = bool(point[1]), point[3]
        time = _TIME.search(rest)
        directive = _DIRECTIVE.search(rest)
        name = rest[: directive.start()] if directive else rest
        name = re.sub(r"\\([\\#])", r"\1", name).strip()
        has_block = name.endswith(" {")
        name = name.removesuffix(" {") if has_block else name
        while len(self._levels) > 1 and self._levels[-2].indent > indent:
            self._close("")  # deeper ones that no result stands for
        children = None
        if len(self._levels) > 1 and self._levels[-1].indent > indent:
            children = self._levels.pop()
        level = self._level(indent)
        level.seen += 1
        if children is not None and (children.cases or children.why):
            bad = any(case.outcome.is_bad for case in children.cases)
            self._pass_on(level, children, name or point[2] or "")
            if bad or not is_bad:
                return
        kind = directive[1].lower() if directive else ""
        outcome, message = Outcome.FAILED if is_bad else Outcome.PASSED, ""
        if directive is not None and kind in ("skip", "todo"):
            if kind == "skip" or is_bad:
                outcome = Outcome.SKIPPED
            message = directive[2].strip()
            message = f"to do: {message}".rstrip(": ") if kind == "todo" else message
        self._last = Case(
            name=name or f"test {point[2] or level.seen}",
            suite=self._suite,
            outcome=outcome,
            message=message,
            duration_s=_seconds(time[1], time[2] or "s") if time else 0.0,
        )

    def _level(self, indent: int) -> _Level:
        """Return the tests at this depth, which begins here if it is a new one."""
        while len(self._levels) > 1 and self._levels[-1].indent > indent:
            self._close("")
        if self._levels[-1].indent < indent and len(self._levels) < _MAX_DEPTH:
            # An odd indentation at the very start is no subtest.
            if len(self._levels) == 1 and not self._levels[0].seen and indent < 2:
                self._levels[0].indent = indent
            else:
                self._levels.append(_Level(indent))
        return self._levels[-1]

    def _close(self, name: str) -> None:
        children = self._levels.pop()
        self._pass_on(self._levels[-1], children, name)

    def _pass_on(self, level: _Level, children: _Level, name: str) -> None:
        """Put subtests below the name of their parent, into the parent's level."""
        self._check_plan(children)
        for case in children.cases:
            self._kept -= 1
            full = f"{name} > {case.name}" if name else case.name
            self._put(level, replace(case, name=full[:MAX_RAW]))

    def _put(self, level: _Level, case: Case) -> None:
        if level is self._levels[0] or self._kept >= _MAX_KEPT:
            self._emit(case)
            return
        self._kept += 1
        level.cases.append(case)

    def _check_plan(self, level: _Level) -> None:
        """Tell of tests that were planned and did not come: what should have run them died."""
        if level.plan is not None and level.seen < level.plan:
            missing = level.plan - level.seen
            message = f"{missing} of {level.plan} planned tests did not run"
            self._put(level, self._error("(the plan)", message))

    def _bail(self, why: str) -> None:
        self.is_tap = True
        self._settle()
        self._is_over = True
        self._emit(self._error("(bail out)", why or "the tests bailed out"))
        for level in self._levels:
            level.plan = None

    def _error(self, name: str, message: str) -> Case:
        return Case(name=name, suite=self._suite, outcome=Outcome.ERRORED, message=message)

    # -- what is said of a test below it --------------------------------------------------------

    def _settle(self) -> None:
        """Pass on the last test, once all is known of it."""
        if self._last is not None:
            case, self._last = self._last, None
            self._put(self._levels[-1], case)

    def _note(self, text: str) -> None:
        assert self._last is not None
        details = self._last.details
        if len(details) < MAX_RAW:
            details = f"{details}\n{text}" if details else text
            self._last = replace(self._last, details=details[:MAX_RAW])

    def _in_yaml(self, text: str, body: str, indent: int) -> None:
        assert self._yaml is not None
        if body == "..." or (body and indent < self._yaml_indent):
            block, self._yaml = self._yaml, None
            self._end_yaml(block)
            if body != "...":
                self._line(text.encode())
            return
        if self._room > 0:
            line = text[self._yaml_indent :]
            self._yaml.append(line[: self._room])
            self._room -= len(line) + 1

    def _end_yaml(self, block: list[str]) -> None:
        assert self._last is not None
        found: dict[str, str] = {}
        for index, line in enumerate(block):
            match = _KEY.fullmatch(line)
            if match is not None and match[1] not in found:
                found[match[1]] = _scalar(match[2], block[index + 1 :])
        case = self._last
        message = found.get("message") or found.get("error") or case.message
        place = _PLACE.search(found.get("at") or found.get("location") or "")
        file, line_number = found.get("file", ""), found.get("line", "")
        if place is not None:
            file, line_number = place[1].rpartition("(")[2], place[2]
        milliseconds = found.get("duration_ms", "")
        self._last = replace(
            case,
            message=message if case.outcome is not Outcome.PASSED else "",
            details="\n".join(block) if case.outcome.is_bad else "",
            duration_s=_seconds(milliseconds, "ms") if milliseconds else case.duration_s,
            file=file,
            line=int(line_number) if line_number.isdecimal() and len(line_number) < 9 else 0,
        )


def _scalar(text: str, below: list[str]) -> str:
    """Return a scalar of YAML, as far as reports write them: plain, quoted, or a block."""
    text = text.strip()
    if text in ("|", "|-", ">", ">-", "|+", ">+"):
        if not below:
            return ""
        indent = len(below[0]) - len(below[0].lstrip(" "))
        lines = []
        for line in below:
            if line.strip() and len(line) - len(line.lstrip(" ")) < max(indent, 1):
                break
            lines.append(line[indent:])
        return "\n".join(lines).strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    return text


def _seconds(text: str, unit: str) -> float:
    try:
        value = float(text) / (1000 if unit.lower() == "ms" else 1)
    except ValueError:
        return 0.0
    return min(max(value, 0.0), 1e9) if value == value else 0.0
