"""How far the clocks of agents are apart, by what they say of themselves.

Nothing rests on it: order is the journal's. But a schedule fires by the clock of whoever leads, and
times in records are those of their writers, so a person is told.
"""

from __future__ import annotations

from collections import deque

from rota.core.durations import format_duration

#: Clocks that agree by NTP are within some milliseconds; a word is on its way for less than this.
TOLERATED_S = 2.0
#: A word may have waited where somebody slept: of the last few, the one that fits best counts.
WORDS = 3
#: Who said nothing for so long is not spoken of.
FORGET_S = 30.0


class Skews:
    """What was heard of the others' clocks; times of hearing are seconds that never go back."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[float, deque[float]]] = {}

    def note(self, agent: str, ahead_s: float, now_s: float) -> None:
        """Take a word that was said when that agent's clock was so far ahead of this one."""
        _, former = self._heard.get(agent, (0.0, deque[float](maxlen=WORDS)))
        former.append(ahead_s)
        self._heard[agent] = now_s, former

    def apart(self, now_s: float) -> dict[str, float]:
        """Return by how many seconds clocks are ahead of this agent's, where that is too much."""
        found = {}
        for agent, (at_s, words) in sorted(self._heard.items()):
            best = min(words, key=abs)
            if now_s - at_s <= FORGET_S and abs(best) > TOLERATED_S and len(words) == WORDS:
                found[agent] = best
        return found

    def trouble(self, me: str, now_s: float) -> str | None:
        """Return in words which clocks are apart; ``None``: all agree."""
        apart = [
            f"{agent} is {format_duration(abs(ahead_s))} {'ahead' if ahead_s > 0 else 'behind'}"
            for agent, ahead_s in self.apart(now_s).items()
        ]
        if not apart:
            return None
        return (
            f"clocks are apart: by that of {me}, {', '.join(apart)}; schedules fire by the leader's:"
            " set them by NTP"
        )
