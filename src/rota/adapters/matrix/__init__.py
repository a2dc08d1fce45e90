"""Matrix: rooms and direct messages by the client-server API, on matrix-nio (ADR 44)."""

from rota.adapters.matrix.network import MatrixNetwork

__all__ = ["MatrixNetwork"]
