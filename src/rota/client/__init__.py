"""The client library: asks the agents of a cluster, and goes on at another when one is gone.

::

    from rota.client import Client

    client = Client.find()                       # as the command line finds its agent
    build = client.run("web/test", suite="full")
    for piece in client.follow_log(build):
        print(piece.data.decode(), end="")
    print(client.wait(build)["result"])

Every error is of :mod:`rota.errors`. It needs the standard library alone, and no thread or event
loop of its own: a call returns when the answer is here. A client is for one thread at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rota.client.answer import Answer as Answer
    from rota.client.client import Build as Build
    from rota.client.client import Client as Client
    from rota.client.follow import Event as Event
    from rota.client.follow import Piece as Piece
    from rota.client.place import Place as Place
    from rota.client.place import parse_place as parse_place

__all__ = ["Answer", "Build", "Client", "Event", "Piece", "Place", "parse_place"]

_MODULES = {
    "Answer": "answer",
    "Build": "client",
    "Client": "client",
    "Event": "follow",
    "Piece": "follow",
    "Place": "place",
    "parse_place": "place",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: HTTP alone costs a command 25 ms, and not every command speaks it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
