"""Metrics: told by a script, and followed over a job's builds."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.commands.step import escaped, print_line
from rota.cli.render import Cell, Look, ago, duration, size, table
from rota.cli.screen import Screen
from rota.cli.sparkline import sparkline
from rota.errors import InputError


def metric(args: Namespace, screen: Screen) -> int:
    """Tell a metric of the build that runs, by a line in its log."""
    from rota.core.metric_line import MetricError, checked

    try:
        name, value, unit = checked(args.name, args.value, args.unit or "")
    except MetricError as error:
        raise InputError(str(error), hint="rota metric size 12345 --unit B") from error
    told = f",unit={escaped(unit, inside=True)}" if unit else ""
    print_line(f"::metric name={escaped(name, inside=True)}{told}::{value!r}")
    return 0


def metrics(args: Namespace, screen: Screen) -> int:
    """Show the metrics of a job's builds."""
    answer = connected(args).call(
        "metrics", job=args.job, name=args.name, builds=args.builds, branch=args.branch
    )
    if args.json:
        screen.json(answer)
        return 0
    found = answer.json()
    look = screen.at(answer)
    if len(found) == 1 and args.name:
        screen.lines(_points(found[0], look))
    else:
        screen.lines(table([_row(it, look) for it in found], look, shrink=(1,)))
    if not found and screen.out.is_terminal:
        screen.note(f"no build of {args.job} has finished")
    return 0


def _row(it: dict[str, Any], look: Look) -> tuple[Cell, ...]:
    values = [point["value"] for point in it["points"]]
    row = [
        Cell(it["name"], "bold"),
        Cell(sparkline(values, look) if look.is_terminal else "", "cyan"),
        Cell(value_text(it["last"], it["unit"], look), right=True),
        Cell(_change(it["change"], it["unit"], look), right=True),
        Cell(_against_main(it, look), "dim"),
    ]
    return tuple(row if look.is_terminal else row[:1] + row[2:])


def _points(it: dict[str, Any], look: Look) -> list[str]:
    """Return the last points of one metric, newest first, below its picture."""
    lines = table([_row(it, look)], look) if look.is_terminal else []
    rows = []
    values = [point["value"] for point in it["points"]]
    for place, point in reversed(list(enumerate(it["points"]))):
        change = point["value"] - values[place - 1] if place else None
        rows.append(
            (
                Cell(point["build"], "bold"),
                Cell(value_text(point["value"], it["unit"], look), right=True),
                Cell(_change(change, it["unit"], look), right=True),
                Cell(point["branch"], "dim"),
                Cell(ago(look, point["at"]), "dim"),
            )
        )
    return lines + table(rows, look, shrink=(3,))


def value_text(value: float, unit: str, look: Look) -> str:
    """Return a value with its unit; as a person says it on a terminal."""
    if not look.is_terminal:
        return f"{value:.10g}{unit}"
    if unit == "s":
        return ("-" if value < 0 else "") + duration(abs(value))
    if unit == "B" and value == int(value):
        return ("-" if value < 0 else "") + size(abs(int(value)))
    digits = "," if value == int(value) and abs(value) < 1e15 else ",.6g"
    return f"{int(value) if digits == ',' else value:{digits}} {unit}".rstrip()


def _change(change: float | None, unit: str, look: Look) -> str:
    if change is None:
        return ""
    if change == 0:
        return "="
    if unit == "s" and look.is_terminal and abs(change) < 1:
        return f"{change:+.2f}s"
    return ("+" if change > 0 else "") + value_text(round(change, 4), unit, look)


def _against_main(it: dict[str, Any], look: Look) -> str:
    text = _change(it["change_main"], it["unit"], look)
    return f"{text} against main" if text and look.is_terminal else text
