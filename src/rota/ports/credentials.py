"""What an agent shows to others: its key and certificate, and the CA that it trusts."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Credentials(msgspec.Struct, frozen=True):
    """Files in PEM; ``cert`` has the agent's certificate and then the CA's.

    ``pin`` is the SHA-256 of the public key (SubjectPublicKeyInfo, DER), in lower-case hex.
    """

    ca: Path
    cert: Path
    key: Path
    pin: str
