"""Whose turn it is between projects: who has begun least of late, in proportion to its weight.

Each build that begins counts for its project, and counts less with each build that begins after it:
after :data:`MEMORY` of them a third, after five times that nothing. So shares follow the weights
while all have work, nobody saves up turns for later or owes for long, and who waits is next as
soon as it is the one that has had least. An agent looks at what projects have had of those builds
that it could have run itself: what runs on other machines takes nothing away here.

No clock: it is the order of events that counts, so every agent counts alike.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

QueueItem = tuple[int, int, str]
"""(rank in its project, sequence of the request, build id): the smallest is first."""

MEMORY = 64
_GROWTH = 1 + 1 / MEMORY
_LARGE = 1e100
_NOTHING: dict[str, float] = {}


class Shares(msgspec.Struct):
    """What projects have had, by label expression.

    Instead of making all that was had before worth less, the next one is worth more: ``grain``.
    """

    grain: float = 1.0
    had: dict[str, dict[str, float]] = {}

    def begin(self, labels: str, project: str, weight: int) -> None:
        """Count a build that begins."""
        had = self.had.setdefault(labels, {})
        had[project] = had.get(project, 0.0) + self.grain / weight
        self.grain *= _GROWTH
        if self.grain > _LARGE:
            for had in self.had.values():
                for project in had:
                    had[project] /= self.grain
            self.grain = 1.0

    def forget(self) -> None:
        """Drop what counts for nothing any more."""
        for labels, had in tuple(self.had.items()):
            for project in [it for it, much in had.items() if much < self.grain / 1000]:
                del had[project]
            if not had:
                del self.had[labels]

    def of(self, labels: str) -> Mapping[str, float]:
        """Return what projects have had of builds with these labels."""
        return self.had.get(labels, _NOTHING)


def in_turn(
    queues: Mapping[str, Sequence[QueueItem]],
    had: Mapping[str, float],
    cost: Callable[[str], float],
) -> Iterator[QueueItem]:
    """Return all items of several projects' queues in the order in which they would begin now.

    Args:
        queues: By project, each sorted.
        had: What each has had.
        cost: What one build more counts for a project.
    """
    if len(queues) == 1:
        return iter(next(iter(queues.values())))
    return _in_turn(queues, had, cost)


def _in_turn(
    queues: Mapping[str, Sequence[QueueItem]],
    had: Mapping[str, float],
    cost: Callable[[str], float],
) -> Iterator[QueueItem]:
    heap = [
        (had.get(project, 0.0), queue[0][1], project, 0)
        for project, queue in queues.items()
        if queue
    ]
    heapq.heapify(heap)
    while heap:
        much, _, project, at = heap[0]
        queue = queues[project]
        yield queue[at]
        if at + 1 < len(queue):
            heapq.heapreplace(heap, (much + cost(project), queue[at + 1][1], project, at + 1))
        else:
            heapq.heappop(heap)
