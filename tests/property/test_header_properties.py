"""Headers, settings and their parts: any text is answered, and each answer has its place."""

from __future__ import annotations

import string
import tomllib

from hypothesis import example, given, settings
from hypothesis import strategies as st

from rota.core.durations import format_duration, parse_duration
from rota.core.header import decode_script, parse_header
from rota.core.problem import Problem
from rota.core.settings import parse_settings
from rota.core.toml_places import Path, locate

FRAGMENTS = st.sampled_from(
    """[tool.rota] [tool.rota.params] [[a]] timeout labels retry env params = "20m" 20m { } [ ] , .
    "a&&b" 'x' \\"\\"\\" ''' times on "lost" stdin true 3 -1.5 1979-05-27 # ☃ \\\\ suite choices default
    tool rota a b [a.b] = """.replace("\\", "").split()
)
LINES = st.lists(FRAGMENTS | st.text(max_size=3), max_size=6).map(" ".join)
SIGNS = st.sampled_from(["#", "//", "--", ";"])


@st.composite
def scripts(draw: st.DrawFn) -> str:
    """Something like a script with a header, seldom a good one."""
    sign = draw(SIGNS)
    lines = [f"{sign} {line}".rstrip(" ") for line in draw(st.lists(LINES, max_size=12))]
    lines = [f"{sign} /// script", f"{sign} [tool.rota]", *lines, f"{sign} ///", "true"]
    for _ in range(draw(st.integers(0, 3))):
        lines.insert(draw(st.integers(0, len(lines))), draw(st.text(max_size=8)))
    return draw(st.sampled_from(["\n", "\r\n"])).join(lines)


def check_places(text: str, problems: tuple[Problem, ...]) -> None:
    lines = text.split("\n")
    for problem in problems:
        assert 0 <= problem.line <= len(lines)
        if problem.line:
            assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
    assert list(problems) == sorted(problems, key=lambda it: (it.line, it.column))


@settings(deadline=None, max_examples=300)
@given(scripts() | st.text() | st.binary().map(decode_script))
@example("# /// script\n# a=[\n# ///")
@example('# /// script\n# a="""\n# ///')
@example("# /// script\n")
def test_any_script_is_a_job_or_has_problems_with_places_in_it(text: str) -> None:
    job, problems = parse_header(text, name="x", path="jobs/x")
    assert (job is None) == bool(problems)
    check_places(text, problems)


@settings(deadline=None, max_examples=150)
@given(st.lists(LINES, max_size=12).map("\n".join) | st.text())
def test_any_settings_are_answered_with_problems_that_have_places(text: str) -> None:
    _, problems = parse_settings(text)
    check_places(text, problems)


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_are_decoded_and_can_be_had_back(data: bytes) -> None:
    assert decode_script(data).encode("utf-8", "surrogateescape") == data


KEYS = st.text(string.ascii_letters + " .é", min_size=1, max_size=5)
VALUES = st.recursive(
    st.integers(-9, 9) | st.booleans() | st.text("ab '#[]{}=,\\", max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def dumped(value: object) -> str:
    """A value as TOML; tables inline."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{escaped}"'
        case list():
            return "[" + ", ".join(map(dumped, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{dumped(k)} = {dumped(v)}" for k, v in value.items()) + "}"
        case _:
            return str(value)


def paths(value: object, path: Path = ()) -> list[Path]:
    items: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [it for key, item in items for it in ((*path, key), *paths(item, (*path, key)))]


@settings(deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_every_key_and_value_of_a_document_is_located(table: dict[str, object]) -> None:
    text = "".join(f"{dumped(key)} = {dumped(value)}\n" for key, value in table.items())
    assert tomllib.loads(text) == table
    lines = text.split("\n")
    places = locate(text)
    for path in paths(table):
        line, column = places.value(path)
        value: object = table
        for part in path:
            value = value[part]  # type: ignore[index]  # the path is one of the table's
        assert lines[line - 1][column - 1 :].startswith(dumped(value))
        if isinstance(path[-1], str):
            line, column = places.key(path)
            assert lines[line - 1][column - 1 :].startswith(dumped(path[-1]))


@settings(deadline=None)
@given(st.text())
def test_any_text_is_scanned(text: str) -> None:
    count = len(text.split("\n"))
    for statement in locate(text).statements:
        assert 1 <= statement.first <= statement.last <= count


@settings(deadline=None)
@given(st.integers(0, 10**9))
def test_whole_seconds_are_printed_and_read_back(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@settings(deadline=None)
@given(st.floats(0, 10**8))
def test_a_printed_duration_is_near_what_it_was(seconds: float) -> None:
    again = parse_duration(format_duration(seconds))
    assert isinstance(again, float)
    assert abs(again - seconds) <= (0.0006 if seconds < 0.9 else 0.06 if seconds < 59 else 0.6)


@settings(deadline=None)
@given(st.text() | st.text("0123456789.dhms "))
def test_any_text_is_a_duration_or_has_a_fault(text: str) -> None:
    found = parse_duration(text)
    assert isinstance(found, str) or found >= 0
