"""Which kept workspaces have to go, for any of them and any limits."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from rota.core.kept import Kept, Limits, is_wanted, surplus, until
from rota.core.states import Result
from rota.core.workspace import Workspace

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@st.composite
def keeps(draw: st.DrawFn) -> list[Kept]:
    facts = st.tuples(st.integers(0, 50), st.integers(-5, 20), st.booleans(), st.integers(0, 9))
    return [
        Kept(
            build=f"b{number}",
            attempt=1,
            kept_at=NOW - timedelta(minutes=age),
            until=NOW + timedelta(minutes=left),
            is_asked=asked,
            bytes=size or None,
        )
        for number, (age, left, asked, size) in enumerate(draw(st.lists(facts, max_size=12)))
    ]


LIMITS = st.builds(
    Limits, count=st.integers(0, 8), bytes=st.integers(0, 30), unasked=st.integers(0, 6)
)


@given(keeps(), LIMITS, st.sets(st.integers(0, 11)))
def test_what_stays_is_within_the_limits_and_nothing_goes_without_need(
    kept: list[Kept], limits: Limits, inside: set[int]
) -> None:
    busy = {(f"b{number}", 1) for number in inside}
    going = surplus(kept, limits, NOW, busy)
    stays = [it for it in kept if it not in going]
    assert not [it for it in going if it.key in busy]
    idle = [it for it in stays if it.key not in busy]
    assert all(it.until > NOW for it in idle)
    # Whatever is above a limit is there because somebody is in all that is left.
    if len(stays) > limits.count or sum(it.bytes or 0 for it in stays) > limits.bytes:
        assert not idle
    unasked = [it for it in stays if not it.is_asked and it.until > NOW]
    if len(unasked) > limits.unasked:
        assert len([it for it in unasked if it.key not in busy]) <= limits.unasked
    # A second look finds nothing more to do.
    assert surplus(stays, limits, NOW, busy) == []
    # The younger of two of a kind goes only where the older one does, or somebody is in that.
    for it in going:
        if it.until > NOW and not it.is_asked:
            older = [o for o in idle if not o.is_asked and o.kept_at < it.kept_at]
            assert not older


@given(keeps())
def test_what_is_just_within_the_limits_stays(kept: list[Kept]) -> None:
    size, unasked = sum(it.bytes or 0 for it in kept), sum(not it.is_asked for it in kept)
    just = Limits(count=len(kept), bytes=size, unasked=unasked)
    over = {it.build for it in kept if it.until <= NOW}
    assert {it.build for it in surplus(kept, just, NOW)} == over


@given(keeps(), LIMITS)
def test_what_was_asked_for_outlives_what_was_not(kept: list[Kept], limits: Limits) -> None:
    going = surplus(kept, limits, NOW)
    if any(it.is_asked and it.until > NOW for it in going):
        assert not [it for it in kept if it not in going and not it.is_asked]


@given(st.sampled_from(["", "on-failure", "always", "never"]), st.sampled_from(list(Result)))
def test_a_workspace_is_kept_as_was_said(keep: str, result: Result) -> None:
    wanted = is_wanted(Workspace(keep=keep), result)  # type: ignore[arg-type]
    failed = result is not Result.PASSED
    assert wanted is {"always": True, "never": False, "on-failure": failed}.get(
        keep, None if failed else False
    )


def test_its_time_is_the_jobs_or_the_settings() -> None:
    limits = Limits(age_s=60)
    assert until(Workspace(), limits, NOW) == NOW + timedelta(seconds=60)
    assert until(Workspace(keep="always", for_s=5), limits, NOW) == NOW + timedelta(seconds=5)
