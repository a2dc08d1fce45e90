"""The digest of a log is that of its pieces in order, small and large."""

from __future__ import annotations

import hashlib

from rota.agent.log_digest import INLINE_BYTES, LogDigest


async def test_pieces_of_all_sizes_are_hashed_in_order() -> None:
    digest, whole = LogDigest(), b""
    for number, size in enumerate(
        (1, INLINE_BYTES + 1, 5, 512 << 10, 512 << 10, 7, 0, INLINE_BYTES)
    ):
        piece = bytes([number]) * size
        digest.add(piece)
        whole += piece
    assert await digest.hex() == hashlib.sha256(whole).hexdigest()
    digest.add(b"more")
    assert await digest.hex() == hashlib.sha256(whole + b"more").hexdigest()


async def test_a_log_without_a_byte_has_a_digest() -> None:
    assert await LogDigest().hex() == hashlib.sha256(b"").hexdigest()
