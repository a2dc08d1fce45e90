"""Trees of builds, as they are drawn."""

from __future__ import annotations

from typing import Any

from rota.cli.commands.jobs import job_lines
from rota.cli.render import Look, builds_table
from rota.cli.tree import edge_text, nested, tree_lines

WIDE = Look(width=80)


def branch(depth: int, name: str, **more: Any) -> dict[str, Any]:
    job, _, number = name.partition("#")
    plain: dict[str, Any] = {
        "cell": {},
        "state": "finished",
        "result": "passed",
        "message": "",
        "agent": None,
    }
    return {"depth": depth, "job": job, "number": int(number), **plain, **more}


TREE = {
    "builds": [
        branch(0, "top#1"),
        branch(1, "m#4", result="failed", message="1 failed, 1 passed"),
        branch(2, "m#2", cell={"os": "linux", "fast": True}),
        branch(2, "m#3", result="failed"),
        branch(1, "unit#1", state="running", result=None, agent="p"),
    ]
}


def test_a_tree_has_lines_from_each_build_to_those_below_it() -> None:
    assert [line.rstrip() for line in tree_lines(TREE, WIDE)] == [
        "top#1      ✓ passed",
        "├─ m#4     ✗ failed   1 failed, 1 passed",
        "│  ├─ m#2  ✓ passed   os=linux fast=true",
        "│  └─ m#3  ✗ failed",
        "└─ unit#1  ● running  on p",
    ]


def test_a_tree_is_ascii_where_the_terminal_is_and_cut_to_its_width() -> None:
    lines = tree_lines(TREE, Look(width=40, unicode=False))
    assert lines[1].startswith("|- m#4")
    assert lines[3].startswith("|  `- m#3")
    assert max(map(len, lines)) <= 40


def test_in_a_pipe_a_tree_is_indented() -> None:
    assert tree_lines(TREE, Look())[2] == "    m#2  passed  -  os=linux fast=true"


def test_a_list_shows_what_belongs_together_and_leaves_the_rest_where_it_is() -> None:
    def build(id_: str, parent: str = "", number: int = 1) -> dict[str, Any]:
        made = {"id": id_, "job": id_, "number": number, "state": "held", "attempt": 0}
        return {**made, "parent": parent, "requested_at": "2026-11-28T05:00:00Z", "trigger": {}}

    listed = [build("b", "a"), build("x"), build("c", "a"), build("a"), build("y", "gone")]
    ordered, stems = nested(listed, WIDE)
    assert [stem + it["id"] for stem, it in zip(stems, ordered, strict=True)] == [
        "x", "a", "├─ c", "└─ b", "y",
    ]  # fmt: skip
    assert [it["id"] for it in nested(listed, Look())[0]] == ["b", "x", "c", "a", "y"]
    assert builds_table(ordered, WIDE, stems)[2].startswith("├─ c#1")


def test_an_edge_says_how_it_is() -> None:
    assert edge_text({"job": "a", "number": 3, "result": "passed"}) == "a#3 passed"
    assert edge_text({"job": "a", "artifacts": ["d/*"]}) == "a not ended for d/*"


def test_a_job_shows_what_it_needs_its_matrix_and_what_it_supersedes() -> None:
    job = {
        "name": "m", "description": "", "paused": None, "params": {}, "etag": "e",
        "spec": {"supersede": "running"}, "supersede_key": "{branch}",
        "needs": [
            {"job": "a"},
            {"job": "b", "results": ["passed", "failed"], "params": {"n": "{n}"},
             "artifacts": ["d/*"], "optional": True},
        ],
        "matrix": {"cells": [{"n": 1, "os": "x"}, {"n": 2, "os": "x"}], "max_parallel": 1},
    }  # fmt: skip
    assert job_lines(job, Look()) == [
        "job         m",
        "needs       a passed",
        "needs       b passed or failed, with n={n}, for d/*, optional",
        "matrix      2 cells of n, os, max_parallel 1",
        "supersedes  queued and running builds of one {branch}",
        "etag        e",
    ]
