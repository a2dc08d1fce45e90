"""Hypothesis strategies made from msgspec's own view of the types: nothing is listed twice."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st
from msgspec import inspect

from rota.core.codec import FIRST, LAST, VERSION
from rota.core.events import Known

Strategies = Mapping[str, st.SearchStrategy[Any]]
NONE: Strategies = {}

TIMES = st.datetimes(
    FIRST.replace(tzinfo=None), LAST.replace(tzinfo=None), timezones=st.just(UTC)
).filter(lambda at: at < LAST)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.floats(-1e9, 1e9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def facts(named: Strategies = NONE) -> st.SearchStrategy[Known]:
    """Events of every kind; plain fields that ``named`` has get theirs there."""
    union = inspect.type_info(Known)
    assert isinstance(union, inspect.UnionType)
    named = {"v": st.integers(-1, VERSION), **named}
    return st.one_of([_of(kind, named) for kind in union.types])


def _of(info: inspect.Type, named: Strategies) -> st.SearchStrategy[Any]:
    match info:
        case inspect.StructType():
            return _struct(info, named)
        case inspect.UnionType():
            return st.one_of([_of(member, named) for member in info.types])
        case inspect.VarTupleType():
            return st.lists(_of(info.item_type, named), max_size=3).map(tuple)
        case inspect.DictType():
            return st.dictionaries(st.text(), _of(info.value_type, named), max_size=3)
        case inspect.EnumType():
            return st.sampled_from(list(info.cls))
        case inspect.LiteralType():
            return st.sampled_from(list(info.values))
        case inspect.Metadata():
            return _of(info.type, named)
        case inspect.IntType():
            return st.integers(info.ge, info.le)
        case inspect.AnyType() | inspect.CustomType():  # `object`, of which any JSON is one
            return JSON
        case _:
            return _PLAIN[type(info)]


_PLAIN: dict[type[inspect.Type], st.SearchStrategy[Any]] = {
    inspect.StrType: st.text(),
    inspect.BoolType: st.booleans(),
    inspect.BytesType: st.binary(max_size=20),
    inspect.FloatType: st.floats(allow_nan=False, allow_infinity=False),
    inspect.NoneType: st.none(),
    inspect.DateTimeType: TIMES,
}


def _struct(info: inspect.StructType, named: Strategies) -> st.SearchStrategy[Any]:
    """A struct with all its required fields, and any of the others."""
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for field in info.fields:
        is_named = field.name in named and not _is_of_more(field.type)
        strategy = named[field.name] if is_named else _of(field.type, named)
        (required if field.required else optional)[field.name] = strategy
    return st.fixed_dictionaries(required, optional=optional).map(lambda kw: info.cls(**kw))


def _is_of_more(info: inspect.Type) -> bool:
    """Whether a field is no plain value, so that only its name is what another one has."""
    if isinstance(info, inspect.UnionType):
        return any(_is_of_more(member) for member in info.types)
    return isinstance(info, inspect.DictType | inspect.StructType)


def moment(seconds: float = 0.0) -> datetime:
    """A time in the tests' own day."""
    return datetime.fromtimestamp(1_800_000_000 + seconds, UTC)
