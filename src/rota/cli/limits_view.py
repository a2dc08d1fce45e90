"""Limits, the queue, and what a build waits for, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rota.cli.render import Cell, Look, ago, clean, table

#: Agents that say the same are told of in one line; so many of them by name.
MAX_NAMED = 4


def why_lines(why: dict[str, Any], look: Look) -> list[str]:
    """Return the details of what a build waits for, each line indented."""
    lines = [
        f"  {clean(holder['build'])} has {_amount(holder['take'])} of {_name(wanting['limit'])}"
        f" on {clean(holder['agent'])} since {ago(look, holder['since'])}, token {holder['fence']}"
        for wanting in why.get("limits") or ()
        for holder in wanting["limit"].get("holders") or ()
    ]
    by_reason: dict[str, list[str]] = {}
    for one in why.get("refused") or ():
        by_reason.setdefault(clean(one["because"]), []).append(clean(one["agent"]))
    width = max((len(_few(names)) for names in by_reason.values()), default=0)
    lines += [f"  {_few(names).ljust(width)}  {reason}" for reason, names in by_reason.items()]
    return lines


def _few(names: Sequence[str]) -> str:
    if len(names) <= MAX_NAMED:
        return ", ".join(names)
    return f"{', '.join(names[: MAX_NAMED - 1])} and {len(names) - MAX_NAMED + 1} more"


def limits_lines(limits: Sequence[dict[str, Any]], look: Look) -> list[str]:
    """Return a table of limits, with a line for each holder, and who is in line."""
    rows: list[tuple[str, ...]] = []
    for limit in limits:
        capacity = limit["capacity"]
        used = limit.get("used", 0)
        waiting = limit.get("waiting", 0)
        line = [clean(it) for it in limit.get("line") or ()]
        text = f"{waiting} waiting: {_few(line)}" if waiting else ""
        if limit.get("kept_for") and used < capacity:
            kept = _amount(limit.get("kept", 0))
            text += f"; {kept} kept for {clean(limit['kept_for'])}"
        rows.append((_name(limit), f"{used} of {capacity}", _sort(limit), text))
        rows += [
            (
                f"  {clean(it['build'])}",
                _amount(it["take"]),
                f"on {clean(it['agent'])}",
                f"token {it['fence']}, since {ago(look, it['since'])}",
            )
            for it in limit.get("holders") or ()
        ]
    return _table(rows, look, shrink=(3, 0))


def queue_lines(builds: Sequence[dict[str, Any]], look: Look) -> list[str]:
    """Return a table of the queue."""
    rows = [
        (
            str(it["place"]),
            clean(it["build"]),
            f"priority {it['priority']}" if it["priority"] else "",
            ago(look, it["requested_at"]),
            clean(it["text"]),
            clean(it["labels"]),
        )
        for it in builds
    ]
    return _table(rows, look, shrink=(5, 4, 1))


def _table(rows: Sequence[Sequence[str]], look: Look, shrink: Sequence[int]) -> list[str]:
    """Return a line for each row; on a terminal without the columns that nobody has."""
    kept = [n for n in range(len(rows[0])) if any(row[n] for row in rows)] if rows else []
    if not look.is_terminal:
        kept = list(range(len(rows[0]))) if rows else []
    cells = [[Cell(row[n]) for n in kept] for row in rows]
    return table(cells, look, [kept.index(n) for n in shrink if n in kept])


def _amount(take: int) -> str:
    return str(take) if take else "all"


def _name(limit: dict[str, Any]) -> str:
    key = f" {clean(limit['key'])!r}" if limit.get("key") else ""
    return (clean(limit["name"]) or "all builds") + key


def _sort(limit: dict[str, Any]) -> str:
    if limit["kind"] != "throttle":
        return str(limit["kind"])
    return f"throttle on {clean(limit['agent'])}" if limit.get("agent") else "throttle"
