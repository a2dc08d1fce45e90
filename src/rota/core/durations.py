"""Lengths of time as people write them: ``20m``, ``1h30m``, ``500ms``.

Units stand in falling order, each at most once; a number without a unit is refused, because
seconds and minutes are both what somebody would expect.
"""

from __future__ import annotations

import re

_SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
#: Nine digits are enough for any unit, and keep the sum exact to the millisecond.
_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,6})?"
_DURATION = re.compile(" ?".join(rf"(?:(?P<{unit}>{_NUMBER}){unit})?" for unit in _SECONDS))
_BARE = re.compile(_NUMBER)


def parse_duration(text: str) -> float | str:
    """Return the seconds that ``text`` says, zero or more, or what is wrong with it.

    A float is a duration, a ``str`` a fault in the shape of "… is not a duration, …".
    """
    match = _DURATION.fullmatch(text)
    if match is not None and any(match.groups()):
        return sum(float(n) * _SECONDS[unit] for unit, n in match.groupdict().items() if n)
    if _BARE.fullmatch(text):
        return f"{text!r} has no unit, write {text}s or {text}m"
    return f"{_short(text)} is not a duration, write it as 30s, 20m, 1h30m or 2d"


def format_duration(seconds: float) -> str:
    """Return ``seconds`` (finite) as people say it: ``250ms``, ``4.2s``, ``1h30m``, ``2d``.

    Below a second to the millisecond, below a minute to the tenth, above it to the second;
    `parse_duration` reads it back.
    """
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if round(seconds * 1000) < 1000:
        return f"{round(seconds * 1000)}ms" if round(seconds * 1000) else "0s"
    if round(seconds * 10) < 600:
        return f"{round(seconds, 1):.1f}".removesuffix(".0") + "s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")
