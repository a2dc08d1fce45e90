"""The store over the git executable, and its service over HTTP.

Names are loaded when they are asked for: the hook is a program of this package that starts at
every push, and would pay 50 ms for an event loop it does not use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rota.adapters.git.checkout import GitCheckout
    from rota.adapters.git.service import GitReply, GitService
    from rota.adapters.git.store import GitStore

__all__ = ["GitCheckout", "GitReply", "GitService", "GitStore"]


def __getattr__(name: str) -> object:
    if name == "GitStore":
        from rota.adapters.git.store import GitStore

        return GitStore
    if name == "GitCheckout":
        from rota.adapters.git.checkout import GitCheckout

        return GitCheckout
    if name in {"GitReply", "GitService"}:
        from rota.adapters.git import service

        return getattr(service, name)
    raise AttributeError(name)
