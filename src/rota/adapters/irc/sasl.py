"""SASL, as far as IRC servers have it: PLAIN, EXTERNAL (RFC 4422, 4616) and SCRAM (RFC 5802, 7677)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import inspect
import secrets
import unicodedata
from collections.abc import Generator, Sequence

#: The hash of each; the strongest first.
_SCRAM = {"SCRAM-SHA-512": "sha512", "SCRAM-SHA-256": "sha256"}
#: More rounds than that only a server asks for that wants to keep us busy.
MAX_ROUNDS = 600_000
#: A message of one AUTHENTICATE has at most so many characters of base64.
PIECE = 400
#: Given what the server said it yields what is answered.
Exchange = Generator[bytes, bytes, None]


class SaslError(Exception):
    """The server said what it may not, or does not know the password itself."""


def choose(offered: Sequence[str], *, has_password: bool, has_certificate: bool) -> str:
    """Return the mechanism to use, or nothing if none fits.

    Args:
        offered: What the server has; nothing if it does not say.
        has_password: Whether there is one.
        has_certificate: Whether we show one to the server.
    """
    wanted = [*_SCRAM, "PLAIN"] if has_password else []
    if has_certificate:
        wanted.append("EXTERNAL")
    if not offered:  # a server of old: it has PLAIN if it has anything
        return "PLAIN" if has_password else "EXTERNAL" if has_certificate else ""
    return next((it for it in wanted if it in offered), "")


def exchange(mechanism: str, account: str, password: str, nonce: str = "") -> Exchange:
    """Return what is said by a mechanism; see :func:`answer`.

    Raises:
        SaslError: while it runs, if the server is not what it should be.
    """
    if mechanism in _SCRAM:
        return _scram(_SCRAM[mechanism], account, password, nonce or secrets.token_urlsafe(18))
    if mechanism == "EXTERNAL":
        return _once(b"")  # whose certificate it is the services know
    return _once(b"\0".join((account.encode(), account.encode(), password.encode())))


def answer(running: Exchange, said: str) -> bytes:
    """Return what is answered to what the server said, in base64; to its first words, too.

    Raises:
        SaslError: it is nonsense, or from somebody who does not know the password.
    """
    try:
        challenge = base64.b64decode(said, validate=True)
        if inspect.getgeneratorstate(running) == inspect.GEN_CREATED:
            return next(running)
        return running.send(challenge)
    except StopIteration:
        raise SaslError("the server asks for more than there is to say") from None
    except ValueError as error:
        raise SaslError(f"nonsense from the server: {said[:100]!r}") from error


def _once(answer: bytes) -> Exchange:
    yield answer


def _scram(name: str, account: str, password: str, nonce: str) -> Exchange:
    user = account.replace("=", "=3D").replace(",", "=2C")
    bare = f"n={user},r={nonce}"
    first = yield f"n,,{bare}".encode()
    said = _said(first)
    try:
        server_nonce, rounds = said["r"], int(said["i"])
        salt = base64.b64decode(said["s"], validate=True)
    except (KeyError, ValueError) as error:
        raise SaslError(f"nonsense from the server: {first[:100]!r}") from error
    if not server_nonce.startswith(nonce) or not 0 < rounds <= MAX_ROUNDS:
        raise SaslError(f"not from a server that is in its right mind: {first[:100]!r}")
    secret = unicodedata.normalize("NFKC", password).encode()
    salted = hashlib.pbkdf2_hmac(name, secret, salt, rounds)
    key = hmac.digest(salted, b"Client Key", name)
    last = f"c=biws,r={server_nonce}"
    signed = f"{bare},{first.decode(errors='replace')},{last}".encode()
    proof = _xor(key, hmac.digest(hashlib.new(name, key).digest(), signed, name))
    final = yield f"{last},p={base64.b64encode(proof).decode()}".encode()
    its = hmac.digest(hmac.digest(salted, b"Server Key", name), signed, name)
    shown = _said(final).get("v", "")
    if not hmac.compare_digest(shown, base64.b64encode(its).decode()):
        raise SaslError("the server does not know the password: it may be another one's")
    yield b""


def _said(message: bytes) -> dict[str, str]:
    parts = message.decode(errors="replace").split(",")
    return {part[0]: part[2:] for part in parts if part[1:2] == "="}


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def pieces(answer: bytes) -> list[str]:
    """Return the arguments of ``AUTHENTICATE`` that carry an answer."""
    text = base64.b64encode(answer).decode()
    found = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
    return found if found and len(found[-1]) < PIECE else [*found, "+"]
