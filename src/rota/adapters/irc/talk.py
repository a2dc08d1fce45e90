"""What we say: sent line by line, and what the server did with it.

IRC has no receipts. Where a server echoes what it took (``echo-message``) the echo is one; where it does not, it has
taken or refused what was sent before a PING when it answers that. Pure but for the future that is waited for.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Collection

from rota.adapters.irc.lines import Line, line_of
from rota.errors import InputError, LaterError
from rota.ports.networks import Said

#: The tag under which a line of ours has its message's id, where servers hand tags on: `ID/LINE.LINES`.
ID_TAG = "+rota/id"
#: So many names are kept.
KEPT = 5000
_SMALL = re.compile(r"[0-9]{1,4}")
_NEVER = {
    "401": "there is nobody of that name",
    "403": "there is no such room",
    "404": "the room does not let us speak",
    "415": "the room does not let us speak",
    "442": "we are not in that room",
    "477": "only who is logged in may write there: set account and password",
    "482": "the room lets only operators speak",
    "486": "only who is logged in may write to them: set account and password",
    "531": "they take no messages from us",
    "716": "they take no messages from strangers",
}
_LATER = {"263": 30.0, "439": 60.0, "707": 60.0}


class Names:
    """The names that came last, each with what the network calls it."""

    def __init__(self) -> None:
        self._names: OrderedDict[str, str] = OrderedDict()

    def add(self, name: str, its: str = "") -> None:
        """Take note of one; of what has no name nothing is known."""
        if name and not self._names.get(name):
            self._names[name] = its
            while len(self._names) > KEPT:
                self._names.popitem(last=False)

    def get(self, name: str) -> str | None:
        """Return what the network calls it, empty if that is not known; ``None`` if it is not."""
        return self._names.get(name)

    def __contains__(self, name: object) -> bool:
        """Whether it is known."""
        return name in self._names


class Taken:
    """Which messages of ours were taken, and of which some lines alone: from their tags."""

    def __init__(self) -> None:
        self._whole = Names()
        self._parts: OrderedDict[str, dict[int, str]] = OrderedDict()

    def saw(self, line: Line) -> None:
        """Take note of a line of ours that the server shows."""
        name, _, part = line.tags.get(ID_TAG, "").rpartition("/")
        number, _, count = part.partition(".")
        if not name or not (_SMALL.fullmatch(number) and _SMALL.fullmatch(count)):
            return
        seen = self._parts.setdefault(name, {})
        seen[int(number)] = line.tags.get("msgid", "")
        if len(seen) >= int(count):
            self._whole.add(name, seen.get(1, ""))
            del self._parts[name]
        while len(self._parts) > KEPT:
            self._parts.popitem(last=False)

    def add(self, name: str, its: str) -> None:
        """Take note that all of a message was taken, and what the server calls it."""
        self._parts.pop(name, None)
        self._whole.add(name, its)

    def get(self, name: str) -> str | None:
        """See :meth:`Names.get`; of whole messages."""
        return self._whole.get(name)

    def lines_of(self, name: str) -> set[int]:
        """Return which lines of a message were taken, by number from 1."""
        return set(self._parts.get(name, ()))


class Utterance:
    """One message on its way."""

    def __init__(
        self,
        name: str,
        target: str,
        texts: list[str],
        *,
        tagged: bool,
        echoed: bool,
        taken: Collection[int] = (),
    ) -> None:
        self.lines = [
            line_of("PRIVMSG", target, text, tags={ID_TAG: f"{name}/{number}.{len(texts)}"})
            if tagged
            else line_of("PRIVMSG", target, text)
            for number, text in enumerate(texts, 1)
            if number not in taken
        ]
        self.ping = line_of("PING", f"rota-{name}")
        self._name, self._target, self._is_echoed = name, target, echoed
        self._echoes = 0
        self._refusals: list[tuple[str, str]] = []
        self._msgid = ""
        self.outcome: asyncio.Future[Said] = asyncio.get_running_loop().create_future()

    def take(
        self, line: Line, *, is_ours: Callable[[str], bool], fold: Callable[[str], str]
    ) -> None:
        """Learn from a line what became of it."""
        if self.outcome.done():
            return
        if line.command == "PRIVMSG" and is_ours(line.source.nick):
            if self._is_echoed and fold(line.param(0)) == fold(self._target):
                self._echoes += 1
                self._msgid = self._msgid or line.tags.get("msgid", "")
                if self._echoes == len(self.lines):
                    self._end()
        elif line.command in _NEVER or line.command in _LATER:
            if (
                fold(self._target) in {fold(it) for it in line.params[1:-1]}
                or line.command == "263"
            ):
                self._refusals.append((line.command, line.text))
        elif line.command == "FAIL" and line.param(0) == "PRIVMSG":
            self._refusals.append((line.command, line.text))
        elif line.command == "PONG" and line.text == self.ping.param(0):
            self._end()

    def _end(self) -> None:
        is_none_taken = (
            not self._echoes if self._is_echoed else len(self._refusals) >= len(self.lines)
        )
        if self._refusals and is_none_taken:
            code, text = self._refusals[0]
            self.outcome.set_exception(self._error(code, text))
        elif is_none_taken:
            self.outcome.set_exception(
                InputError(
                    f"{self._target}: the server dropped it without a word",
                    hint="a mode of the room or a filter of the server may forbid such messages",
                )
            )
        else:
            # What was taken in part was taken: said again, all would stand there twice.
            self.outcome.set_result(Said(id=self._msgid or self._name))

    def _error(self, code: str, text: str) -> Exception:
        if code in _LATER:
            return LaterError(
                f"{self._target}: slower, says the server: {text}", after_s=_LATER[code]
            )
        why = _NEVER.get(code, "the server refuses it")
        return InputError(f"{self._target}: {why}; the server says: {text}")
