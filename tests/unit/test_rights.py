"""What a role, rules for some jobs, and a token's scope come to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.core.rights import Grant, Rights, Role

WEB = Grant(("web/**",), Role.MAINTAINER)
NAMES = st.lists(st.sampled_from(("web", "db", "test", "a")), min_size=1, max_size=3).map("/".join)
GLOBS = st.sampled_from(("**", "web/**", "*/test", "web/test", "db/*", "web"))
ROLES = st.sampled_from(Role)
GRANTS = st.lists(
    st.builds(Grant, st.lists(GLOBS, min_size=1, max_size=2).map(tuple), ROLES), max_size=4
)


def test_a_rule_adds_to_the_role_on_its_jobs_alone() -> None:
    ann = Rights(Role.NONE, [WEB])
    assert ann.on("web/test") is Role.MAINTAINER
    assert ann.on("web") is Role.MAINTAINER
    assert ann.on("website/test") is Role.NONE
    assert ann.everywhere is Role.NONE
    assert ann.anywhere is Role.MAINTAINER
    assert not ann.sees_all
    assert Rights(Role.ADMIN, [WEB]).on("web/test") is Role.ADMIN


def test_a_token_takes_away_and_adds_nothing() -> None:
    assert Rights(Role.ADMIN, cap=Role.VIEWER).on("web/test") is Role.VIEWER
    kept = Rights(Role.ADMIN, within=("web/**",))
    assert kept.on("web/test") is Role.ADMIN
    assert kept.on("db/test") is Role.NONE
    assert kept.everywhere is Role.NONE
    assert Rights(Role.BUILDER, [WEB], within=("**",)).everywhere is Role.BUILDER


@given(ROLES, GRANTS, ROLES, st.lists(GLOBS, max_size=2).map(tuple), NAMES)
def test_no_scope_gives_more_than_the_user_has(
    role: Role, grants: list[Grant], cap: Role, within: tuple[str, ...], job: str
) -> None:
    user, token = Rights(role, grants), Rights(role, grants, cap=cap, within=within)
    assert token.on(job) <= min(user.on(job), cap)
    assert token.on(job) == token.on(job)  # also the second time, when it is remembered
    assert token.everywhere <= min(role, cap)
    assert token.everywhere <= token.on(job) or not within
    assert token.anywhere >= token.on(job)


@pytest.mark.parametrize("role", list(Role))
def test_each_role_can_be_named_in_a_sentence(role: Role) -> None:
    assert role.title in ("without a role", "a viewer", "a builder", "a maintainer", "an admin")
