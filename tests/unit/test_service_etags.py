"""Entity tags in conditional requests."""

import pytest

from rota.service.etags import is_among


@pytest.mark.parametrize(
    ("named", "strong", "weak"),
    [
        ('"a"', True, True),
        ("a", True, True),
        ('"b", "a"', True, True),
        ('"b","a"', True, True),
        ("b,a", True, True),
        ('W/"a"', False, True),
        ('W/"a", "b"', False, True),
        ('W/"a", "a"', True, True),
        ("*", True, True),
        (" * ", True, True),
        ('"*"', False, False),
        ('"b"', False, False),
        ('"a,b"', False, False),
        ('"ab"', False, False),
        ('""', False, False),
        ("", False, False),
        ('"a', True, True),
    ],
)
def test_a_tag_is_found_among_those_named(named: str, strong: bool, weak: bool) -> None:
    assert is_among("a", named, weak=False) is strong
    assert is_among("a", named, weak=True) is weak


@pytest.mark.parametrize("named", ["*", '"a"', "", "None"])
def test_nothing_names_what_is_not_there(named: str) -> None:
    assert not is_among(None, named, weak=True)
