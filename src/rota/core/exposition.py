"""The page that Prometheus reads: its text format, version 0.0.4.

Written here, since it is a dozen lines: the official client brings a web server and a registry of
globals along, and 3 MB of memory. Its parser reads our pages in the tests, as does ``promtool``.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: What stands for all that has no line of its own.
OTHER = "other"

Labels = tuple[tuple[str, str], ...]


class Sample(NamedTuple):
    """A number, the labels that tell it from its siblings, and what its name ends with, if anything."""

    value: float
    labels: Labels = ()
    suffix: str = ""


class Histogram:
    """How often values were at most each of some bounds, and what they come to.

    Cost: half a microsecond a value.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def take(self, value: float) -> None:
        """Count a value; one below 0, of a clock that was set meanwhile, is 0."""
        value = max(value, 0.0)
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.total += value

    def samples(self, labels: Labels = ()) -> Iterator[Sample]:
        """Yield the lines of a histogram."""
        reached = 0
        for bound, count in zip((*self.bounds, math.inf), self.counts, strict=True):
            reached += count
            yield Sample(reached, (*labels, ("le", number(bound))), "_bucket")
        yield Sample(self.total, labels, "_sum")
        yield Sample(reached, labels, "_count")


class Names:
    """Names that users choose, as labels: the first so many, then :data:`OTHER`.

    A series must not change its meaning: what once was among the others stays there.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._known: dict[str, None] = {}

    def of(self, name: str) -> str:
        """Return the label for a name."""
        if name in self._known:
            return name
        if len(self._known) >= self.limit:
            return OTHER
        self._known[name] = None
        return name


def family(name: str, kind: str, help_: str, samples: Iterable[Sample]) -> Iterator[str]:
    """Yield the lines of one metric; none at all where it has no samples."""
    lines = [f"{name}{it.suffix}{_labels(it.labels)} {number(it.value)}\n" for it in samples]
    if lines:
        yield f"# HELP {name} {_escaped(help_)}\n# TYPE {name} {kind}\n"
        yield from lines


def number(value: float) -> str:
    """Return a number as the format has it: whole ones without a point."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(value)


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join([f'{name}="{_quoted(value)}"' for name, value in labels]) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')
