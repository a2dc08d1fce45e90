from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rota.core.moments import parse_moment
from rota.errors import InputError

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("", None),
        ("2h", NOW - timedelta(hours=2)),
        ("2026-11-24T12:00:00Z", datetime(2026, 11, 24, 12, tzinfo=UTC)),
        ("2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
    ],
)
def test_a_moment_is_a_time_or_so_long_ago(text: str, moment: datetime | None) -> None:
    assert parse_moment(text, NOW, "after") == moment


@pytest.mark.parametrize("text", ["yesterday", "20", "999999999d", "2026-13-01"])
def test_what_is_no_moment_is_named(text: str) -> None:
    with pytest.raises(InputError, match=f"bad after '{text}'"):
        parse_moment(text, NOW, "after")
