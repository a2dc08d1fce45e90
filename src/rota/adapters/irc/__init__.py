"""IRC, as a network to talk on: the protocol in pure parts, and one connection at a time."""

from rota.adapters.irc.network import IrcNetwork
from rota.adapters.irc.session import Patience

__all__ = ["IrcNetwork", "Patience"]
