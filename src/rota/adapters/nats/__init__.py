"""The engine (NATS JetStream) as a supervised child, and the journal, logs and blobs over it."""

from rota.adapters.nats.blobs import NatsBlobs
from rota.adapters.nats.client import Address, Client, Login
from rota.adapters.nats.engine import Engine
from rota.adapters.nats.journal import NatsJournal
from rota.adapters.nats.logs import NatsLogs

__all__ = ["Address", "Client", "Engine", "Login", "NatsBlobs", "NatsJournal", "NatsLogs"]
