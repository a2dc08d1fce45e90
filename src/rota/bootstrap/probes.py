"""What a doctor looks at on this machine, by the adapters that know it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from rota.adapters.git.health import examine
from rota.adapters.nats import Bus, Engine
from rota.adapters.pki import TlsKeyring
from rota.core.certificate import Certificate
from rota.core.growth import Growth
from rota.errors import UnavailableError
from rota.ports.probes import ServerHealth, StoreHealth


class DaemonProbes:
    """See :class:`rota.ports.probes.Probes`."""

    def __init__(
        self,
        data: Path,
        keyring: TlsKeyring,
        engine: Engine | Bus,
        snapshot_seq: Callable[[], int],
        growth: Callable[[], Growth],
    ) -> None:
        self._data, self._keyring, self._engine = data, keyring, engine
        self._snapshot_seq, self._growth = snapshot_seq, growth

    async def store(self) -> StoreHealth:
        """Look at the agent's own repository."""
        return await examine(self._data / "store.git")

    async def server(self) -> ServerHealth | None:
        """Look at the engine's server on this machine."""
        if not isinstance(self._engine, Engine) or self._engine.server is None:
            return None
        memory, slow = await self._engine.usage()
        return ServerHealth(name=self._engine.server.name, memory_bytes=memory, slow_consumers=slow)

    def snapshot_seq(self) -> int:
        """Return up to which event the last snapshot goes."""
        return self._snapshot_seq()

    def growth(self) -> Growth:
        """Return what the disk of the data folder held lately."""
        return self._growth()

    def authority(self) -> Certificate:
        """Return what the certificate of the cluster's own authority says."""
        return self._keyring.authority()

    def certificate(self) -> Certificate:
        """Return what the agent's certificate says."""
        return certificate_of(self._keyring)


def certificate_of(keyring: TlsKeyring) -> Certificate:
    """Return what a certificate says, if the key beside it is its own.

    Raises:
        UnavailableError: it is damaged, or is for another key.
    """
    found = keyring.credentials()
    if found is None:
        raise UnavailableError("there is no certificate", hint="join again by a token")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(found.cert, found.key)
    except OSError as error:
        raise UnavailableError(
            f"{found.cert} is not for {found.key}: {error}",
            hint="put tls/ back as it was; or remove it, and join again by a token",
        ) from error
    return keyring.present()
