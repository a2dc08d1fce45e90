"""What a push needs, file by file."""

from __future__ import annotations

import pytest

from rota.core.pushed_paths import changed_paths, needed_for
from rota.core.rights import Role


@pytest.mark.parametrize(
    ("path", "role", "job"),
    [
        ("users/ann.toml", Role.ADMIN, ""),
        ("settings.toml", Role.ADMIN, ""),
        ("jobs/web/test", Role.MAINTAINER, "web/test"),
        ("paused/web/test", Role.MAINTAINER, "web/test"),
        ("hooks/x.toml", Role.MAINTAINER, ""),
        ("secrets/X.toml", Role.MAINTAINER, ""),
        ("promoted/v1.json", Role.MAINTAINER, ""),
        ("README.md", Role.MAINTAINER, ""),
        ("docs/settings.toml", Role.MAINTAINER, ""),
    ],
)
def test_each_file_needs_its_role(path: str, role: Role, job: str) -> None:
    needed = needed_for(path)
    assert (needed.role, needed.job) == (role, job)
    assert str(needed) == f"{role.title} of {job or 'everything'}"


def test_what_comes_goes_or_is_another_was_changed() -> None:
    before = {"a": "1", "b": "2", "c": "3"}
    assert changed_paths(before, {"a": "1", "b": "9", "d": "4"}) == ["b", "c", "d"]
    assert changed_paths(before, before) == []
