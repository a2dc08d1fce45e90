"""Tokens of users: how one is written, and what the journal makes of what is said of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.core.cluster import Cluster, decode_picture, encode_picture
from rota.core.events import TokenMade, TokenRevoked, TokenUsed
from rota.core.fold import apply
from rota.core.rights import Role
from rota.core.tokens import (
    MAX_EACH,
    SECRET_BYTES,
    AccessTokens,
    fold_tokens,
    is_token,
    printed_token,
    token_digest,
    token_id,
)

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
SECRETS = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)


def made(text: str, user: str = "ann", at: datetime = NOW, **more: object) -> TokenMade:
    return TokenMade(at=at, by="root", user=user, digest=token_digest(text), **more)  # type: ignore[arg-type]


@given(SECRETS, SECRETS)
def test_a_token_is_told_from_any_other_text(one: bytes, other: bytes) -> None:
    text = printed_token(one)
    assert is_token(text)
    assert text.startswith("rota_")
    assert len(text) == 54
    assert text.isascii()
    assert text.replace("_", "").isalnum()
    assert (printed_token(other) == text) == (one == other)


@given(SECRETS, st.integers(min_value=5, max_value=53), st.sampled_from("0aZ_- é"))
def test_a_slip_in_a_token_is_seen(secret: bytes, at: int, letter: str) -> None:
    text = printed_token(secret)
    wrong = text[:at] + letter + text[at + 1 :]
    assert is_token(wrong) == (wrong == text)
    assert not is_token(text[:at])
    assert not is_token(text + letter)


@given(st.text(max_size=60))
def test_nothing_else_is_one(text: str) -> None:
    assert not is_token(text)
    assert not is_token("rota_" + text) or len(text) == 49


def test_a_token_is_known_by_its_hash_until_it_is_revoked() -> None:
    cluster = Cluster()
    text = printed_token(bytes(32))
    apply(cluster, 1, made(text, role="builder", jobs=("web/**",), until=NOW + timedelta(days=1)))
    assert text.encode() not in encode_picture(cluster)
    token = cluster.picture.tokens.by_digest[token_digest(text)]
    assert (token.user, token.cap, token.jobs, token.by) == (
        "ann",
        Role.BUILDER,
        ("web/**",),
        "root",
    )
    assert token.is_scoped
    assert not token.is_over(NOW)
    assert token.is_over(NOW + timedelta(days=1))
    apply(cluster, 2, TokenUsed(at=NOW, tokens=(token.id,)))
    apply(cluster, 3, TokenRevoked(at=NOW, by="bob", user="ann", id=token.id))
    again = decode_picture(encode_picture(cluster))
    assert again is not None
    found = again.picture.tokens.find(token_id(token_digest(text)))
    assert found is not None
    assert (found.used_at, found.revoked_at, found.revoked_by) == (NOW, NOW, "bob")
    assert found.is_over(NOW)


def test_a_user_who_goes_takes_all_tokens_along() -> None:
    tokens = AccessTokens()
    for number in range(3):
        fold_tokens(tokens, number + 1, made(str(number), user="ann" if number else "bob"))
    fold_tokens(tokens, 9, TokenRevoked(at=NOW, user="ann"))
    assert [it.is_over(NOW) for it in tokens.by_digest.values()] == [False, True, True]
    assert tokens.seq == 9


def test_what_is_long_over_is_forgotten_and_no_writer_makes_memory_grow() -> None:
    tokens = AccessTokens()
    fold_tokens(tokens, 1, made("old", until=NOW))
    fold_tokens(tokens, 2, made("held"))
    fold_tokens(tokens, 3, made("new", user="bob", at=NOW + timedelta(days=8)))
    assert token_digest("old") not in tokens.by_digest
    assert len(tokens.by_digest) == 2
    for number in range(MAX_EACH + 5):
        fold_tokens(tokens, number + 4, made(str(number)))
    assert sum(it.user == "ann" for it in tokens.by_digest.values()) == MAX_EACH
    assert token_digest("held") not in tokens.by_digest
    assert token_digest("new") in tokens.by_digest


@pytest.mark.parametrize("role", ["", "owner", "ADMIN"])
def test_a_role_that_is_none_caps_nothing(role: str) -> None:
    tokens = AccessTokens()
    fold_tokens(tokens, 1, made("a", role=role))
    assert next(iter(tokens.by_digest.values())).cap is Role.ADMIN
