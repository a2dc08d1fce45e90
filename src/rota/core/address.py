"""Where something listens: a host and a port, as people write them."""

from __future__ import annotations

import ipaddress
import re

import msgspec

from rota.errors import InputError

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")


class Address(msgspec.Struct, frozen=True):
    """A host's name or IP address, without brackets, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Return ``HOST:PORT`` as an address; IPv6 addresses stand in brackets.

    Raises:
        InputError: it is none.
    """
    host, _, port = text.rpartition(":")
    if not _PORT.fullmatch(port) or int(port) > 65535 or not _is_host(host):
        raise InputError(
            f"bad address {text!r}", hint="HOST:PORT, such as 10.0.0.7:8010 or [fd00::7]:8010"
        )
    return Address(host.strip("[]"), int(port))


def is_ip(text: str) -> bool:
    """Whether ``text`` is an IP address, of either version, without a zone."""
    if "%" in text:
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_host(text: str) -> bool:
    """Whether ``text`` is an IP address (without brackets) or can be a host's name."""
    return is_ip(text) or _HOST.fullmatch(text) is not None


def _is_host(text: str) -> bool:
    if text.startswith("[") or text.endswith("]") or ":" in text:
        return ":" in text and text[:1] + text[-1:] == "[]" and is_ip(text[1:-1])
    return is_host(text)
