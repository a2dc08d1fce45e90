"""The journal: the one ordered, durable stream of events that everything else is a view of."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

import msgspec

from rota.core.events import Event

#: An event larger than this is refused: the engine's messages end at 1 MiB, headers included.
MAX_EVENT_BYTES = 900_000


class Entry(msgspec.Struct, frozen=True):
    """An event with its place in the journal. Sequences start at 1 and rise; gaps are possible.

    ``digest`` is the SHA-256 of its bytes as they stand there; empty: of those by our codec.
    """

    seq: int
    event: Event
    digest: bytes = b""


class Journal(Protocol):
    """Append with compare-and-set, read from any sequence, follow without a seam.

    All calls may run at the same time, from one event loop. Cancelling ``append`` leaves it open
    whether the event was written: ask the journal, do not assume.
    """

    async def append(
        self, event: Event, *, expect: int | None = None, fence: int | None = None
    ) -> int:
        """Write ``event`` and return its sequence once it is on disk.

        Args:
            event: Its key is ``rota.core.events.key_of(event)``.
            expect: The sequence of the last event of the same key, 0 for "there is none" (also
                where :meth:`trim` took the last one). ``None`` writes in any case.
            fence: For what only a leader may write: the sequence of the last event whose key is
                ``rota.core.events.LEADER``, 0 as above. Not together with ``expect``.

        Raises:
            InputError: encoded, the event is larger than ``MAX_EVENT_BYTES``.
            StaleError: ``expect`` was given and another event of that key is the last one. Claims,
                elections and repeated triggers all rest on it. An append that was retried after a
                lost acknowledgement reports success, not this.
            FencedError: ``fence`` was given, and there was an election since.
            UnavailableError: not acknowledged within the adapter's limit (about 5 s); it may still
                have been written.
        """
        ...

    def read(self, *, after: int = 0, follow: bool = False) -> AsyncGenerator[Entry]:
        """Yield the events with a sequence above ``after``, in order, each once.

        With ``follow`` it never ends: it goes on with new events, through a restart of the engine.
        Without, it ends at what was the last event when it was called. Where ``after`` was
        trimmed away, it goes on with the first event that is there. Close the iterator
        (``aclosing``) to free what it holds at the engine.

        Raises:
            UnavailableError: the engine does not answer; never with ``follow``, which waits.
        """
        ...

    async def bounds(self) -> tuple[int, int]:
        """Return the first and last sequence that are there; ``(last + 1, last)`` when empty."""
        ...

    async def trim(self, *, before: int) -> None:
        """Forget the events with a sequence below ``before``. Safe to call twice.

        Beyond the last one, all are forgotten and the next event gets the sequence ``before``.
        """
        ...
