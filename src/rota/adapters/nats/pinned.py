"""TLS to a server of the engine: signed by the cluster's CA, and its key known by its pin.

The CA alone would not do: who was a member once may have its key. So the handshake fails unless the
server's pin is one that we know, before a byte of ours goes out.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from rota.core.certificate import read_certificate
from rota.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from rota.ports.credentials import Credentials


class _Pinned(ssl.SSLObject):
    def do_handshake(self) -> None:
        super().do_handshake()
        context = self.context
        assert isinstance(context, PinnedContext)
        if _pin(self.getpeercert(binary_form=True)) not in context.pins():
            raise ssl.SSLCertVerificationError("the server's key is not that of a member")

    def unwrap(self) -> None:
        """Say goodbye, and wait for no answer: a server that hangs never gives one."""
        with suppress(ssl.SSLWantReadError):
            super().unwrap()


class PinnedContext(ssl.SSLContext):
    """A context whose handshakes end well only with a server of a known pin."""

    pins: Callable[[], Container[str]]
    sslobject_class: type[ssl.SSLObject] = _Pinned


def pinned_context(credentials: Credentials, pins: Callable[[], Container[str]]) -> ssl.SSLContext:
    """Return a context that shows ``credentials``; ``pins`` is asked in each handshake.

    Cost: about a millisecond: the files are read, so that a renewed certificate counts.

    Raises:
        OSError: a file cannot be read, or has no key or certificate in it.
    """
    context = PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.pins = pins
    context.load_verify_locations(credentials.ca)
    context.load_cert_chain(credentials.cert, credentials.key)
    return context


def _pin(certificate: bytes | None) -> str:
    try:
        return read_certificate(certificate or b"").pin
    except InputError:
        return ""
