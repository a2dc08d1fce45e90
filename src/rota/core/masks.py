"""Masks: values that must not be shown, and what is put in their place.

A masked value is replaced by asterisks of the same length, so that byte offsets stay true; line ends
stay. What cannot be masked for its size hides everything: a secret is never shown for want of room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rota.core.disguises import MIN_EXACT, REACH, lines_of

if TYPE_CHECKING:
    from rota.core.mask_net import Net

#: Shorter values would mask every second word and hide nothing.
MIN_MASK = MIN_EXACT
#: Values; bytes of all values.
MAX_MASKS = 500
MAX_MASKS_BYTES = 1024 * 1024

ALL_HIDDEN = bytes(byte if byte in b"\r\n" else ord("*") for byte in range(256))


class Masks:
    """Values that must not be shown, as they are or in another form."""

    def __init__(self) -> None:
        self._values: dict[bytes, None] = {}
        self._lines: dict[bytes, None] = {}
        self._size = 0
        self._nets: list[Net] = []
        self._woven = 0  # how many of the values are in the nets
        self.longest = 0
        self.hides_all = False

    def __bool__(self) -> bool:
        return self.hides_all or bool(self._values)

    @property
    def values(self) -> tuple[bytes, ...]:
        """What is masked: who masks somewhere else adds these there."""
        return tuple(self._values)

    def add(self, value: bytes) -> None:
        """Mask ``value`` from now on; each line of it, if it has several."""
        if value in self._values:
            return
        lines = [line for line in lines_of(value) if len(line) >= MIN_MASK]
        if not lines:
            return
        self._size += sum(map(len, lines))
        if len(self._values) >= MAX_MASKS or self._size > MAX_MASKS_BYTES:
            self.hides_all = True
            return
        self._values[value] = None
        self._lines.update(dict.fromkeys(lines))
        self.longest = REACH

    def apply(self, data: bytes) -> bytes:
        """Return ``data`` with every byte hidden that belongs to a value; length kept.

        Whether a byte is hidden depends on nothing but the values around it, so a log may be cut
        anywhere, as long as each piece is looked at together with ``longest`` bytes on both sides.
        """
        nets = self._ready()
        if self.hides_all:
            return data.translate(ALL_HIDDEN)
        hidden: bytearray | None = None
        try:
            for net in nets:
                for start, stop in net.spans(data):
                    hidden = hidden or bytearray(data)
                    hidden[start:stop] = data[start:stop].translate(ALL_HIDDEN)
        except ValueError:
            self.hides_all = True
            return data.translate(ALL_HIDDEN)
        return data if hidden is None else bytes(hidden)

    def text(self, text: str) -> str:
        """Return a text as it may be shown."""
        if not self:
            return text
        return self.apply(text.encode("utf-8", "replace")).decode("utf-8", "replace")

    def open_tail(self, data: bytes) -> int:
        """Return how many bytes at the end of ``data`` may be the beginning of a value."""
        nets = self._ready()
        try:
            longest = max((net.open_tail(data) for net in nets), default=0)
        except ValueError:
            self.hides_all = True
            return 0
        line = data[
            max(data.rfind(b"\n"), data.rfind(b"\r")) + 1 :
        ]  # no line of a value has an end
        if len(line) > longest:
            longest = max(longest, *(_open_tail(line, value) for value in self._lines), 0)
        return longest

    def _ready(self) -> list[Net]:
        """Return nets for all values."""
        if self._woven == len(self._values) or self.hides_all:
            return self._nets
        from rota.core.mask_net import Net  # what an agent that masks nothing does not need

        values = list(self._values)[self._woven :]
        # Nets of like size become one: each value is woven in a few times, however many there are.
        while self._nets and len(self._nets[-1].given) <= len(values):
            values = [*self._nets.pop().given, *values]
        net = Net(values)
        try:
            net.weave()
        except ValueError:
            self.hides_all = True
        self._nets.append(net)
        self._woven = len(self._values)
        return self._nets


def _open_tail(line: bytes, value: bytes) -> int:
    start = max(0, len(line) - len(value) + 1)
    while (start := line.find(value[:1], start)) >= 0:
        if value.startswith(line[start:]):
            return len(line) - start
        start += 1
    return 0
