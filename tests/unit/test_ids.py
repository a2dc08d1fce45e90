"""Names and identifiers: what is taken, and what a person is told who wrote another thing."""

from __future__ import annotations

import pytest

from rota.core.ids import (
    BuildRef,
    is_build_id,
    job_name_fault,
    parse_agent_name,
    parse_build_ref,
    parse_job_name,
)
from rota.errors import InputError


@pytest.mark.parametrize("name", ["a", "web/unit-test", "_x", "v1.2+3", "A/b/C", "x" * 200])
def test_a_job_may_be_named(name: str) -> None:
    assert parse_job_name(name) == name


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "it is empty"),
        ("x" * 201, "201 characters, the limit is 200"),
        ("/web", "a segment between slashes is empty"),
        ("web/", "a segment between slashes is empty"),
        ("web//test", "a segment between slashes is empty"),
        ("web/../etc", "the segment '..' does not fit"),
        (".git", "the segment '.git' does not fit"),
        ("-rf", "the segment '-rf' does not fit"),
        ("a b", "the segment 'a b' does not fit"),
        ("a\n", "the segment 'a\\n' does not fit"),
        ("a#1", "the segment 'a#1' does not fit"),
        ("@001", "the segment '@001' does not fit"),
        ("é", "the segment 'é' does not fit"),
        ("main.lock", "git does not allow a name that ends in .lock"),
    ],
)
def test_a_bad_job_name_says_what_is_wrong(name: str, fault: str) -> None:
    assert job_name_fault(name) == fault
    with pytest.raises(InputError) as caught:
        parse_job_name(name)
    assert caught.value.message == f"bad job name {name!r}: {fault}"
    assert "web/unit-test" in (caught.value.hint or "")


def test_an_agent_is_named_in_one_word() -> None:
    assert parse_agent_name("build-3") == "build-3"
    for name in ("", "-x", "a.b", "a/b", "x" * 64, "a\n"):
        with pytest.raises(InputError) as caught:
            parse_agent_name(name)
        assert caught.value.message == f"bad agent name {name!r}"
        assert caught.value.hint == "1 to 63 letters, digits, _ and -, such as build-3"


def test_a_build_id_is_sixteen_characters_of_its_alphabet() -> None:
    assert is_build_id("0123456789abcdef")
    for text in ("0123456789abcde", "0123456789abcdefg", "0123456789abcdeI", "0123456789abcde\n"):
        assert not is_build_id(text)


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("web/test#7", BuildRef(job="web/test", number=7)),
        ("web/test#007", BuildRef(job="web/test", number=7)),
        ("web/test", BuildRef(job="web/test")),
        ("dead", BuildRef(job="dead", prefix="dead")),
        ("0123456789abcdef", BuildRef(job="0123456789abcdef", prefix="0123456789abcdef")),
        ("0123456789abcdefg", BuildRef(job="0123456789abcdefg")),
        ("abc", BuildRef(job="abc")),
    ],
)
def test_a_build_is_named_by_number_job_or_prefix(text: str, ref: BuildRef) -> None:
    assert parse_build_ref(text) == ref


@pytest.mark.parametrize(
    "text", ["#7", "a#", "a#x", "a#-1", "a#1#2", "a#٣", "a#1 ", "a#" + "9" * 19, "a#" + "9" * 9999]
)
def test_a_bad_number_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_build_ref(text)
    assert caught.value.message == f"bad build {text!r}"
    assert caught.value.hint == "write it as job#number, such as web/test#7"


def test_what_names_no_build_is_refused() -> None:
    for text in ("", "a b", "../x"):
        with pytest.raises(InputError) as caught:
            parse_build_ref(text)
        assert caught.value.message == f"bad build {text!r}"
        assert caught.value.hint == "job#number, a job's name, or an id's prefix"
