"""Tests: of a build, and of a job over its builds."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.render import (
    Cell,
    Look,
    ago,
    cell_text,
    clean,
    colour_of,
    duration,
    paint,
    table,
    tally_text,
)
from rota.cli.screen import Screen
from rota.cli.sparkline import sparkline
from rota.client.client import Client
from rota.errors import InputError, NotFoundError

#: Lines of each kind that are printed unless --all is given.
SOME = 20
SLOW = 10
SIGNS = {
    "passed": ("✓", "+", "green"),
    "failed": ("✗", "x", "red"),
    "errored": ("!", "!", "red"),
    "skipped": ("-", "-", "yellow"),
}


def tests(args: Namespace, screen: Screen) -> int:
    """Show the tests of a build, or of a job."""
    client = connected(args)
    missing = None
    if "#" not in args.what:
        try:
            return _of_job(client, args, screen)
        except NotFoundError as error:
            if args.case or args.builds is not None:
                raise
            missing = error
    try:
        return _of_build(client, args, screen)
    except NotFoundError as error:
        # `nosuch` may be meant for either: what is said of jobs has the names that are near.
        raise (missing if missing is not None and "no build" in error.message else error) from None


# -- of a build ---------------------------------------------------------------------------------


def _of_build(client: Client, args: Namespace, screen: Screen) -> int:
    for name in ("case", "builds"):
        if getattr(args, name) is not None:
            raise InputError(
                f"--{name} is for the tests of a job over its builds, and {args.what} is a build",
                hint=f"rota tests {args.what.partition('#')[0]} --{name} …",
            )
    is_all = args.all or bool(args.match)
    answer = client.call(
        "tests",
        build=args.what,
        attempt=args.attempt,
        match=args.match,
        bad=None if is_all else True,
        limit=args.limit if args.limit is not None else (10_000 if is_all else 1000),
    )
    if args.json:
        screen.json(answer)
        return 0
    view = answer.json()
    look = screen.at(answer)
    if not look.is_terminal:
        screen.lines(table([_case_row(case) for case in view["cases"]], look))
        screen.lines(table([_cell_row(cell, look) for cell in view["cells"]], look))
        return 0
    screen.lines(build_lines(view, look, every=is_all))
    return 0


def build_lines(view: dict[str, Any], look: Look, *, every: bool) -> Iterator[str]:
    """Yield what there is to say of a build's tests."""
    tally = view["tests"]
    yield f"{paint(look, 'bold', clean(view['build']))}: {tally_text(tally, look)}"
    if view["cells"]:
        yield from table([_cell_row(cell, look) for cell in view["cells"]], look, shrink=(0, 1))
        yield from _cell_failures(view["cells"], look)
        return
    known = {"new": set(view["new"]), "flaky": set(view["flaky"])}
    cases = view["cases"] if not view["gone"] else tally.get("failures", [])
    shown = cases if every else cases[:SOME]
    for case in shown:
        yield from _case_lines(case, look, known)
    if len(shown) < len(cases):
        yield paint(look, "dim", f"and {len(cases) - len(shown)} more: --all")
    if view["gone"]:
        yield paint(look, "yellow", f"single tests cannot be listed: {clean(view['gone'])}")
    if view["fixed"]:
        yield ""
        yield f"fixed since {view['former']}:"
        yield from (f"  {clean(title)}" for title in view["fixed"][:SOME])
    slow = [case for case in view["slowest"] if case.get("duration_s", 0) >= 0.1][:SLOW]
    if slow and not every:
        yield ""
        yield "slowest:"
        rows = [(Cell(duration(it["duration_s"]), right=True), Cell(it["test"])) for it in slow]
        yield from (f"  {line}" for line in table(rows, look._replace(width=_less(look, 2)), (1,)))


def _case_lines(case: dict[str, Any], look: Look, known: dict[str, set[str]]) -> Iterator[str]:
    outcome = case.get("outcome", "failed")
    sign, plain, colour = SIGNS[outcome]
    title = case["test"]
    notes = [note for note, titles in known.items() if title in titles]
    if case.get("flaky") and "flaky" not in notes:
        notes.append("flaky")
    line = f"{paint(look, colour, sign if look.unicode else plain)} {clean(title)}"
    if case.get("duration_s", 0) >= 0.1:
        line += paint(look, "dim", f"  {duration(case['duration_s'])}")
    yield line + (paint(look, "yellow", f"  {', '.join(notes)}") if notes else "")
    if case.get("message") and outcome != "passed":
        lines = case["message"].split("\n")
        yield from (f"    {clean(each)}" for each in lines[:5])
    where = _where(case)
    if where:
        yield paint(look, "dim", f"    {where}")


def _where(case: dict[str, Any]) -> str:
    parts = []
    if case.get("file"):
        parts.append(
            f"{clean(case['file'])}:{case['line']}" if case.get("line") else clean(case["file"])
        )
    if case.get("offset") is not None:
        parts.append(f"in the log: --offset {case['offset']}")
    return ", ".join(parts)


def _case_row(case: dict[str, Any]) -> tuple[Cell, ...]:
    return (
        Cell(case["outcome"]),
        Cell(f"{case.get('duration_s', 0):g}"),
        Cell(case["test"]),
        Cell(f"{case['file']}:{case.get('line', 0)}" if case.get("file") else ""),
        Cell(case.get("message", "")),
    )


def _cell_row(cell: dict[str, Any], look: Look) -> tuple[Cell, ...]:
    tally = cell["tests"]
    return (
        Cell(cell["build"], "bold"),
        Cell(cell_text(cell["cell"])),
        Cell(cell["result"], colour_of(cell["result"])),
        Cell(tally_text(tally, look._replace(color=False)) if tally else "no tests"),
    )


def _cell_failures(cells: Sequence[dict[str, Any]], look: Look) -> Iterator[str]:
    """Yield each test that failed in some cell, and in which."""
    failed: dict[str, list[str]] = {}
    for cell in cells:
        for failure in (cell["tests"] or {}).get("failures", ()):
            failed.setdefault(failure["test"], []).append(cell_text(cell["cell"]))
    if failed:
        yield ""
    ordered = sorted(failed.items(), key=lambda it: (-len(it[1]), it[0]))
    for test, where in ordered[:SOME]:
        mark = paint(look, "red", SIGNS["failed"][0 if look.unicode else 1])
        which = "in all cells" if len(where) == len(cells) > 1 else f"in {'; '.join(where)}"
        yield f"{mark} {clean(test)}  {paint(look, 'dim', clean(which))}"
    if len(ordered) > SOME:
        yield paint(look, "dim", f"and {len(ordered) - SOME} more")


# -- of a job -----------------------------------------------------------------------------------


def _of_job(client: Client, args: Namespace, screen: Screen) -> int:
    if args.attempt is not None:
        raise InputError("--attempt is for the tests of one build", hint="rota tests JOB#N")
    answer = client.call(
        "test_history",
        job=args.what,
        case=args.case or args.match,
        builds=args.builds,
        limit=args.limit,
    )
    if args.json:
        screen.json(answer)
        return 0
    view = answer.json()
    look = screen.at(answer)
    if view["case"] is not None:
        screen.lines(_history_of_one(view, look))
    elif not view["builds"]:
        screen.note(_nothing(view))
    else:
        screen.lines(job_lines(view, look))
    return 0


def _nothing(view: dict[str, Any]) -> str:
    if view["missing"]:
        return f"the tests of {view['missing']} builds are no longer kept"
    return f'no build of {view["job"]} reported tests: tests = ["reports/*.xml"] in its header'


def job_lines(view: dict[str, Any], look: Look) -> Iterator[str]:
    """Yield what there is to say of a job's tests."""
    if not look.is_terminal:
        for kind in ("failing", "flaky", "slowest"):
            rows = [(Cell(kind), *_standing_row(it, look, kind)) for it in view[kind]]
            yield from table(rows, look)
        return
    builds = f"{view['builds']} build{'' if view['builds'] == 1 else 's'}"
    passing = "" if view["passing"] is None else f", {view['passing']:.2%} passed"
    missing = f"; of {view['missing']} more single tests are not kept" if view["missing"] else ""
    name = paint(look, "bold", clean(view["job"]))
    yield f"{name}: {view['tests']} tests in {builds}{passing}{missing}"
    heads = {
        "failing": "failing:",
        "flaky": "flaky (passed and failed with nothing else different):",
        "slowest": "slowest:",
    }
    for kind, head in heads.items():
        found = view[kind] if kind != "slowest" else view[kind][:SLOW]
        if found:
            yield ""
            yield head
            rows = [_standing_row(it, look, kind) for it in found]
            inner = look._replace(width=_less(look, 2))
            yield from (f"  {line}" for line in table(rows, inner, shrink=(len(rows[0]) - 1,)))


def _standing_row(it: dict[str, Any], look: Look, kind: str) -> tuple[Cell, ...]:
    failed = f"{it['failed']} of {it['ran']}"
    match kind:
        case "failing":
            return (
                Cell(failed, "red", right=True),
                Cell(f"since {it['since']}" if look.is_terminal else it["since"], "dim"),
                Cell(it["test"]),
            )
        case "flaky":
            times = f"{it['flaky']} x" if look.is_terminal else str(it["flaky"])
            return (
                Cell(times, "yellow", right=True),
                Cell(f"failed {failed}" if look.is_terminal else failed, right=True),
                Cell(f"last {it['last_failed']}" if it["last_failed"] else "", "dim"),
                Cell(it["test"]),
            )
        case _:
            if not look.is_terminal:
                return (Cell(f"{it['duration_s']:g}"), Cell(it["test"]))
            return (
                Cell(duration(it["duration_s"]), right=True),
                Cell(sparkline(it["durations_s"], look, 15), "cyan"),
                Cell(it["test"]),
            )


def _history_of_one(view: dict[str, Any], look: Look) -> Iterator[str]:
    case = view["case"]
    if look.is_terminal:
        flaky = f", flaky {case['flaky']} x" if case["flaky"] else ""
        line = f"failed {case['failed']} of {case['ran']} times{flaky}"
        yield f"{paint(look, 'bold', clean(case['test']))}: {line}"
        if case["durations_s"]:
            picture = paint(look, "cyan", sparkline(case["durations_s"], look))
            yield f"takes {duration(case['duration_s'])}  {picture}"
    rows = []
    for run in view["runs"]:
        outcome = "flaky" if run.get("flaky") else run["outcome"]
        sign, plain, colour = SIGNS.get(outcome, ("~", "~", "yellow"))
        word = f"{sign if look.unicode else plain} {outcome}" if look.is_terminal else outcome
        rows.append(
            (
                Cell(run["build"], "bold"),
                Cell(
                    f"attempt {run['attempt']}" if look.is_terminal else str(run["attempt"]), "dim"
                ),
                Cell(word, colour),
                Cell(duration(run["duration_s"]), right=True),
                Cell(ago(look, run["at"]), "dim"),
                Cell(run["revision"][:8], "dim"),
            )
        )
    yield from table(rows, look)


def _less(look: Look, columns: int) -> int | None:
    return None if look.width is None else max(look.width - columns, 10)
