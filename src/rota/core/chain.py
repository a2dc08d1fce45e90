"""The chain over the journal: one hash that stands for every byte of every event up to it.

Each event is a link: the chain is the SHA-256 of the chain before it (32 bytes), the event's sequence
(8 bytes, big endian) and the SHA-256 of the event's bytes as they stand in the journal. All agents
fold the same bytes, so all have the same chain; who changes, drops, adds or moves an event has
another one from there on.

The commit of a seal says in its message what the chain was then (an :class:`Anchor`), and the next
seal names that commit: so the journal is anchored in git, and git in the journal.
"""

from __future__ import annotations

import hashlib

import msgspec

from rota.core.job import Int

#: The level at which the chain begins, deeds are kept, and digests of logs are recorded.
AUDITED = 2
#: What the first link follows.
START = hashlib.sha256(b"rota: a chain over the journal\n").hexdigest()

SEAL, CHAIN, MAIN, FORMER = "Seal", "Chain", "Main", "Former"


class Anchor(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the commit of a seal says of the journal.

    ``chain`` is the chain with the event ``seq``, the seal itself. ``main`` is where the journal had
    moved ``main`` by then, and ``former`` an earlier commit of ``history``, which the seal names.
    """

    seq: Int = 0
    chain: str = ""
    main: str = ""
    former: str = ""


def link(chain: str, seq: int, digest: bytes) -> str:
    """Return the chain with one more event; ``digest`` is the SHA-256 of its bytes. Cost: 1 µs."""
    return hashlib.sha256(bytes.fromhex(chain) + seq.to_bytes(8, "big") + digest).hexdigest()


def anchor_lines(anchor: Anchor) -> list[str]:
    """Return what a commit's message says of an anchor, line by line."""
    said = (
        (SEAL, str(anchor.seq)),
        (CHAIN, anchor.chain),
        (MAIN, anchor.main),
        (FORMER, anchor.former),
    )
    return [f"{key}: {value}" for key, value in said if value]


def read_anchor(message: str) -> Anchor | None:
    """Return the anchor in a commit's message; ``None`` if it has none that can be read."""
    found: dict[str, str] = {}
    for line in message.split("\n"):  # and at nothing else that a deed's text may hold
        key, _, value = line.partition(": ")
        if key in (SEAL, CHAIN, MAIN, FORMER):
            found[key] = value
    seq, chain = found.get(SEAL, ""), found.get(CHAIN, "")
    if not (seq.isascii() and seq.isdigit() and _is_hex(chain, 64)):
        return None
    main, former = found.get(MAIN, ""), found.get(FORMER, "")
    if not all(value == "" or _is_hex(value, 40) for value in (main, former)):
        return None
    return Anchor(int(seq), chain, main, former)


def _is_hex(text: str, length: int) -> bool:
    return len(text) == length and all(c in "0123456789abcdef" for c in text)
