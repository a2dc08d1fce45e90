"""What a header may reach that somebody writes who may not everything."""

from __future__ import annotations

import pytest

from rota.core.header import parse_header
from rota.core.reach import reach_faults
from rota.core.rights import Grant, Rights, Role

CHO = Rights(Role.NONE, [Grant(("web/**",), Role.MAINTAINER), Grant(("db/?",), Role.VIEWER)])


@pytest.mark.parametrize(
    ("header", "faults"),
    [
        ('needs = ["web/build"]', []),
        ('needs = ["db/build"]', ["needs db/build, and for that one must be a builder of it"]),
        ('needs = ["db/x"]', ["needs db/x, and for that one must be a builder of it"]),
        ('on = [{ after = "web/build" }]', []),
        ('on = [{ after = "web/*" }]', []),
        ('on = [{ after = "web/**" }]', []),
        ('on = [{ after = "db/x" }]', []),
        (
            'on = [{ after = "db/*" }]',
            ["is set off after db/*, and for that one must be a viewer of it"],
        ),
        (
            'on = [{ after = "**" }]',
            ["is set off after **, and for that one must be a viewer of it"],
        ),
        (
            'on = [{ after = "w*" }]',
            ["is set off after w*, and for that one must be a viewer of it"],
        ),
        ('on = [{ cron = "0 3 * * *" }]', []),
    ],
)
def test_who_may_not_run_a_job_has_no_other_run_it(header: str, faults: list[str]) -> None:
    script = f"# /// script\n# [tool.rota]\n# {header}\n# ///\n"
    job, problems = parse_header(script, name="web/a", path="jobs/web/a")
    assert job is not None, problems
    assert list(reach_faults(job, CHO.on)) == faults
    assert list(reach_faults(job, Rights(Role.BUILDER).on)) == []
