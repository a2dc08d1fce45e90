"""XMPP: rooms (XEP-0045) and direct messages, on slixmpp (ADR 44)."""

from rota.adapters.xmpp.network import XmppNetwork

__all__ = ["XmppNetwork"]
