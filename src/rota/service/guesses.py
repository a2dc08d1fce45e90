"""Wrong codes: who says too many is listened to no more for a while."""

from __future__ import annotations

from datetime import timedelta

from rota.errors import DeniedError

#: A code holds so long; so long a guesser is refused, too.
VALID = timedelta(minutes=10)
#: So many wrong ones of one identity, and of one network, and no more are looked at.
TRIES = 5
TRIES_OF_NETWORK = 200
MAX_GUESSERS = 1000


class Guesses:
    """Wrong codes of late, by who said them. Bounded: of too many guessers the first is forgotten."""

    def __init__(self) -> None:
        self._wrong: dict[tuple[str, str], tuple[float, int]] = {}

    def refuse(self, network: str, who: str, now: float) -> None:
        """Do nothing, unless there were too many.

        Raises:
            DeniedError: no code is looked at until some time has gone by.
        """
        for key, limit in (((network, who), TRIES), ((network, ""), TRIES_OF_NETWORK)):
            since, count = self._wrong.get(key, (now, 0))
            left = since + VALID.total_seconds() - now
            if count >= limit and left > 0:
                raise DeniedError(
                    f"too many wrong codes; try again in {max(1, round(left / 60))} minutes",
                    known=True,
                )

    def note(self, network: str, who: str, now: float) -> None:
        """Count a wrong one."""
        for key in ((network, who), (network, "")):
            since, count = self._wrong.pop(key, (now, 0))
            if now - since >= VALID.total_seconds():
                since, count = now, 0
            self._wrong[key] = (since, count + 1)
        while len(self._wrong) > MAX_GUESSERS:
            del self._wrong[next(iter(self._wrong))]
