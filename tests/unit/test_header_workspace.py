"""What a header may say of the workspace."""

import pytest

from rota.core.header import parse_header
from rota.core.workspace import Workspace


def text_of(line: str) -> str:
    return f"#!/bin/sh\n# /// script\n# [tool.rota]\n# {line}\n# ///\n"


def test_a_header_says_when_and_for_how_long_a_workspace_is_kept() -> None:
    line = 'workspace = { keep = "on-failure", for = "2h" }'
    job, problems = parse_header(text_of(line), name="j", path="j")
    assert problems == ()
    assert job is not None
    assert job.spec.workspace == Workspace(keep="on-failure", for_s=7200)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            'workspace = "always"',
            (
                'j:4:15: workspace must be a table, not a string (such as workspace = { keep = "on-failure",'
                ' for = "2h" })'
            ),
        ),
        (
            "workspace = {}",
            (
                'j:4:15: workspace is empty, so that it says nothing (such as workspace = { keep = "on-failure",'
                ' for = "2h" })'
            ),
        ),
        (
            'workspace = { keep = "on-fail" }',
            "j:4:24: workspace.keep cannot be 'on-fail' (did you mean 'on-failure'?)",
        ),
        (
            'workspace = { keep = "never", for = "2h" }',
            "j:4:39: workspace.for says how long what is never kept is kept (leave it out)",
        ),
        (
            'workspace = { for = "90d" }',
            "j:4:23: workspace.for must be at most 30d, not '90d' (such as for = \"2h\")",
        ),
        (
            'workspace = { hold = "1h" }',
            "j:4:17: unknown key workspace.hold (known: keep, for)",
        ),
    ],
)
def test_a_fault_is_told_with_its_place(line: str, fault: str) -> None:
    job, problems = parse_header(text_of(line), name="j", path="j")
    assert job is None
    assert [str(problem) for problem in problems] == [fault]
