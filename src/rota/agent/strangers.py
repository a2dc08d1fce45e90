"""How often who is nobody's user is answered: two bots must not talk for ever, nor a crowd keep one busy."""

from __future__ import annotations

from collections import OrderedDict

from rota.ports.clock import Clock

#: A stranger is answered so often, and then no more for a while.
TIMES, WITHIN_S = 3, 600.0
#: Where strangers may look, one is answered so often a minute, and then told that it is enough.
LOOKS, LOOKS_WITHIN_S = 11, 60.0
#: All strangers of a network together; who says a code to the bot alone is always answered.
ALL_TIMES, ALL_LOOKS = 30, 60
MAX_KNOWN = 1000


class Strangers:
    """Who was answered when, on all networks; the oldest are forgotten."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._times: OrderedDict[str, list[float]] = OrderedDict()

    def bears(self, network: str, person: str, *, may_look: bool) -> bool:
        """Whether a stranger is answered once more; counts it."""
        most, within_s, together = _rate(may_look)
        one = self._takes(f"{network} {person}", most, within_s)
        return one and self._takes(network, together, within_s)

    def is_last(self, network: str, person: str, *, may_look: bool) -> bool:
        """Whether a stranger is not answered any more after this, for a while."""
        return len(self._times.get(f"{network} {person}", ())) >= _rate(may_look)[0]

    def _takes(self, key: str, most: int, within_s: float) -> bool:
        now = self._clock.monotonic()
        times = [at for at in self._times.pop(key, []) if now - at < within_s]
        is_borne = len(times) < most
        self._times[key] = [*times, now] if is_borne else times
        while len(self._times) > MAX_KNOWN:
            self._times.popitem(last=False)
        return is_borne


def _rate(may_look: bool) -> tuple[int, float, int]:
    """Return how often one is answered, within how many seconds, and how often all are."""
    return (LOOKS, LOOKS_WITHIN_S, ALL_LOOKS) if may_look else (TIMES, WITHIN_S, ALL_TIMES)
