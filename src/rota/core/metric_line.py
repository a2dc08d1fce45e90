"""What a metric may be called, and which numbers it may have: all that a line in a log has to keep to.

Apart from :mod:`rota.core.metrics`, so that ``rota metric`` in a script starts as fast as it can.
"""

from __future__ import annotations

import math
import re

MAX_NAME = 60
MAX_UNIT = 12

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:/-]*")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")


class MetricError(Exception):
    """A metric is none; the message says why."""


def checked(name: str, value: str, unit: str = "") -> tuple[str, float, str]:
    """Return a metric's name, value and unit as they were written.

    Raises:
        MetricError: one of them is none.
    """
    name, value, unit = name.strip(), value.strip(), unit.strip()
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise MetricError(
            f"{name[:MAX_NAME]!r} is no name of a metric: a letter first, then letters, digits and"
            f" _ . : / -, at most {MAX_NAME}"
        )
    if value.endswith("%") and not unit:
        value, unit = value[:-1].rstrip(), "%"
    if len(value) > 40 or not _NUMBER.fullmatch(value) or not math.isfinite(float(value)):
        raise MetricError(f"{name} is {value[:40]!r}, which is no number")
    if len(unit) > MAX_UNIT or not unit.isprintable():
        raise MetricError(f"{name} has the unit {unit[:20]!r}: at most {MAX_UNIT} characters")
    return name, float(value), unit
