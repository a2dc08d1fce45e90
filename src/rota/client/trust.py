"""Finds out whose certificates to believe, before anything secret is sent."""

from __future__ import annotations

import hashlib
import re
import ssl

from rota.client.answer import RefusedError
from rota.client.connection import CONNECT_S, PIECE, translated, unreachable
from rota.client.http1 import over_tcp
from rota.client.place import Place
from rota.errors import DeniedError, InputError

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def fingerprint_of(ca: str) -> str:
    """Return the SHA-256 of a certificate in PEM, in hex: it stands in each join token, too.

    Raises:
        InputError: it is no certificate.
    """
    try:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(ca.strip())).hexdigest()
    except ValueError as error:
        raise InputError(f"that is no certificate: {error}") from error


def fetch_ca(place: Place, fingerprint: str) -> str:
    """Return the CA's certificate that an agent shows, in PEM. Nothing is sent to the agent.

    Raises:
        InputError: ``fingerprint`` is none.
        DeniedError: the certificate is another one.
        RefusedError: nobody is there.
    """
    wanted = fingerprint.replace(":", "").strip().lower()
    if not _FINGERPRINT.fullmatch(wanted):
        raise InputError(
            f"{fingerprint!r} is no SHA-256",
            hint="64 hex digits: openssl x509 -in tls/ca.crt -noout -fingerprint -sha256",
        )
    ca = _shown(place)
    if fingerprint_of(ca) != wanted:
        raise DeniedError(
            f"{place.url} is of another cluster: its CA has the fingerprint {fingerprint_of(ca)}",
            known=True,
            hint="nothing was sent to it; is the URL right?",
        )
    return ca


def _shown(place: Place) -> str:
    context = ssl.create_default_context()
    # Whoever answers: what it shows is compared before it is believed.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        connection = over_tcp(place.host, place.port, CONNECT_S, context)
    except (OSError, UnicodeError) as error:
        refused = unreachable(place, error)
        raise RefusedError(refused.message, hint=refused.hint) from error
    try:
        with translated(place):
            connection.request("GET", f"{place.prefix}/peer/ca", headers={"Connection": "close"})
            return connection.getresponse().read1(PIECE).decode("ascii", "replace")
    finally:
        connection.close()
