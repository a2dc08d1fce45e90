"""TAP as Perl, Node, bats and others write it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rota.core.cases import Case, Outcome
from rota.core.tap import TapParser


def parsed(text: str, step: int = 1 << 20, suite: str = "") -> list[Case]:
    found: list[Case] = []
    parser = TapParser(found.append, suite)
    data = text.encode("utf-8", "surrogatepass")
    for at in range(0, len(data), step):
        parser.feed(data[at : at + step])
    parser.finish()
    return found


def brief(text: str) -> list[tuple[str, str]]:
    return [(case.name, str(case.outcome)) for case in parsed(text)]


def test_results_skips_and_what_is_to_do() -> None:
    text = """TAP version 13
1..7
ok 1 - one
not ok 2 - two
ok 3 three # SKIP no network
not ok 4 - four # TODO later
ok 5
ok - six \\# seven
ok 7 - eight # time=12ms
"""
    cases = parsed(text)
    assert [(case.name, str(case.outcome), case.message) for case in cases] == [
        ("one", "passed", ""),
        ("two", "failed", ""),
        ("three", "skipped", "no network"),
        ("four", "skipped", "to do: later"),
        ("test 5", "passed", ""),
        ("six # seven", "passed", ""),
        ("eight", "passed", ""),
    ]
    assert cases[-1].duration_s == 0.012


def test_yaml_tells_message_place_and_time() -> None:
    (case,) = parsed("""not ok 1 - adds
  ---
  duration_ms: 2.5
  location: 'file:///app/cart.test.js:14:3'
  error: |-
    Expected values to be strictly equal:

    1 !== 2
  code: 'ERR_ASSERTION'
  stack: |-
    at x (cart.test.js:15:10)
  ...
1..1
""")
    assert case.message == "Expected values to be strictly equal:\n\n1 !== 2"
    assert (case.file, case.line, case.duration_s) == ("/app/cart.test.js", 14, 0.0025)
    assert "cart.test.js:15:10" in case.details


def test_subtests_of_node_are_told_by_their_path() -> None:
    text = """TAP version 13
# Subtest: cart
    # Subtest: adds
    ok 1 - adds
      ---
      duration_ms: 1.5
      ...
    # Subtest: removes
    not ok 2 - removes
      ---
      error: 'boom'
      ...
    1..2
not ok 1 - cart
  ---
  error: '1 subtest failed'
  ...
1..1
"""
    cases = parsed(text)
    assert [(it.name, str(it.outcome)) for it in cases] == [
        ("cart > adds", "passed"),
        ("cart > removes", "failed"),
    ]
    assert cases[1].message == "boom"


def test_subtests_of_perl_and_deeper_ones() -> None:
    text = """    ok 1 - inner
        ok 1 - innermost
        1..1
    ok 2 - middle
    1..2
ok 1 - outer
ok 2 - other
1..2
"""
    assert brief(text) == [
        ("outer > inner", "passed"),
        ("outer > middle > innermost", "passed"),
        ("other", "passed"),
    ]


def test_a_parent_that_failed_by_itself_counts() -> None:
    text = "    ok 1 - a\n    1..1\nnot ok 1 - p\n1..1\n"
    assert brief(text) == [("p > a", "passed"), ("p", "failed")]


def test_tests_that_were_planned_and_did_not_come() -> None:
    (one, missing) = parsed("1..3\nok 1 - one\n")
    assert (one.name, missing.outcome) == ("one", Outcome.ERRORED)
    assert missing.message == "2 of 3 planned tests did not run"


def test_a_bail_out_is_an_error_and_the_end() -> None:
    assert [
        (it.name, it.message) for it in parsed("1..9\nok 1 - a\nBail out! no disk\nok 2\n")
    ] == [
        ("a", ""),
        ("(bail out)", "no disk"),
    ]


def test_comments_below_a_failed_test_are_its_details() -> None:
    (case,) = parsed("not ok 1 - x\n#   Failed test 'x'\n#   at t/a.t line 3.\n1..1\n")
    assert case.details == "  Failed test 'x'\n  at t/a.t line 3."


def test_other_lines_are_passed_over() -> None:
    assert brief("hello\nok 1 - a\nokay then\nnot okay\n1..1\r\n") == [("a", "passed")]
    assert brief("1..0 # SKIP nothing to do\n") == []


def test_what_is_no_tap_is_known_for_that() -> None:
    parser = TapParser(lambda _: None)
    parser.feed(b"hello\nworld\n")
    parser.finish()
    assert not parser.is_tap


@given(
    st.lists(
        st.sampled_from(
            [
                "ok 1 - a",
                "not ok",
                "    ok 2 - b # SKIP",
                "  ---",
                "  ...",
                "1..3",
                "    1..2",
                "        not ok 3 - c",
                "Bail out!",
                "# Subtest: x",
                "  message: |",
                "    text",
                "",
                "\udcff",
            ]
        )
        | st.text(max_size=20),
        max_size=30,
    ),
    st.integers(1, 30),
)
def test_nothing_is_raised_and_pieces_make_no_difference(lines: list[str], step: int) -> None:
    text = "\n".join(lines)
    assert parsed(text, step) == parsed(text)
