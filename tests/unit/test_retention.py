"""What is kept of what builds left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota.core.build import Artifact, Attempt, Build
from rota.core.job import Job, Keep, Reason, Spec
from rota.core.retention import (
    Limits,
    Remains,
    Removed,
    Room,
    Sieve,
    Swept,
    by_rule,
    judge_artifacts,
    limits_of,
    longest_logs_s,
    noted,
    remains_of,
)
from rota.core.settings import Artifacts, Logs, Settings
from rota.core.states import Result, State

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = 86_400.0
EVER = Limits(1e8, "logs.max_age", 1e8, "artifacts.max_age")


def left(number: int, days: float, log: int = 10, files: int = 0) -> Remains:
    end = NOW - timedelta(days=days)
    return Remains(f"b{number}", "web", end, 1, log, 1 if files else 0, files)


def swept(limits: Limits, *builds: Remains) -> list[Swept]:
    sieve = Sieve(limits, NOW)
    return [gone for each in builds if (gone := sieve.judge(each))]


def with_(**changes: object) -> Limits:
    fields = {name: getattr(EVER, name) for name in EVER.__struct_fields__}
    return Limits(**{**fields, **changes})


def test_a_job_says_it_and_where_it_does_not_the_settings_do() -> None:
    cluster = Settings(logs=Logs(max_age_s=3 * DAY), artifacts=Artifacts(max_age_s=4 * DAY))
    assert limits_of(Keep(), cluster) == Limits(
        3 * DAY, "logs.max_age", 4 * DAY, "artifacts.max_age"
    )
    assert limits_of(Keep(logs_s=9 * DAY, builds=2, bytes=5), cluster) == Limits(
        9 * DAY, "keep.logs", 4 * DAY, "artifacts.max_age", 2, 5
    )
    assert limits_of(Keep(artifacts_s=1.0), cluster).artifacts_rule == "keep.artifacts"


def test_the_engine_keeps_logs_as_long_as_any_job_wants() -> None:
    jobs = [Job("a"), Job("b", spec=Spec(keep=Keep(logs_s=90 * DAY)))]
    assert longest_logs_s(Settings(), jobs) == 90 * DAY
    assert longest_logs_s(Settings(), jobs[:1]) == 30 * DAY
    assert longest_logs_s(Settings(), []) == 30 * DAY


def test_logs_and_artifacts_go_at_their_own_ages() -> None:
    limits = with_(logs_s=10 * DAY, artifacts_s=2 * DAY, artifacts_rule="keep.artifacts")
    assert swept(limits, left(3, 1, files=5), left(2, 3, files=5), left(1, 11, files=5)) == [
        Swept("b2", artifacts="keep.artifacts"),
        Swept("b1", logs="logs.max_age", artifacts="keep.artifacts"),
    ]


def test_nothing_is_said_of_what_was_never_there() -> None:
    limits = with_(logs_s=DAY, artifacts_s=DAY)
    assert swept(limits, left(1, 2)) == [Swept("b1", logs="logs.max_age")]


def test_only_so_many_last_builds_keep_theirs() -> None:
    builds = [left(number, 10 - number, files=1) for number in (5, 4, 3, 2)]
    assert swept(with_(builds=2), *builds) == [
        Swept("b3", logs="keep.builds", artifacts="keep.builds"),
        Swept("b2", logs="keep.builds", artifacts="keep.builds"),
    ]


def test_beyond_so_many_bytes_the_older_ones_go() -> None:
    builds = [left(5, 1, 40), left(4, 2, 30, files=20), left(3, 3, 20), left(2, 4, 1)]
    assert swept(with_(bytes=100), *builds) == [
        Swept("b3", logs="keep.bytes"),
        Swept("b2", logs="keep.bytes"),
    ]


def test_the_newest_build_is_never_too_large() -> None:
    assert swept(with_(bytes=100), left(2, 1, 500), left(1, 2, 1)) == [
        Swept("b1", logs="keep.bytes")
    ]


def test_what_age_took_does_not_count_as_bytes() -> None:
    limits = with_(bytes=100, artifacts_s=DAY)
    old = left(1, 2, log=50, files=10**9)
    assert swept(limits, left(2, 0.5, 50), old) == [Swept("b1", artifacts="artifacts.max_age")]


def test_the_oldest_artifacts_of_the_cluster_go_when_it_has_no_room() -> None:
    room = Room(100)
    found = [judge_artifacts(room, left(n, 10 - n, files=60)) for n in (3, 2, 1)]
    assert found == [
        None,
        Swept("b2", artifacts="artifacts.max_bytes"),
        Swept("b1", artifacts="artifacts.max_bytes"),
    ]


def test_what_a_build_left_counts_all_its_attempts() -> None:
    build = Build(
        id="b",
        job="web",
        number=1,
        state=State.FINISHED,
        attempt=2,
        requested_at=NOW,
        finished_at=NOW,
        log_bytes=5,
        artifacts=(Artifact("a", 7, ""), Artifact("b", 0, "")),
        former=(Attempt(1, "x", Result.LOST, Reason.LOST, log_bytes=3),),
    )
    assert remains_of(build) == Remains("b", "web", NOW, 2, 8, 2, 7)


def test_a_build_that_never_ran_left_nothing() -> None:
    build = Build(
        id="b", job="w", number=1, state=State.FINISHED, requested_at=NOW, finished_at=NOW
    )
    assert remains_of(build) is None


def test_what_is_known_of_the_removed_adds_up() -> None:
    first = noted(Removed(), Swept("b", artifacts="keep.artifacts"), NOW)
    later = NOW + timedelta(days=1)
    assert noted(first, Swept("b", logs="logs.max_age"), later) == Removed(
        logs="logs.max_age", logs_at=later, artifacts="keep.artifacts", artifacts_at=NOW
    )


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("keep.builds", "its job's `keep.builds`"),
        ("logs.max_age", "the cluster's `logs.max_age`"),
    ],
)
def test_a_rule_is_said_in_words(rule: str, words: str) -> None:
    assert by_rule(rule) == words


_remains = st.lists(
    st.tuples(st.floats(0, 20), st.integers(0, 100), st.integers(0, 100)), max_size=30
)


@settings(deadline=None)
@given(
    _remains,
    st.one_of(st.none(), st.integers(1, 10)),
    st.one_of(st.none(), st.integers(1, 300)),
    st.floats(0, 20),
)
def test_a_sweep_leaves_what_is_within_the_limits_and_a_second_one_nothing_to_do(
    found: list[tuple[float, int, int]], builds: int | None, size: int | None, days: float
) -> None:
    limits = with_(builds=builds, bytes=size, logs_s=days * DAY)
    all_ = [left(n, age, log, files) for n, (age, log, files) in enumerate(sorted(found))]
    gone = {each.build: each for each in swept(limits, *all_)}
    kept = [
        Remains(
            it.build,
            it.job,
            it.finished_at,
            0 if it.build in gone and gone[it.build].logs else it.attempts,
            0 if it.build in gone and gone[it.build].logs else it.log_bytes,
            0 if it.build in gone and gone[it.build].artifacts else it.files,
            0 if it.build in gone and gone[it.build].artifacts else it.file_bytes,
        )
        for it in all_
    ]
    kept = [it for it in kept if it.attempts or it.files]
    assert swept(limits, *kept) == []
    assert builds is None or len(kept) <= builds
    sizes = [it.log_bytes + it.file_bytes for it in kept]
    used = [each for each in sizes if each]
    assert size is None or sum(used) <= max(size, used[0] if used else 0)
    assert all(newer.finished_at >= older.finished_at for newer, older in pairwise(kept))
