"""Clouds, as a leader speaks to them: launch a machine, list ours, end one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from rota.core.clouds import Node
from rota.core.settings_clouds import Cloud

ReadSecret = Callable[[str], Awaitable[bytes]]
"""Returns a secret of the cluster by its name; raises as :class:`rota.ports.secrets.Secrets`."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A machine to be launched. ``machine`` is its name, its token and its tag.

    ``cluster`` is the other tag: all machines of a cluster carry the same.
    """

    machine: str
    cluster: str
    user_data: str

    def __repr__(self) -> str:
        return f"<order of {self.machine}>"  # user data lets a machine join


class Provider(Protocol):
    """One cloud's provider. Calls may run at the same time; each ends within ``CALL_S`` or so.

    Cancelling one leaves open whether it was carried out: look.
    """

    knows_tokens: bool
    """Whether :meth:`launch` called twice for one machine launches one."""

    async def launch(self, order: Order) -> str:
        """Launch a machine and return what the provider calls it. Its tags are there from the start.

        Raises:
            InputError: image, size or another setting is not as the provider knows it.
            DeniedError: the key is wrong, or may not do this.
            ConflictError: the provider will not launch it now: a quota, no capacity, too many calls.
            UnavailableError: no answer that could be understood; it may have been launched.
        """
        ...

    async def nodes(self, cluster: str) -> Sequence[Node]:
        """Return the nodes that carry a cluster's tag; one just launched or ended may be missing.

        Raises:
            InputError: as for :meth:`launch`.
            DeniedError: as for :meth:`launch`.
            UnavailableError: there is no answer.
        """
        ...

    async def end(self, node: str) -> None:
        """End a node for good. Safe to call twice, and of one that is gone.

        Raises:
            DeniedError: as for :meth:`launch`.
            UnavailableError: no answer; it may have been ended.
        """
        ...

    async def words(self, node: str) -> str:
        """Return the end of what a node has printed, for a person; empty if that cannot be had."""
        ...


class Providers(Protocol):
    """Makes providers of settings."""

    async def open(self, name: str, cloud: Cloud, read: ReadSecret) -> Provider:
        """Return the provider of a cloud. Its key is read anew: ``read`` returns secrets by name.

        Raises:
            InputError: the provider or its region is not known, or a key is not there; or the
                program lacks what it needs for it.
        """
        ...
