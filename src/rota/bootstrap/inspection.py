"""A store read from end to end, by the command line or as a program of its own.

``python -m rota.bootstrap.inspection STORE INDEX [HEAD…]`` prints a line of JSON for each step.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from rota.adapters.git.inspection import Inspection
from rota.core.audit import Flaw, Head, Step, read_head
from rota.errors import RotaError


def inspected(clone: Path, heads: Sequence[Head]) -> Iterator[Step]:
    """Yield what is wrong with a clone, how far it is, and at last a summary.

    Raises:
        InputError: it is no clone of a store.
        UnavailableError: there is no git.
    """
    return Inspection(clone, heads).run()


def main(words: Sequence[str]) -> int:
    """Inspect the store and the index that are named; return the exit status."""
    from rota.adapters.sqlite.index import RecordsAlone

    store, index, *lines = words
    heads = [head for head in map(read_head, lines) if head is not None]
    with RecordsAlone(Path(index)) as records:
        try:
            for step in Inspection(Path(store), heads, records.get).run():
                _say(step)
        except RotaError as error:
            _say(Flaw("object", store, error.message))
            return 1
    return 0


def _say(step: Step) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(step) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
