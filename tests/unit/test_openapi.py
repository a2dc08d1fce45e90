"""The table of verbs, the routes, the handlers and the OpenAPI document say the same."""

from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own
import msgspec
import pytest
from openapi_spec_validator import validate

from rota.http.app import _ANSWERS
from rota.http.arguments import HEADERS
from rota.http.openapi import describe, document
from rota.http.problems import ProblemDetails
from rota.service.handlers import HANDLERS
from rota.service.messages import Request
from rota.service.verbs import VERBS, Verb

OPERATIONS: dict[tuple[str, str], dict[str, Any]] = {
    (method.upper(), path): operation
    for path, operations in describe()["paths"].items()
    for method, operation in operations.items()
}


def test_the_document_is_valid_openapi() -> None:
    validate(msgspec.json.decode(document()))


def test_each_verb_is_one_operation_and_there_are_no_others() -> None:
    assert {(verb.method, verb.path): verb.name for verb in VERBS} == {
        place: operation["operationId"] for place, operation in OPERATIONS.items()
    }


def test_each_verb_is_answered_and_nothing_else_is() -> None:
    names = {verb.name for verb in VERBS}
    assert names == HANDLERS.keys() | _ANSWERS.keys()
    assert names >= HANDLERS.keys()


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_each_field_of_a_verb_stands_in_exactly_one_place_of_its_operation(verb: Verb) -> None:
    operation = OPERATIONS[verb.method, verb.path]
    content = operation.get("requestBody", {}).get("content", {})
    body = content.get("application/json", {}).get("schema", {}).get("properties", {})
    named = [
        parameter["name"].lower().replace("-", "_")
        for parameter in operation["parameters"]
        if parameter["in"] != "header" or parameter["name"] in HEADERS.values()
    ]
    fields = [*verb.request.__struct_fields__]
    if verb.name == "job":
        fields.append("if_none_match")
    assert sorted([*named, *body]) == sorted(fields)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_each_argument_says_what_it_means(verb: Verb) -> None:
    operation = OPERATIONS[verb.method, verb.path]
    assert verb.summary
    for parameter in operation["parameters"]:
        assert parameter["description"], parameter
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    for name, field in schema.get("properties", {}).items():
        assert field.get("description"), name


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_requests_refuse_what_they_do_not_know(verb: Verb) -> None:
    assert issubclass(verb.request, Request)
    assert verb.request.__struct_config__.forbid_unknown_fields


def test_an_error_fits_its_schema() -> None:
    components = describe()["components"]["schemas"]
    body = ProblemDetails(type="t", title="T", status=400, detail="d", code="input")
    schema = {"$ref": "#/components/schemas/ProblemDetails", "components": {"schemas": components}}
    jsonschema.validate(msgspec.to_builtins(body), schema)
