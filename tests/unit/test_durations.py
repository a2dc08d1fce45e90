"""Durations and sizes, read and printed."""

from __future__ import annotations

import pytest

from rota.core.durations import format_duration, parse_duration
from rota.core.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("20m", 1200),
        ("2h", 7200),
        ("1d", 86400),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1d2h3m4s5ms", 93784.005),
        ("1.5h", 5400),
        ("0s", 0),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("90", "'90' has no unit, write 90s or 90m"),
        ("", "'' is not a duration, write it as 30s, 20m, 1h30m or 2d"),
        ("20 m", "'20 m' is not a duration, write it as 30s, 20m, 1h30m or 2d"),
        ("-5s", "'-5s' is not a duration, write it as 30s, 20m, 1h30m or 2d"),
        ("20M", "'20M' is not a duration, write it as 30s, 20m, 1h30m or 2d"),
        ("30m1h", "'30m1h' is not a duration, write it as 30s, 20m, 1h30m or 2d"),
        ("1h1h", "'1h1h' is not a duration, write it as 30s, 20m, 1h30m or 2d"),
        ("inf", "'inf' is not a duration, write it as 30s, 20m, 1h30m or 2d"),
        ("٣s", "'٣s' is not a duration, write it as 30s, 20m, 1h30m or 2d"),
    ],
)
def test_what_is_no_duration_is_told(text: str, fault: str) -> None:
    assert parse_duration(text) == fault


def test_a_long_text_is_cut_in_its_fault() -> None:
    fault = parse_duration("9" * 100_000)
    assert isinstance(fault, str)
    assert len(fault) < 120


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0004, "0s"),
        (0.25, "250ms"),
        (0.9996, "1s"),
        (1, "1s"),
        (4.24, "4.2s"),
        (59.96, "1m"),
        (65, "1m5s"),
        (5400, "1h30m"),
        (3599.6, "1h"),
        (172800, "2d"),
        (90061, "1d1h1m1s"),
        (-4.2, "-4.2s"),
    ],
)
def test_a_duration_is_printed_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("8589934592", 8 << 30),
        ("8G", 8 << 30),
        ("8GB", 8 << 30),
        ("8GiB", 8 << 30),
        ("1.5K", 1536),
        ("2T", 2 << 40),
        ("512M", 512 << 20),
        ("1.5", None),
        ("8g", None),
        ("G", None),
        ("-1", None),
        ("", None),
        ("9" * 5000, None),
    ],
)
def test_a_size_is_read_in_bytes(text: str, size: int | None) -> None:
    assert parse_size(text) == size
