"""Completion at the prompt: what the shells are offered, remembered for a moment.

It runs in a thread of prompt_toolkit's, so that a slow agent holds up no key. An agent that is away
is not asked at each key either: what it said last is offered.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from rota.cli.candidates import TIMEOUT_S, Agent, candidates
from rota.cli.line import LineError, Step, Typing, steps, typing_at_end
from rota.cli.render import clean
from rota.cli.repl.session import LEAVING
from rota.cli.table import Mouth
from rota.client.client import Client
from rota.errors import RotaError

#: How long an answer is taken to be true; and how long an agent that was away is not asked again.
FRESH_S, AWAY_S = 2.0, 2.0
MAX_ANSWERS = 200
_OWN = (("help", "all commands, or: help COMMAND"), *((word, "end this") for word in LEAVING))


class Memory:
    """Answers of the agent, by verb and fields; for several threads."""

    def __init__(self, client: Client) -> None:
        self._client = client.another()
        self._client.patience_s, self._client.answer_s = 0.0, TIMEOUT_S
        self._answers: dict[tuple[object, ...], tuple[float, Any]] = {}
        self._away_until = 0.0
        self._lock = threading.Lock()

    def fill(self) -> None:
        """Ask, in a thread, for what most lines are about: it is there if the agent dies."""

        def ask() -> None:
            with suppress(RotaError):
                for verb in ("jobs", "agents"):
                    self.ask(verb)

        threading.Thread(target=ask, name="memory", daemon=True).start()

    def ask(self, verb: str, **fields: Any) -> Any:
        """Return an answer that is at most a moment old; or the last there was.

        Raises:
            RotaError: there is none.
        """
        with self._lock:
            return self._asked((verb, *sorted(fields.items())), verb, fields)

    def _asked(self, key: tuple[object, ...], verb: str, fields: dict[str, Any]) -> Any:
        now = time.monotonic()
        at, known = self._answers.get(key, (-FRESH_S, None))
        if known is not None and (now - at < FRESH_S or now < self._away_until):
            return known
        try:
            found = self._client.call(verb, repeat=False, **fields).json()
        except RotaError:
            self._away_until = time.monotonic() + AWAY_S
            if known is None:
                raise
            return known
        if len(self._answers) >= MAX_ANSWERS:
            self._answers.clear()
        self._answers[key] = (time.monotonic(), found)
        return found


class Offers(Completer):
    """What the word before the cursor may become."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterator[Completion]:
        """Yield them; what goes wrong is no matter of completion's."""
        typing = typing_at_end(document.text_before_cursor)
        if typing is None:
            return
        start = typing.start - len(document.text_before_cursor)
        try:
            for value, meaning in self._found(typing):
                if value == ":file":
                    yield from self._files(typing, start, event)
                    continue
                yield Completion(
                    _quoted(value),
                    start_position=start,
                    display=clean(value),
                    display_meta=clean(meaning),
                )
        except RotaError:
            return

    def _found(self, typing: Typing) -> Iterator[tuple[str, str]]:
        words = list(typing.words)
        if words[:1] in (["rota"], ["help"], ["?"]):
            del words[0]
        elif not words:
            yield from ((word, what) for word, what in _OWN if word.startswith(typing.last))
        agent = _Remembering(self._memory)
        yield from candidates([*words, typing.last], {}, mouth=Mouth.REPL, agent=agent)

    def _files(self, typing: Typing, start: int, event: CompleteEvent) -> Iterator[Completion]:
        # The path completer completes what stands alone; here the quotes are ours.
        for found in self._paths.get_completions(Document(typing.last), event):
            whole = typing.last[: len(typing.last) + found.start_position] + found.text
            yield Completion(
                _quoted(whole), start_position=start, display=clean(found.display_text)
            )


class _Remembering(Agent):
    def __init__(self, memory: Memory) -> None:
        super().__init__({})
        self._memory = memory

    def ask(self, verb: str, **fields: Any) -> Any:
        if self.is_named:  # the line is about another cluster
            return super().ask(verb, **fields)
        return self._memory.ask(verb, **fields)


def _quoted(value: str) -> str:
    """Return a word as it is to be typed: with quotes only where it needs them."""
    try:
        is_plain = steps(value) == [Step((value,))]
    except LineError:
        is_plain = False
    return value if is_plain else shlex.quote(value)
