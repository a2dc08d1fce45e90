"""Parameters of a rule, from what its trigger brought."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.facts import JSON

from rota.core.mapping import Fields, params_of
from rota.core.params import MAX_VALUE_BYTES

DATA = {
    "ref": "refs/heads/main",
    "data": {"version": 7, "ok": True, "none": None, "list": ["a", {"b": "c"}], "dotted.name": 1},
}


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{ref}", "refs/heads/main"),
        ("v{data.version}", "v7"),
        ("{data.ok}", "true"),
        ("{data.list.0}{data.list.1.b}", "ac"),
        ("{data.list}", '["a",{"b":"c"}]'),
        ("{{{data.version}}}", "{7}"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_names_are_replaced(template: str, value: str) -> None:
    assert params_of({"x": template}, Fields(DATA)) == ({"x": value}, "")


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{data.vresion}", "params.x asks for {data.vresion}, there is ref, data.version"),
        ("{data.none}", "params.x asks for {data.none}"),
        ("{data.list.2}", "params.x asks for {data.list.2}"),
        ("{data.list.-1}", "params.x asks for"),
        ("{ref.__class__}", "params.x asks for {ref.__class__}"),
        ("{data.__class__.__mro__}", "params.x asks for"),
        ("{ref!r}", "params.x has a lone '{'"),
        ("{ref:>90000000}", "params.x has a lone '{'"),
        ("{", "params.x has a lone '{'; write {{ for the brace itself"),
    ],
)
def test_what_is_missing_or_more_than_a_name_is_said(template: str, says: str) -> None:
    values, why = params_of({"y": "1", "x": template}, Fields(DATA))
    assert values == {}
    assert why.startswith(says)


def test_a_value_that_no_script_could_be_given_is_refused() -> None:
    _, why = params_of({"x": "{a}"}, Fields({"a": "x" * (MAX_VALUE_BYTES + 1)}))
    assert why == f"params.x comes to more than {MAX_VALUE_BYTES} characters"


def test_few_of_many_names_are_listed() -> None:
    _, why = params_of({"x": "{no}"}, Fields({f"k{n}": n for n in range(1000)}))
    assert why.endswith("k10, k11, …")


@given(st.dictionaries(st.text(), JSON), st.text())
def test_any_data_and_any_template_are_answered(data: dict[str, object], template: str) -> None:
    values, why = params_of({"x": template}, Fields(data))
    assert bool(values) != bool(why)
