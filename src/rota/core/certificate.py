"""What a certificate says: its pin, its hosts, its end. Just enough of X.509 (RFC 5280) for that.

A program that only looks at certificates needs no library of ten megabytes. Whether one is
genuine is never decided here: those that come from outside were verified in the TLS handshake.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec

from rota.errors import InputError

#: With the sixth part of its life left a certificate is late.
LATE = 6
_SUBJECT_ALT_NAME = bytes.fromhex("0603551d11")  # 2.5.29.17, with its tag and length
_PEM = re.compile(
    rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----", re.ASCII
)
_UTC_TIME, _OCTETS, _EXTENSIONS, _DNS, _IP = 0x17, 0x04, 0xA3, 0x82, 0x87
#: (tag, content, the whole with tag and length)
_Node = tuple[int, bytes, bytes]


class Certificate(msgspec.Struct, frozen=True):
    """``pin`` is the SHA-256 of the public key (SubjectPublicKeyInfo, DER), in lower-case hex.

    It holds from ``since`` to ``until``. ``hosts`` are the names and IP addresses that it is for.
    """

    pin: str
    since: datetime
    until: datetime
    hosts: frozenset[str]

    def left(self, now: datetime) -> timedelta:
        """Return how long it still holds; negative once it is over."""
        return self.until - now

    def is_due(self, now: datetime, life: timedelta) -> bool:
        """Say whether it is to be renewed where certificates live for ``life``.

        It is at a third of that; and so is one that would live longer than that from now.
        """
        return not life / 3 <= self.left(now) <= life


def read_certificate(der: bytes) -> Certificate:
    """Return what a certificate says. Cost: some 20 µs.

    Raises:
        InputError: it is none.
    """
    try:
        whole = next(_nodes(der))
        fields = [node for node in _nodes(next(_nodes(whole[1]))[1]) if node[0] != 0xA0]
        # serial, signature algorithm, issuer, validity, subject, key, extensions
        since, until = _nodes(fields[3][1])
        return Certificate(
            pin=hashlib.sha256(fields[5][2]).hexdigest(),
            since=_time(since),
            until=_time(until),
            hosts=frozenset(_hosts(fields[6:])),
        )
    except (IndexError, ValueError, StopIteration) as error:
        raise InputError("that is no certificate") from error


def certificates(pem: bytes) -> list[bytes]:
    """Return the certificates of a PEM file, each as DER; what is none is left out."""
    try:
        return [base64.b64decode(b"".join(body.split()), validate=True) for body in _bodies(pem)]
    except ValueError:
        return []


def fingerprint(der: bytes) -> str:
    """Return the SHA-256 of a whole certificate in lower-case hex: how a CA is told from others."""
    return hashlib.sha256(der).hexdigest()


def _bodies(pem: bytes) -> list[bytes]:
    return _PEM.findall(pem)


def _nodes(data: bytes) -> Iterator[_Node]:
    """Yield the elements of DER, one after the other.

    Raises:
        ValueError: they do not end where the data ends.
    """
    at = 0
    while at < len(data):
        start, length, at = at, data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        if at + length > len(data):
            raise ValueError("cut off")
        yield data[start], data[at : at + length], data[start : at + length]
        at += length


def _time(node: _Node) -> datetime:
    text = node[1].decode("ascii")
    if node[0] == _UTC_TIME:
        text = ("20" if text < "5" else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _hosts(rest: list[_Node]) -> Iterator[str]:
    for tag, content, _ in rest:
        if tag != _EXTENSIONS:
            continue
        for _, extension, _ in _nodes(next(_nodes(content))[1]):
            if extension.startswith(_SUBJECT_ALT_NAME):
                octets = next(node for node in _nodes(extension) if node[0] == _OCTETS)
                yield from filter(None, map(_host, _nodes(next(_nodes(octets[1]))[1])))


def _host(name: _Node) -> str:
    if name[0] == _IP:
        return str(ipaddress.ip_address(name[1]))
    return name[1].decode("ascii") if name[0] == _DNS else ""
