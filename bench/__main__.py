"""Runs the benches: `python -m bench [NAME…] [--quick] [--rounds N] [--json FILE]`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import signal
import sys
import tempfile
import textwrap
from pathlib import Path
from types import FrameType
from typing import Any

from bench import machine
from bench.case import Result, setting
from bench.cases import CASES, LONG
from bench.figure import WIDTH, Figure, header, median_of, row


def main() -> int:
    """Run what was asked for; print a table, and write all values down if a file is given."""
    options = _options()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has bytecode
    signal.signal(signal.SIGTERM, _leave)  # so that every agent is stopped on the way out
    with tempfile.TemporaryDirectory(prefix="rota-bench-", dir=options.folder) as name:
        folder = Path(name)
        report: dict[str, Any] = {"machine": machine.facts(folder), "cases": {}}
        print(_introduction(report["machine"]))
        print(header())
        for case in options.names or [case for case in CASES if case not in LONG]:
            report["cases"][case] = _case(case, folder, options)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(CASES)}; `cluster` is all of its group; without one, all but {', '.join(sorted(LONG))}",
    )
    parser.add_argument("--quick", action="store_true", help="all smaller: to see that it works")
    parser.add_argument("--rounds", type=int, default=1, help="repeat each, and take medians")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all values to a file")
    parser.add_argument("--folder", type=Path, help="where the agents work, on a real disk")
    options = parser.parse_args()
    options.names = [case for name in options.names for case in _meant(name, parser)]
    return options


def _meant(name: str, parser: argparse.ArgumentParser) -> list[str]:
    """Return the cases that a name stands for: one, or, as `cluster`, all of a group."""
    found = [name] if name in CASES else [case for case in CASES if case.startswith(f"{name}-")]
    if not found:
        parser.error(f"no bench {name!r}; there are {', '.join(CASES)}")
    return found


def _case(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run a case as often as asked for, print its rows, and return its part of the report."""
    rounds: list[Result] = []
    floors: list[dict[str, float]] = []
    for number in range(options.rounds):
        place = folder / f"{name}-{number}"
        now = setting(place, is_quick=options.quick)
        floors.append({"spawn_ms": now.spawn_ms, "sync_ms": now.sync_ms, "load": machine.load()})
        rounds.append(CASES[name](now))
        shutil.rmtree(place)
    figures = [median_of(same) for same in zip(*(r.figures for r in rounds), strict=True)]
    _print(figures, rounds[-1].notes)
    return {
        "figures": [_plain(figure) for figure in figures],
        "rounds": [
            {"floor": floor, "values": [f.value for f in r.figures], "notes": r.notes, "raw": r.raw}
            for floor, r in zip(floors, rounds, strict=True)
        ],
    }


def _plain(figure: Figure) -> dict[str, Any]:
    return {**dataclasses.asdict(figure), "ratio": figure.ratio, "verdict": figure.verdict}


def _print(figures: list[Figure], notes: list[str]) -> None:
    for figure in figures:
        print(row(figure))
    for note in notes:
        print(textwrap.fill(note, WIDTH, initial_indent="    ", subsequent_indent="    "))
    sys.stdout.flush()


def _introduction(facts: dict[str, Any]) -> str:
    text = (
        f"{facts['cores']} cores ({facts['processor']}), kernel {facts['kernel']}, "
        f"{facts['filesystem']}, Python {facts['python']}, git {facts['git']}, "
        f"load {machine.load():.1f}. One spawn is `sh -c true`, its output to a file."
    )
    return textwrap.fill(text, WIDTH) + "\n"


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
