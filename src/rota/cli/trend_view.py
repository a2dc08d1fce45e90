"""A job's last builds as pictures of a line each: how they ended, how long they ran and waited."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rota.cli.bars import marks
from rota.cli.render import Look, ago, clean, duration, facts, paint
from rota.cli.sparkline import sparkline


def trend_lines(trend: dict[str, Any], look: Look) -> list[str]:
    """Return a job's trend, oldest builds on the left; nothing if it has no builds."""
    builds = trend["marks"]
    if not builds:
        return []
    signs = marks(look, [str(it["result"] or it["state"]) for it in builds])
    return facts(
        [
            ("results", f"{signs}  {_share(trend)}"),
            ("ran", _curve(look, [it["ran_s"] for it in builds], trend["typical_s"])),
            ("waited", _curve(look, [it["waited_s"] for it in builds], None)),
            ("broken", _broken(trend, look)),
        ],
        look,
    )


def results_line(builds: Sequence[dict[str, Any]], look: Look) -> str:
    """Return a line on builds of one job, given them newest first: a mark each, and how many passed."""
    signs = marks(look, [str(it.get("result") or it["state"]) for it in reversed(builds)])
    results = [it.get("result") for it in builds]
    counted = [it for it in results if it not in (None, "cancelled")]
    return f"{signs}  {_passed(counted.count('passed'), len(counted))}".rstrip()


def waits_lines(builds: Sequence[dict[str, Any]], look: Look) -> list[str]:
    """Return a line on how long finished builds had waited, given them newest first; or nothing."""
    waited = [
        (datetime.fromisoformat(it["started_at"]) - datetime.fromisoformat(it["requested_at"]))
        for it in reversed(builds)
        # A retry waits for its time, and began before it waited.
        if it.get("started_at") and it["attempt"] == 1
    ]
    curve = _curve(look, [max(0.0, it.total_seconds()) for it in waited], None)
    return ["", f"the last {len(waited)} waited  {curve}"] if len(waited) > 1 else []


def _share(trend: dict[str, Any]) -> str:
    return _passed(trend["passed"], trend["finished"])


def _passed(passed: int, finished: int) -> str:
    if not finished:
        return ""
    return f"{passed} of {finished} passed, {100 * passed // finished}%"


def _curve(look: Look, values: Sequence[float | None], typical_s: float | None) -> str:
    # As exact as it is told: what differs by milliseconds is drawn as the same.
    known = [round(value, 1) for value in values if value is not None]
    if not known:
        return ""
    low, high = duration(min(known)), duration(max(known))
    between = low if low == high else f"{low} to {high}"
    typical = f", {duration(typical_s)} where it passed" if typical_s is not None else ""
    return f"{sparkline(known, look, low=0.0)}  {between}{typical}"


def _broken(trend: dict[str, Any], look: Look) -> str:
    if trend["broken_since"] is None:
        return ""
    builds = "1 build" if trend["broken"] == 1 else f"{trend['broken']} builds"
    since = f"since {clean(trend['broken_since'])}, {ago(look, trend['broken_at'])}: {builds}"
    after = f", {clean(trend['last_passed'])} passed" if trend["last_passed"] else ", none passed"
    return paint(look, "red", since) + after
