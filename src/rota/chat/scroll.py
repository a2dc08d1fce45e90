"""What a command prints, as far as a room could ever show it."""

from __future__ import annotations

import io

#: More characters than any network takes at once.
MAX_CHARACTERS = 64 * 1024


class Scroll(io.StringIO):
    """A text stream that keeps the beginning, or the end, of what is written to it."""

    def __init__(self, *, keep_first: bool) -> None:
        super().__init__()
        self._keep_first = keep_first
        self._text = ""
        self.is_cut = False

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def write(self, text: str) -> int:
        """Take text; what is beyond the bound goes."""
        whole = self._text + text
        if len(whole) > MAX_CHARACTERS:
            self.is_cut = True
            whole = whole[:MAX_CHARACTERS] if self._keep_first else whole[-MAX_CHARACTERS:]
        self._text = whole
        return len(text)

    @property
    def text(self) -> str:
        """What is kept."""
        return self._text
