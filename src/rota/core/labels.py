"""Label expressions: what a job asks of an agent.

::

    either  = both ( "||" both )*
    both    = one ( "&&" one )*
    one     = "!" one | "(" either ")" | atom
    atom    = label                   carried, with a value or without; a glob such as linux-*
            | key "=" value           the value may be a glob; "!=" is its opposite
            | key OP value            OP of >= <= > <: numbers, sizes, dotted versions

The empty expression matches every agent. Chains of one operator are one node, so that printing
what was parsed, and parsing what was printed, is the identity.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple, TypeAlias

import msgspec

from rota.core.sizes import parse_size
from rota.errors import InputError

#: An expression longer or deeper than this is a mistake or an attack; recursion stays shallow.
MAX_LENGTH = 4096
MAX_DEPTH = 32

GRAMMAR_HINT = "such as: linux && (docker || podman) && !arm && cores>=4"
_LABEL_HINT = "a label is a word of letters, digits and _ . + - / :"


class Has(msgspec.Struct, frozen=True):
    """The agent carries a label of this name; ``name`` may be a glob."""

    name: str


class Compare(msgspec.Struct, frozen=True):
    """The value of label ``key`` stands to ``value`` as ``op`` says.

    ``=`` takes a glob as its value. ``!=`` is "not ``=``": an agent without the label matches. The
    others compare numbers part by part, and match nothing that is no number.
    """

    key: str
    op: str
    value: str


class Not(msgspec.Struct, frozen=True):
    """``item`` does not match."""

    item: Expr


class And(msgspec.Struct, frozen=True):
    """Each of two or more ``items`` matches; none of them is an `And`."""

    items: tuple[Expr, ...]


class Or(msgspec.Struct, frozen=True):
    """One of two or more ``items`` matches; none of them is an `Or`."""

    items: tuple[Expr, ...]


Expr: TypeAlias = Has | Compare | Not | And | Or


class LabelFault(msgspec.Struct, frozen=True, order=True):
    """What is wrong with an expression, and at which character of it, counted from 1."""

    column: int
    message: str
    hint: str = GRAMMAR_HINT

    def __str__(self) -> str:
        return f"column {self.column}: {self.message} ({self.hint})"


def parse_labels(text: str) -> tuple[Expr | None, tuple[LabelFault, ...]]:
    """Return the expression that ``text`` says, or what is wrong with it, sorted by column.

    The empty text is ``None`` without faults: it matches every agent. With faults the expression
    is ``None`` too. Never raises.
    """
    if len(text) > MAX_LENGTH:
        message = f"{len(text)} characters, the limit is {MAX_LENGTH}"
        return None, (LabelFault(MAX_LENGTH + 1, message),)
    tokens, slips, faults = _tokens(text)
    if not faults and tokens[0].kind != "end":
        try:
            expr = _Parser(tokens).whole()
        except _SyntaxFaultError as error:
            faults.append(error.fault)
        else:
            return (None, tuple(slips)) if slips else (expr, ())
    return None, tuple(sorted(faults + slips))


def read_labels(text: str) -> Expr | None:
    """Return the expression that ``text`` says; ``None`` matches every agent.

    Raises:
        InputError: it is none; ``problems`` are `LabelFault`.
    """
    expr, faults = parse_labels(text)
    if faults:
        raise InputError(
            f"bad label expression: {faults[0].message}", problems=faults, hint=faults[0].hint
        )
    return expr


def print_labels(expr: Expr | None) -> str:
    """Return ``expr`` in its one canonical form, which `parse_labels` reads back."""
    match expr:
        case None:
            return ""
        case Has(name):
            return name
        case Compare(key, op, value):
            return f"{key}{op}{value}"
        case Not(item):
            return "!" + _print_in(item, And, Or)
        case And(items):
            return " && ".join(_print_in(item, And, Or) for item in items)
        case Or(items):
            return " || ".join(_print_in(item, Or) for item in items)


def matches(expr: Expr | None, labels: Mapping[str, str]) -> bool:
    """Whether an agent with ``labels`` fits; a label without a value has the value ``""``."""
    match expr:
        case None:
            return True
        case Has(name):
            return name in labels or (_is_glob(name) and any(fnmatchcase(k, name) for k in labels))
        case Compare():
            return _compares(expr, labels.get(expr.key))
        case Not(item):
            return not matches(item, labels)
        case And(items):
            return all(matches(item, labels) for item in items)
        case Or(items):
            return any(matches(item, labels) for item in items)


def first_refusal(expr: Expr | None, labels: Mapping[str, str]) -> str | None:
    """Return the smallest part of ``expr`` that refuses ``labels``, or ``None`` if it matches.

    Of ``linux && cores>=4`` that is the part which fails first; an alternative refuses as a whole.
    """
    if matches(expr, labels):
        return None
    if isinstance(expr, And):
        return next(filter(None, (first_refusal(item, labels) for item in expr.items)))
    return print_labels(expr)


def satisfies(text: str, labels: Mapping[str, str]) -> bool:
    """Whether an agent with ``labels`` satisfies the expression ``text``; a bad one, nobody does.

    Cost: the parse is remembered; a few microseconds after the first call.
    """
    expr, bad = _remembered(text)
    return not bad and matches(expr, labels)


@functools.lru_cache(maxsize=4096)
def conjuncts(text: str) -> frozenset[str]:
    """Return the parts of an expression that must all match, in canonical form; sorted by nothing.

    A bad expression is one part.
    """
    expr, bad = _remembered(text)
    if bad:
        return frozenset((text,))
    if expr is None:
        return frozenset()
    return frozenset(map(print_labels, expr.items if isinstance(expr, And) else (expr,)))


def refusal(text: str, labels: Mapping[str, str]) -> str | None:
    """Return the `first_refusal` of the expression ``text``; of a bad one, the whole text."""
    expr, bad = _remembered(text)
    return text if bad else first_refusal(expr, labels)


def parse_agent_labels(items: Iterable[str]) -> dict[str, str]:
    """Return the labels that ``a,b=c`` texts say; a label without a value has the value ``""``.

    Raises:
        InputError: an item is no label, or gives a label a second value; ``problems`` has all.
    """
    labels: dict[str, str] = {}
    faults = []
    for item in filter(None, (part.strip() for text in items for part in text.split(","))):
        fault = _agent_label_fault(item, labels)
        if fault is None:
            key, _, value = item.partition("=")
            labels[key] = value
        else:
            faults.append(fault)
    if faults:
        raise InputError(f"bad label: {faults[0]}", problems=faults, hint=_LABEL_HINT)
    return labels


_AGENT_LABEL = re.compile(r"([A-Za-z0-9_.+\-/:]+)(?:=([A-Za-z0-9_.+\-/:]+))?")
#: Other notations for the operators: refused as labels, so that a slip never parses by accident.
_WORDS = {"and": "&&", "or": "||", "not": "!"}


def _agent_label_fault(item: str, labels: Mapping[str, str]) -> str | None:
    match = _AGENT_LABEL.fullmatch(item)
    if match is None:
        return f"{item!r} is neither a word nor key=value"
    key, value = match[1], match[2] or ""
    if key.lower() in _WORDS:
        return f"{key!r} is an operator in label expressions"
    if labels.get(key, value) != value:
        return f"{key!r} is given twice, as {labels[key]!r} and as {value!r}"
    return None


@functools.lru_cache(maxsize=4096)
def _remembered(text: str) -> tuple[Expr | None, bool]:
    expr, faults = parse_labels(text)
    return expr, bool(faults)


def _is_glob(text: str) -> bool:
    return "*" in text or "?" in text


_OPERATORS: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


def _compares(expr: Compare, value: str | None) -> bool:
    if expr.op in {"=", "!="}:
        equal = value is not None and fnmatchcase(value, expr.value)
        return equal == (expr.op == "=")
    if value is None:
        return False
    mine, asked = _quantity(value), _quantity(expr.value)
    return mine is not None and asked is not None and _OPERATORS[expr.op](mine, asked)


_DOTTED = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})*")


@functools.lru_cache(maxsize=4096)
def _quantity(text: str) -> tuple[int, ...] | None:
    """Return what numbers, sizes and versions are compared by; 17 and 17.0 are the same."""
    if not _DOTTED.fullmatch(text):
        size = parse_size(text)
        return None if size is None else (size,)
    parts = [int(part) for part in text.split(".")]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def _print_in(item: Expr, *weaker: type[And | Or]) -> str:
    return f"({print_labels(item)})" if isinstance(item, weaker) else print_labels(item)


class _Token(NamedTuple):
    kind: str  # "atom", one of the operators and parentheses, or "end"
    column: int
    atom: Expr | None = None


_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<operator>&&|\|\||[()]|!(?!=))"
    r"|(?P<key>[A-Za-z0-9_.+\-/:*?]*)\s*(?P<op>!=|>=|<=|==|=>|=<|=|>|<)\s*"
    r"(?P<value>[A-Za-z0-9_.+\-/:*?]*)"
    r"|(?P<word>[A-Za-z0-9_.+\-/:*?]+)"
    r"|(?P<slip>[&|,])"
    r"|(?P<junk>.)",
    re.DOTALL,
)
_SLIPS = {"&": "&&", "|": "||", ",": "&&"}


def _tokens(text: str) -> tuple[list[_Token], list[LabelFault], list[LabelFault]]:
    """Return the tokens, the slips that could be read all the same, and the other faults."""
    tokens: list[_Token] = []
    slips: list[LabelFault] = []
    faults: list[LabelFault] = []
    for match in _TOKEN.finditer(text):
        column = match.start() + 1
        word = match["slip"] or match["word"] or ""
        meant = _SLIPS.get(word) or _WORDS.get(word.lower())
        if match["junk"]:
            faults.append(LabelFault(column, f"{match['junk']!r} cannot stand here"))
        elif match["operator"]:
            tokens.append(_Token(match["operator"], column))
        elif meant:
            slips.append(LabelFault(column, f"{word!r} is no operator", f"write {meant}"))
            tokens.append(_Token(meant, column))
        elif word:
            tokens.append(_Token("atom", column, Has(word)))
        elif match["op"]:
            faults.extend(_comparison_faults(match))
            atom = Compare(match["key"], match["op"], match["value"])
            tokens.append(_Token("atom", column, atom))
    tokens.append(_Token("end", len(text) + 1))
    return tokens, slips, faults


_OP_SLIPS = {"==": "=", "=>": ">=", "=<": "<="}


def _comparison_faults(match: re.Match[str]) -> Iterator[LabelFault]:
    key, op, value = match["key"], match["op"], match["value"]
    if not key:
        yield LabelFault(match.start("op") + 1, f"a label is missing before {op!r}")
    if _is_glob(key):
        yield LabelFault(
            match.start("key") + 1,
            f"{key!r} cannot be compared: it is a glob",
            "globs stand in values",
        )
    if op in _OP_SLIPS:
        yield LabelFault(
            match.start("op") + 1, f"{op!r} is no operator", f"write {key}{_OP_SLIPS[op]}{value}"
        )
    elif not value:
        yield LabelFault(match.end("op") + 1, f"a value is missing after '{key}{op}'")
    elif op in _OPERATORS and _quantity(value) is None:
        yield LabelFault(
            match.start("value") + 1,
            f"{op!r} cannot compare {value!r}",
            "it compares numbers, sizes such as 8G and versions such as 17.0.2",
        )


class _SyntaxFaultError(Exception):
    def __init__(self, column: int, message: str, hint: str = GRAMMAR_HINT) -> None:
        super().__init__(message)
        self.fault = LabelFault(column, message, hint)


class _Parser:
    """Recursive descent, one method a rule; stops at the first fault, which it raises."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def whole(self) -> Expr:
        expr = self._either()
        token = self._tokens[self._next]
        if token.kind == ")":
            raise _SyntaxFaultError(token.column, "')' closes nothing")
        if token.kind != "end":
            raise _SyntaxFaultError(token.column, "'&&' or '||' is missing here")
        return expr

    def _either(self) -> Expr:
        items = [self._both()]
        while self._take("||"):
            items.append(self._both())
        return _joined(Or, items)

    def _both(self) -> Expr:
        items = [self._one()]
        while self._take("&&"):
            items.append(self._one())
        return _joined(And, items)

    def _one(self) -> Expr:
        token = self._tokens[self._next]
        self._next += 1
        if token.atom is not None:
            return token.atom
        if token.kind not in {"!", "("}:
            found = "at the end" if token.kind == "end" else f"before {token.kind!r}"
            raise _SyntaxFaultError(token.column, f"a label is missing {found}")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _SyntaxFaultError(token.column, f"nested deeper than {MAX_DEPTH}")
        expr = Not(self._one()) if token.kind == "!" else self._group(token.column)
        self._depth -= 1
        return expr

    def _group(self, opened: int) -> Expr:
        expr = self._either()
        token = self._tokens[self._next]
        if token.kind == "end":
            raise _SyntaxFaultError(opened, "'(' is not closed")
        if token.kind != ")":
            raise _SyntaxFaultError(token.column, "'&&' or '||' is missing here")
        self._next += 1
        return expr

    def _take(self, kind: str) -> bool:
        found = self._tokens[self._next].kind == kind
        self._next += found
        return found


def _joined(kind: type[And] | type[Or], items: list[Expr]) -> Expr:
    """Return one node of ``kind`` for a chain of it, however it was bracketed."""
    if len(items) == 1:
        return items[0]
    flat: list[Expr] = []
    for item in items:
        flat.extend(item.items if isinstance(item, kind) else (item,))
    return kind(tuple(flat))
