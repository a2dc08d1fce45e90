"""Cron expressions by chance, against two kept libraries where all three mean the same."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from croniter import croniter
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from rota.core.cron import cron_fault, parse_cron

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@st.composite
def items(draw: st.DrawFn, low: int, high: int, names: tuple[str, ...] = ()) -> str:
    named = bool(names) and draw(st.booleans())

    def value(number: int) -> str:
        return names[number - low] if named else str(number)

    form = draw(st.sampled_from(["one", "range", "steps", "open"]))
    first = draw(st.integers(low, high - 2))
    if form == "one":
        return value(first)
    step = draw(st.integers(1, high - low))
    if form == "open":
        return f"{first}/{step}"
    last = value(draw(st.integers(first + 1, high)))
    return f"{value(first)}-{last}" + (f"/{step}" if form == "steps" else "")


def fields(low: int, high: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    star = st.integers(1, (high - low + 1) // 2).map(lambda n: f"*/{n}")
    some = st.lists(items(low, high, names), min_size=1, max_size=3).map(",".join)
    return st.one_of(st.just("*"), star, some)


expressions = st.tuples(
    fields(0, 59), fields(0, 23), fields(1, 28), fields(1, 12, MONTHS), fields(0, 6, WEEKDAYS)
).map(" ".join)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2037, 1, 1)).map(  # noqa: DTZ001
    lambda it: it.replace(microsecond=0)
)


def ours(expression: str, after: datetime, count: int) -> list[datetime]:
    cron = parse_cron(expression)
    at = int((after.replace(tzinfo=UTC) - EPOCH).total_seconds())
    found = []
    for _ in range(count):
        following = cron.next(at)
        assert following is not None
        at = following
        found.append((EPOCH + timedelta(seconds=at)).replace(tzinfo=None))
    return found


@settings(max_examples=150, deadline=None)
@given(expressions, moments)
def test_cronsim_says_the_same(expression: str, after: datetime) -> None:
    """It is held against Debian's cron, and has its rule of stars in both days.

    But `1/2` of the week, which ends there with a second Sunday, the seventh day.
    """
    if re.search(r"(^|,)[0-9]+/", expression.split()[4]):
        return
    theirs = CronSim(expression, after)
    assert ours(expression, after, 4) == [next(theirs) for _ in range(4)]


@settings(max_examples=150, deadline=None)
@given(expressions, moments)
def test_croniter_says_the_same(expression: str, after: datetime) -> None:
    """But where one day begins with a star and a step, which it takes for an "or"."""
    day, weekday = expression.split()[2], expression.split()[4]
    if "*/" in day + weekday:
        return
    theirs = croniter(expression, after)
    assert ours(expression, after, 4) == [theirs.get_next(datetime) for _ in range(4)]


@given(st.text(alphabet="0123456789*/-,?LW#H() @jfmasondtuewh\x00é", max_size=40))
def test_no_text_is_more_than_bad(text: str) -> None:
    fault = cron_fault(text)
    assert fault is None or (fault[0] and fault[1] and 0 <= fault[2] <= len(text))
