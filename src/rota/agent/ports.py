"""What an agent needs of the world, in one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping

from rota.agent.mover import FetchFrom, nobody_to_fetch_from
from rota.core.settings import Settings
from rota.ports.blobs import Blobs, Make, Named
from rota.ports.caches import Caches
from rota.ports.case_index import CaseIndex
from rota.ports.chat import MakeChat
from rota.ports.checkout import Checkout
from rota.ports.clock import Clock
from rota.ports.clouds import Providers
from rota.ports.collector import Collector
from rota.ports.containers import Containers
from rota.ports.disk import Disk
from rota.ports.ensemble import Ensemble
from rota.ports.executor import Executor
from rota.ports.forges import Forges
from rota.ports.index import Index
from rota.ports.journal import Journal
from rota.ports.lease import Lease
from rota.ports.logs import Logs
from rota.ports.presence import Presence
from rota.ports.private_files import PrivateFiles
from rota.ports.programs import Programs
from rota.ports.reports import Reports
from rota.ports.safe import Safe
from rota.ports.secrets import Secrets
from rota.ports.store import Store
from rota.ports.voting import Voting
from rota.ports.watcher import Watcher


async def no_settings(settings: Settings) -> None:
    """Do nothing with the settings."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ports:
    """The world, as adapters see it."""

    journal: Journal
    logs: Logs
    blobs: Blobs
    store: Store
    index: Index
    executor: Executor
    watcher: Watcher
    clock: Clock
    disk: Disk
    configure: Callable[[Settings], Awaitable[None]] = no_settings
    """Gives the engine the limits that the settings say; called by the leader."""
    fetch: FetchFrom = nobody_to_fetch_from
    """Brings both branches of the store from another agent."""
    own_blobs: Named | None = None
    """Files in this agent's folder, for artifacts while it is alone; ``None``: the engine's."""
    blob_stores: Mapping[str, Make] = dataclasses.field(default_factory=dict)
    """What else the settings may choose for artifacts, by the name they choose it by."""
    forges: Forges | None = None
    """Told of builds that came from them; ``None`` for an agent that speaks to nobody."""
    collector: Collector | None = None
    """Is told of builds as traces; ``None`` for an agent that speaks to nobody."""
    chat: MakeChat | None = None
    """Speaks on chat networks, by mail and the like; ``None`` for an agent that tells nobody."""
    clouds: Providers | None = None
    """Launches machines; ``None`` for an agent that is alone for ever."""
    checkout: Checkout | None = None
    """Brings source code; ``None`` where no job asks for it."""
    caches: Caches | None = None
    """Keeps folders from one build to the next; ``None`` for an agent that runs but one."""
    reports: Reports | None = None
    """Reads reports of tests and coverage; ``None`` where no job leaves any."""
    safe: Safe | None = None
    programs: Programs | None = None
    """By which secrets of the store are read, and those of providers."""
    secrets: Secrets | None = None
    """Where secrets are read from instead; ``None`` for an agent that reads those of its cluster."""
    private_files: PrivateFiles | None = None
    """Where secrets lie that a script wants as files; ``None`` where no job asks for them."""
    case_index: CaseIndex | None = None
    """Answers what tests did in former builds; ``None`` for an agent that has no past."""
    containers: Containers | None = None
    """The container engine of this machine; ``None`` for an agent that uses none."""
    lease: Lease | None = None
    presence: Presence | None = None
    voting: Voting | None = None
    ensemble: Ensemble | None = None
    """What an agent among others needs; ``None`` for one that is alone for ever."""
