"""The engine (NATS JetStream): its servers, and the ports over it."""

from rota.adapters.nats.blobs import NatsBlobs
from rota.adapters.nats.bus import Bus
from rota.adapters.nats.client import Address, Client, Login
from rota.adapters.nats.engine import Engine
from rota.adapters.nats.ensemble import NatsEnsemble
from rota.adapters.nats.journal import NatsJournal
from rota.adapters.nats.lease import NatsLease
from rota.adapters.nats.logs import NatsLogs
from rota.adapters.nats.presence import NatsPresence

__all__ = [
    "Address",
    "Bus",
    "Client",
    "Engine",
    "Login",
    "NatsBlobs",
    "NatsEnsemble",
    "NatsJournal",
    "NatsLease",
    "NatsLogs",
    "NatsPresence",
]
