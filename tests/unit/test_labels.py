"""Label expressions: what they say, what they match, and what is said about bad ones."""

from __future__ import annotations

import pytest

from rota.core.labels import (
    And,
    Compare,
    Has,
    Not,
    Or,
    first_refusal,
    matches,
    parse_agent_labels,
    parse_labels,
    print_labels,
    read_labels,
    refusal,
    satisfies,
)
from rota.errors import InputError

AGENT = {
    "linux": "",
    "linux-arm64": "",
    "agent": "web-3",
    "cores": "8",
    "memory": "16384M",
    "java": "17.0.2",
    "os": "debian-12",
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "linux",
        "agent",
        "linux-*",
        "lin?x",
        "agent=web-3",
        "agent=web-*",
        "agent!=db-*",
        "rack!=7",
        "cores>=8",
        "cores >= 4",
        "cores<=8",
        "cores>7.5",
        "memory>=16G",
        "memory<=16GiB",
        "memory>1.5G",
        "java>17",
        "java>=17.0.2",
        "java<17.0.10",
        "java<21",
        "!arm",
        "!(arm || windows)",
        "windows || linux",
        "windows && x || linux",
        "linux && (windows || cores>=4) && !arm",
        "!!linux",
    ],
)
def test_an_agent_matches_what_it_has(text: str) -> None:
    assert satisfies(text, AGENT)
    assert refusal(text, AGENT) is None


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("arm", "arm"),
        ("Linux", "Linux"),
        ("linu", "linu"),
        ("mac-*", "mac-*"),
        ("agent=web", "agent=web"),
        ("linux=x", "linux=x"),
        ("agent!=web-*", "agent!=web-*"),
        ("cores>8", "cores>8"),
        ("cores>=4 && cores<8", "cores<8"),
        ("os>=1", "os>=1"),
        ("rack>=1", "rack>=1"),
        ("linux>=0", "linux>=0"),
        ("memory<16G", "memory<16G"),
        ("java>17.0.2", "java>17.0.2"),
        ("linux && docker && arm", "docker"),
        ("linux && (a || b&&c)", "a || b && c"),
        ("linux && !(os=debian-* && cores>1)", "!(os=debian-* && cores>1)"),
        ("arm || docker", "arm || docker"),
    ],
)
def test_a_refusal_names_the_smallest_part_that_refused(text: str, refused: str) -> None:
    assert not satisfies(text, AGENT)
    assert first_refusal(read_labels(text), AGENT) == refused
    assert refusal(text, AGENT) == refused


def test_versions_of_different_length_compare_by_their_parts() -> None:
    assert satisfies("v>=17", {"v": "17.0"})
    assert satisfies("v<=17", {"v": "17.0"})
    assert satisfies("v>1.9", {"v": "1.10"})
    assert not satisfies("v>0", {"v": "0.0"})


def test_and_binds_more_tightly_than_or() -> None:
    a, b, c = Has("a"), Has("b"), Has("c")
    assert read_labels("a || b && c") == Or((a, And((b, c))))
    assert read_labels("(a || b) && c") == And((Or((a, b)), c))
    assert read_labels("!a && b") == And((Not(a), b))
    assert read_labels("a=b") == Compare("a", "=", "b")


def test_brackets_that_change_nothing_are_not_kept() -> None:
    assert print_labels(read_labels("( a&&(b && ((c))) )||(d||e)")) == "a && b && c || d || e"
    assert print_labels(read_labels("cores  >=  4&&!( x )")) == "cores>=4 && !x"


def test_the_empty_expression_matches_an_agent_without_labels() -> None:
    assert parse_labels("") == (None, ())
    assert matches(None, {})
    assert first_refusal(None, {}) is None
    assert print_labels(None) == ""


@pytest.mark.parametrize(
    ("text", "column", "message", "hint"),
    [
        ("a & b", 3, "'&' is no operator", "write &&"),
        ("a | b", 3, "'|' is no operator", "write ||"),
        ("a, b", 2, "',' is no operator", "write &&"),
        ("a and b", 3, "'and' is no operator", "write &&"),
        ("a OR b", 3, "'OR' is no operator", "write ||"),
        ("not a", 1, "'not' is no operator", "write !"),
        ("a == b", 3, "'==' is no operator", "write a=b"),
        ("a=>4", 2, "'=>' is no operator", "write a>=4"),
        ("a=<4", 2, "'=<' is no operator", "write a<=4"),
        ("a b", 3, "'&&' or '||' is missing here", "such as"),
        ("(a b)", 4, "'&&' or '||' is missing here", "such as"),
        ("a && (b", 6, "'(' is not closed", "such as"),
        ("a) && b", 2, "')' closes nothing", "such as"),
        ("()", 2, "a label is missing before ')'", "such as"),
        ("a && ", 6, "a label is missing at the end", "such as"),
        ("a && || b", 6, "a label is missing before '||'", "such as"),
        ("!", 2, "a label is missing at the end", "such as"),
        ("=b", 1, "a label is missing before '='", "such as"),
        ("a=", 3, "a value is missing after 'a='", "such as"),
        ("cores>=many", 8, "'>=' cannot compare 'many'", "numbers, sizes such as 8G"),
        ("x-*=1", 1, "'x-*' cannot be compared: it is a glob", "globs stand in values"),
        ("a $ b", 3, "'$' cannot stand here", "such as"),
        ("a && 'b'", 6, '"\'" cannot stand here', "such as"),
        ("(" * 33 + "a" + ")" * 33, 33, "nested deeper than 32", "such as"),
        ("!" * 5000 + "a", 4097, "5001 characters, the limit is 4096", "such as"),
    ],
)
def test_a_bad_expression_is_named_with_its_column(
    text: str, column: int, message: str, hint: str
) -> None:
    expr, faults = parse_labels(text)
    assert expr is None
    assert faults[0].column == column
    assert faults[0].message == message
    assert hint in faults[0].hint


def test_every_slip_of_an_expression_is_told_at_once() -> None:
    _, faults = parse_labels("a & b , c or (d")
    assert [fault.column for fault in faults] == [3, 7, 11, 14]
    assert str(faults[0]) == "column 3: '&' is no operator (write &&)"


def test_hostile_nesting_is_a_fault_and_no_stack_overflow() -> None:
    for text in ("(" * 4000, "!" * 4000 + "a", "(!" * 2000 + "a"):
        assert "nested deeper than 32" in parse_labels(text)[1][0].message


def test_a_bad_expression_is_satisfied_by_nobody() -> None:
    assert not satisfies("a &", {"a": ""})
    assert refusal("a &", {"a": ""}) == "a &"


def test_reading_a_bad_expression_raises_its_first_fault() -> None:
    with pytest.raises(InputError) as caught:
        read_labels("linux & docker")
    assert caught.value.message == "bad label expression: '&' is no operator"
    assert caught.value.hint == "write &&"
    assert len(caught.value.problems) == 1


def test_labels_of_an_agent_are_words_and_pairs() -> None:
    given = ["linux,agent=web-3", " cores=8 ", "", "a/b:c.d+e_f-g", "linux"]
    assert parse_agent_labels(given) == {
        "linux": "",
        "agent": "web-3",
        "cores": "8",
        "a/b:c.d+e_f-g": "",
    }


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("a b", "bad label: 'a b' is neither a word nor key=value"),
        ("a=", "bad label: 'a=' is neither a word nor key=value"),
        ("=a", "bad label: '=a' is neither a word nor key=value"),
        ("a=b=c", "bad label: 'a=b=c' is neither a word nor key=value"),
        ("linux-*", "bad label: 'linux-*' is neither a word nor key=value"),
        ("or", "bad label: 'or' is an operator in label expressions"),
        ("a=1,a=2", "bad label: 'a' is given twice, as '1' and as '2'"),
    ],
)
def test_a_bad_label_of_an_agent_is_named(item: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_agent_labels(["good", item])
    assert caught.value.message == message
    assert caught.value.hint == "a label is a word of letters, digits and _ . + - / :"


def test_all_bad_labels_of_an_agent_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        parse_agent_labels(["a b,=c", "not"])
    assert len(caught.value.problems) == 3
