"""Draws builds that belong together as trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rota.cli.render import (
    Cell,
    Look,
    cell_text,
    clean,
    colour_of,
    paint,
    ran,
    ref,
    sign,
    table,
    word,
)

#: (to the side, to the last at the side, past it, past the last) in Unicode and in ASCII.
_LINES = {True: ("├─ ", "└─ ", "│  ", "   "), False: ("|- ", "`- ", "|  ", "   ")}


def tree_lines(tree: Mapping[str, Any], look: Look) -> list[str]:
    """Return a line for each build of a tree, the root first.

    In a pipe what is below another one is indented by two spaces a level.
    """
    branches: Sequence[Mapping[str, Any]] = tree["builds"]
    stems = _stems([branch["depth"] for branch in branches], look)
    rows = [
        (
            Cell(stem + ref(dict(branch)), "bold"),
            Cell(sign(look, word(dict(branch))), colour_of(word(dict(branch)))),
            Cell(ran(look, dict(branch)), right=True),
            Cell(_about(branch), "dim"),
        )
        for stem, branch in zip(stems, branches, strict=True)
    ]
    return table(rows, look, shrink=(3, 0))


def nested(builds: Sequence[dict[str, Any]], look: Look) -> tuple[list[dict[str, Any]], list[str]]:
    """Return builds with those below others after them, and what to draw before each name.

    What has no other one above it in the list stays where it is; in a pipe all do.
    """
    if not look.is_terminal:
        return list(builds), [""] * len(builds)
    by_id = {build["id"]: build for build in builds}
    below: dict[str, list[dict[str, Any]]] = {}
    for build in reversed(builds):
        if build.get("parent") in by_id:
            below.setdefault(build["parent"], []).append(build)
    ordered: list[dict[str, Any]] = []
    depths: list[int] = []
    todo = [(build, 0) for build in reversed(builds) if build.get("parent") not in by_id]
    while todo:
        build, depth = todo.pop()
        ordered.append(build)
        depths.append(depth)
        todo += [(child, depth + 1) for child in reversed(below.get(build["id"], ()))]
    return ordered, _stems(depths, look)


def branch_line(branch: Mapping[str, Any], look: Look) -> str:
    """Return one line on how a build of a tree is: ``test#4 passed in 2s  python=3.12``."""
    what = word(dict(branch))
    line = f"{ref(dict(branch))} {paint(look, colour_of(what), sign(look, what))}"
    if branch.get("started_at") and branch.get("finished_at"):
        line += f" in {ran(look, dict(branch))}"
    about = _about(branch)
    return f"{line}  {clean(about)}" if about else line


def edge_text(edge: Mapping[str, Any]) -> str:
    """Return a build that another one waits for, or waited for: ``web/build#3 passed``."""
    name = f"{edge['job']}#{edge['number']}" if edge.get("number") else edge["job"]
    parts = [name, edge.get("result") or "not ended"]
    if edge.get("artifacts"):
        parts.append(f"for {' '.join(edge['artifacts'])}")
    return " ".join(parts)


def _about(branch: Mapping[str, Any]) -> str:
    parts = [cell_text(branch.get("cell") or {}), branch.get("message") or ""]
    if branch.get("state") == "running":
        parts.append(f"on {branch['agent']}")
    return "  ".join(part for part in parts if part)


def _stems(depths: Sequence[int], look: Look) -> list[str]:
    """Return what stands before each name, so that lines lead from each build to those below it."""
    if not look.is_terminal:
        return ["  " * depth for depth in depths]
    side, last, past, over = _LINES[look.unicode]
    stems = []
    goes_on: set[int] = set()  # levels on which a further one follows below
    for depth in reversed(depths):
        stem = "".join(past if level in goes_on else over for level in range(1, depth))
        if depth:
            stem += side if depth in goes_on else last
        stems.append(stem)
        goes_on = {level for level in goes_on if level < depth} | {depth}
    return stems[::-1]
