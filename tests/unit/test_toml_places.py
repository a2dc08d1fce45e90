"""Where keys and values of TOML stand."""

from __future__ import annotations

from textwrap import dedent

import pytest

from rota.core.toml_places import Path, Place, locate

TEXT = dedent("""\
    title = "x" # a comment with [brackets] = and "quotes
    a.b . "c d" = 1

    [tool.rota]
    retry = { times = 2, on = ["lost", "timeout"], "delay" = '1s' }
    list = [
      "one", # first
      { deep = [1, 2] },
    ]
    long = \"\"\"
    not = a key
    [nor.table]
    \"\"\"
    last = 'x'
    [tool.rota.params]
    "su\\u0069te" = { default = "fast" }
    [[row]]
    n = 1
    [row.sub]
    m = 1
    [[row]]
    n = 2
    """)


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("title",), (1, 1), (1, 9)),
        (("a",), (2, 1), (2, 1)),
        (("a", "b"), (2, 3), (2, 3)),
        (("a", "b", "c d"), (2, 7), (2, 15)),
        (("tool",), (4, 2), (4, 2)),
        (("tool", "rota"), (4, 7), (4, 1)),
        (("tool", "rota", "retry", "times"), (5, 11), (5, 19)),
        (("tool", "rota", "retry", "on", 1), (5, 22), (5, 36)),
        (("tool", "rota", "retry", "delay"), (5, 48), (5, 58)),
        (("tool", "rota", "list", 0), (6, 1), (7, 3)),
        (("tool", "rota", "list", 1, "deep"), (8, 5), (8, 12)),
        (("tool", "rota", "list", 1, "deep", 1), (8, 5), (8, 16)),
        (("tool", "rota", "last"), (14, 1), (14, 8)),
        (("tool", "rota", "params"), (15, 12), (15, 1)),
        (("tool", "rota", "params", "suite", "default"), (16, 18), (16, 28)),
        (("row", 0, "n"), (18, 1), (18, 5)),
        (("row", 0, "sub", "m"), (20, 1), (20, 5)),
        (("row", 1, "n"), (22, 1), (22, 5)),
    ],
)
def test_keys_and_values_are_found(path: Path, key: Place, value: Place) -> None:
    places = locate(TEXT)
    assert places.key(path) == key
    assert places.value(path) == value


def test_what_is_not_there_falls_back_to_what_contains_it() -> None:
    places = locate(TEXT)
    assert places.key(("tool", "rota", "nothing", "at", "all")) == (4, 7)
    assert places.value(("tool", "rota", "nothing")) == (4, 7)
    assert places.key(("nothing",)) == (1, 1)
    assert places.key(()) == (1, 1)


@pytest.mark.parametrize(
    ("source", "offset", "column"),
    [
        ('"abc"', 1, 6),
        ('"abc"', 3, 8),
        ("'a\\bc'", 4, 9),
        ('"\\u0061bc"', 2, 12),
        ('"\\"bc"', 2, 8),
        ('"abc"', 4, 9),
        ('"abc"', 99, 10),
        ('"""abc"""', 2, 5),
        ("5", 2, 5),
    ],
)
def test_a_character_of_a_string_is_found_in_its_source(
    source: str, offset: int, column: int
) -> None:
    assert locate(f"k = {source}").value(("k",), offset) == (1, column)


def test_statements_know_their_lines_and_whether_they_end() -> None:
    statements = locate('a = [1,\n 2]\n\nb = """\n""" # x\nc = [1\nd = 2\n').statements
    assert [(it.first, it.last, it.closed) for it in statements] == [
        (1, 2, True),
        (4, 5, True),
        (6, 8, False),
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (".".join("a" * 33) + " = 1", "nested deeper than 32"),
        ("a = " + "[" * 40 + "]" * 40, "nested deeper than 32"),
        ("a = " + "{b=" * 40 + "1" + "}" * 40, "nested deeper than 32"),
        ("a = " + "9" * 500, "a number of 500 characters"),
    ],
)
def test_what_would_hurt_the_parser_is_marked(text: str, fault: str) -> None:
    assert locate(text).statements[0].fault == fault
