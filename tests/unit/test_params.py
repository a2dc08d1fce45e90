"""Parameters: what is given against what is declared."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from rota.core.job import Param, ParamValue
from rota.core.params import param_env, resolve_params

SUITE = Param(default="fast", choices=("fast", "full"))


def test_defaults_stand_for_what_is_not_given() -> None:
    declared = {"suite": SUITE, "count": Param(type="int", default=0)}
    assert resolve_params(declared, {}) == ({"suite": "fast", "count": 0}, ())
    assert resolve_params(declared, {"count": 7}) == ({"suite": "fast", "count": 7}, ())


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("string", "", ""),
        ("string", "4", "4"),
        ("int", "4", 4),
        ("int", "-4", -4),
        ("int", 5, 5),
        ("float", "1.5", 1.5),
        ("float", "1e3", 1000.0),
        ("float", 2, 2.0),
        ("bool", "true", True),
        ("bool", "Yes", True),
        ("bool", "1", True),
        ("bool", "no", False),
        ("bool", "false", False),
        ("bool", "0", False),
        ("bool", True, True),
    ],
)
def test_strings_are_converted_to_the_declared_type(
    kind: Literal["string", "int", "float", "bool"], given: ParamValue, value: ParamValue
) -> None:
    values, problems = resolve_params({"p": Param(type=kind)}, {"p": given})
    assert problems == ()
    assert values == {"p": value}
    assert type(values["p"]) is type(value)


@pytest.mark.parametrize(
    ("kind", "given", "problem"),
    [
        ("string", 4, "parameter p must be a string, not 4"),
        ("string", True, "parameter p must be a string, not true"),
        ("string", None, "parameter p must be a string, not null"),
        ("string", ["a"], "parameter p must be a string, not an array"),
        ("int", "four", "parameter p must be an integer, not 'four'"),
        ("int", "1_000", "parameter p must be an integer, not '1_000'"),
        ("int", "", "parameter p must be an integer, not ''"),
        ("int", "9223372036854775808", "parameter p must be an integer, not '9223372036854775808'"),
        ("int", 1.0, "parameter p must be an integer, not 1.0"),
        ("int", True, "parameter p must be an integer, not true"),
        ("float", "nan", "parameter p must be a number, not 'nan'"),
        ("float", "1e999", "parameter p must be a number, not '1e999'"),
        ("float", float("inf"), "parameter p must be a number, not inf"),
        ("bool", "maybe", "parameter p must be a boolean, not 'maybe'"),
        ("bool", 1, "parameter p must be a boolean, not 1"),
        ("string", "a\0b", "parameter p has a NUL character, which no program could be given"),
        ("string", "a\ud800", "parameter p is not UTF-8"),
        ("string", "é" * 40000, "parameter p is 80000 bytes, the limit is 65536"),
    ],
)
def test_a_value_that_does_not_fit_is_named(
    kind: Literal["string", "int", "float", "bool"], given: Any, problem: str
) -> None:
    assert resolve_params({"p": Param(type=kind)}, {"p": given}) == ({}, (problem,))


def test_a_value_out_of_the_choices_brings_the_nearest_to_mind() -> None:
    _, problems = resolve_params({"suite": SUITE}, {"suite": "fsat"})
    assert problems == (
        "parameter suite cannot be 'fsat', only 'fast', 'full'; did you mean 'fast'?",
    )
    _, problems = resolve_params({"n": Param(type="int", choices=(1, 2))}, {"n": "3"})
    assert problems == ("parameter n cannot be 3, only 1, 2",)


def test_a_parameter_that_nobody_declared_is_refused_with_the_list() -> None:
    _, problems = resolve_params({"suite": SUITE}, {"suites": "fast"})
    assert problems == ("the job has no parameter suites, it has suite; did you mean 'suite'?",)
    _, problems = resolve_params({}, {"x\n": "fast"})
    assert problems == ("the job has no parameter 'x\\n', it has none",)


def test_a_parameter_without_a_default_must_be_given() -> None:
    declared = {"count": Param(type="int"), "suite": Param(choices=("fast", "full"))}
    assert resolve_params(declared, {})[1] == (
        "parameter count is missing, it is an integer",
        "parameter suite is missing, it is one of 'fast', 'full'",
    )


def test_all_problems_are_told_at_once() -> None:
    declared = {"suite": SUITE, "count": Param(type="int"), "must": Param()}
    values, problems = resolve_params(declared, {"suite": "x", "count": "y", "other": 1})
    assert values == {}
    assert len(problems) == 4


def test_a_long_value_is_cut_in_its_problem() -> None:
    _, problems = resolve_params({"n": Param(type="int")}, {"n": "x" * 100_000})
    assert len(problems[0]) < 150


def test_a_script_sees_parameters_as_text() -> None:
    values: dict[str, ParamValue] = {"a": "x", "b": 4, "c": 1.5, "d": True, "e": False}
    assert param_env(values) == {"a": "x", "b": "4", "c": "1.5", "d": "true", "e": "false"}
