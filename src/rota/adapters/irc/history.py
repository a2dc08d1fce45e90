"""What a server says again of a room's past, as one batch: which of it is news to us.

Pure. See https://ircv3.net/specs/extensions/chathistory.
"""

from __future__ import annotations

from rota.adapters.irc.ear import Position, moment
from rota.adapters.irc.lines import Line

#: What is more than so many lines, or batches at once, is let go.
MAX_LINES, MAX_BATCHES = 1000, 100


class History:
    """Batches on their way."""

    def __init__(self) -> None:
        self._batches: dict[str, list[Line]] = {}

    def holds(self, line: Line) -> bool:
        """Take a message that is part of a batch; say whether it is."""
        batch = self._batches.get(line.tags.get("batch", ""))
        if batch is None:
            return False
        if len(batch) < MAX_LINES:
            batch.append(line)
        return True

    def take(self, line: Line) -> list[Line]:
        """Return the messages of a batch that ends with this line."""
        reference = line.param(0)
        if reference.startswith("-"):
            return self._batches.pop(reference[1:], [])
        if line.param(1) == "chathistory" and len(self._batches) < MAX_BATCHES:
            self._batches[reference[1:]] = []
        return []


def news(lines: list[Line], since: Position | None) -> list[Line]:
    """Return those that came after a position.

    Servers may keep the second alone of when it was: whose name is not among them had better be
    heard twice than not at all, for it is known by its name.
    """
    if since is None:
        return []
    names = [line.tags.get("msgid", "") for line in lines]
    if since.id and since.id in names:
        return lines[names.index(since.id) + 1 :]
    start = since.at.replace(microsecond=0)
    times = (moment(line.tags.get("time", "")) for line in lines)
    return [line for line, at in zip(lines, times, strict=True) if at is not None and at >= start]
