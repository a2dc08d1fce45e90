"""Label expressions: printing and parsing are inverse, and matching is plain logic."""

from __future__ import annotations

from fnmatch import fnmatchcase

from hypothesis import given, settings
from hypothesis import strategies as st

from rota.core.labels import (
    And,
    Compare,
    Expr,
    Has,
    Not,
    Or,
    first_refusal,
    matches,
    parse_labels,
    print_labels,
    read_labels,
    refusal,
    satisfies,
)

NAMES = st.sampled_from(["linux", "arm", "a/b:c", "x.y+z-1", "cores", "agent"])
GLOBS = st.sampled_from(["lin*", "*", "?rm", "web-*"])
NUMBERS = st.integers(0, 9).map(str)
LEAVES: st.SearchStrategy[Expr] = st.one_of(
    st.builds(Has, NAMES | GLOBS),
    st.builds(Compare, NAMES, st.sampled_from(["=", "!="]), NAMES | GLOBS | NUMBERS),
    st.builds(Compare, NAMES, st.sampled_from([">=", "<=", ">", "<"]), NUMBERS),
)
LABELS = st.dictionaries(NAMES, st.just("") | NUMBERS | st.sampled_from(["web-1", "linux"]))


def chain(kind: type[And | Or], items: list[Expr]) -> Expr:
    """A chain as the parser makes it: without chains of its own kind inside."""
    flat: list[Expr] = []
    for item in items:
        flat.extend(item.items if isinstance(item, kind) else [item])
    return kind(tuple(flat))


def grow(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    several = st.lists(inner, min_size=2, max_size=4)
    return st.one_of(
        inner.map(Not),
        several.map(lambda items: chain(And, items)),
        several.map(lambda items: chain(Or, items)),
    )


EXPRESSIONS = st.recursive(LEAVES, grow, max_leaves=12)


def naive(expr: Expr, labels: dict[str, str]) -> bool:
    """What an expression means, by way of Python's own evaluation."""
    match expr:
        case Has(name):
            return any(fnmatchcase(label, name) for label in labels)
        case Compare(key, "=", value):
            return key in labels and fnmatchcase(labels[key], value)
        case Compare(key, "!=", value):
            return not naive(Compare(key, "=", value), labels)
        case Compare(key, op, value):
            number = labels.get(key, "")
            return number.isdigit() and bool(eval(f"{number} {op} {value}"))
        case Not(item):
            return not naive(item, labels)
        case And(items):
            return False not in {naive(item, labels) for item in items}
        case Or(items):
            return True in {naive(item, labels) for item in items}


@settings(deadline=None)
@given(EXPRESSIONS)
def test_what_is_printed_parses_to_the_same(expr: Expr) -> None:
    assert read_labels(print_labels(expr)) == expr


@settings(deadline=None)
@given(EXPRESSIONS, LABELS)
def test_matching_agrees_with_plain_evaluation(expr: Expr, labels: dict[str, str]) -> None:
    assert matches(expr, labels) == naive(expr, labels)
    assert satisfies(print_labels(expr), labels) == naive(expr, labels)


@settings(deadline=None)
@given(EXPRESSIONS, LABELS)
def test_the_part_that_refused_refuses_by_itself(expr: Expr, labels: dict[str, str]) -> None:
    refused = first_refusal(expr, labels)
    assert (refused is None) == matches(expr, labels)
    if refused is not None:
        assert not satisfies(refused, labels)
        assert refused in print_labels(expr)


@settings(deadline=None)
@given(st.text() | st.text("ab()!&|=<>*, \t4"), LABELS)
def test_any_text_is_an_expression_or_has_faults_within_it(
    text: str, labels: dict[str, str]
) -> None:
    expr, faults = parse_labels(text)
    assert all(1 <= fault.column <= len(text) + 1 for fault in faults)
    assert faults == tuple(sorted(faults))
    if faults:
        assert expr is None
        assert not satisfies(text, labels)
        assert refusal(text, labels) == text
    else:
        assert read_labels(print_labels(expr)) == expr
