"""The other members' stores, from which this agent's is brought when it has to be."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from rota.adapters.git import GitStore
from rota.adapters.peers import HttpsPeers
from rota.agent.joining import SNAPSHOT, fetch_snapshot
from rota.agent.ports import Ports
from rota.agent.timeline import SURE_S, has_parted
from rota.bootstrap.member import Member
from rota.core.cluster import Picture, decode_picture
from rota.errors import UnavailableError
from rota.ports.journal import Journal
from rota.ports.peers import Peer
from rota.ports.store import Source
from rota.service.members import known
from rota.service.world import World


class StoreSources:
    """Brings a store from whoever has it.

    Args:
        member: Who this agent is: it shows its certificate.
        data: The agent's folder.
        store: What is brought up to date.
    """

    def __init__(self, member: Member, data: Path, store: GitStore) -> None:
        self._member, self._data, self._store = member, data, store

    async def bring(self, first: Peer) -> None:
        """Fetch the store from who gave the state; or from another one, if that is gone by now.

        Raises:
            UnavailableError: none of them could be asked.
        """
        known = self._member.known
        others = known.peers(besides=self._member.name) if known is not None else []
        fault: UnavailableError | None = None
        for peer in (first, *(it for it in others if it.name != first.name)):
            try:
                return await self._store.fetch(self._of(peer), force=True)
            except UnavailableError as error:
                fault = fault or error
        assert fault is not None
        raise fault

    async def fetch(self, world: World, *, force: bool) -> None:
        """Bring both branches from the first other member that answers.

        Raises:
            UnavailableError: none of them could be asked.
        """
        found = known(world).peers(besides=self._member.name)
        fault = UnavailableError("no other agent is known whose store could be asked")
        for peer in found:
            try:
                await self._store.fetch(self._of(peer), force=force)
            except UnavailableError as error:
                fault = error
            else:
                return
        raise fault

    async def refresh(self, ports: Ports) -> None:
        """Take the state from another agent where this one's own is lost, or cannot be gone on with.

        Nobody answers: then it is made from the history, as far as that goes.
        """
        known, path = self._member.known, self._data / SNAPSHOT
        if known is None or self._member.source is not None:
            return
        saved = ports.index.snapshot()
        cluster = decode_picture(saved[1]) if saved is not None else None
        with contextlib.suppress(UnavailableError):
            if cluster is not None and not await _is_parted(ports.journal, cluster.picture):
                return
            peers = known.peers(besides=self._member.name)
            async with HttpsPeers(self._member.credentials) as connected:
                path.unlink(missing_ok=True)
                source = await fetch_snapshot(self._data, peers, connected)
            await self._store.fetch(self._of(source), exact=True)

    def _of(self, peer: Peer) -> Source:
        mine = self._member.credentials
        return Source(
            url=f"{peer.url}/store.git", cert=str(mine.cert), key=str(mine.key), pins=peer.pins
        )


async def _is_parted(journal: Journal, picture: Picture) -> bool:
    """Whether another agent's state is needed; the journal is asked again before that is believed."""
    if not await has_parted(journal, picture):
        return False
    await asyncio.sleep(SURE_S)
    return bool(await has_parted(journal, picture))
