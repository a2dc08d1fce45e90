"""What the next start of an agent must know, written down as it changes."""

from __future__ import annotations

import logging
from pathlib import Path

import rota
from rota.agent.joining import write_known
from rota.core.events import ClusterRaised, kind_of
from rota.daemon.folder import DataFolder
from rota.daemon.nameplate import FILE, Nameplate
from rota.errors import UnavailableError
from rota.ports.journal import Entry
from rota.service.members import known
from rota.service.world import World

logger = logging.getLogger("rota")

#: What events begin with after which there may be other members than before.
MEMBERSHIP = ("agent", "voter", "cloud")


class NextStart:
    """Keeps the list of members and the nameplate of a data folder in step with what is folded."""

    def __init__(self, name: str, world: World, folder: DataFolder, data: Path) -> None:
        self._name, self._world, self._folder, self._data = name, world, folder, data

    def folded(self, entry: Entry) -> None:
        """Write down what the next start must know of the others, when that changes."""
        if kind_of(entry.event).partition(".")[0] in MEMBERSHIP and self._is_among_others():
            found = known(self._world, self._folder.read("bus"))
            try:
                write_known(self._data, found)
            except UnavailableError as error:
                logger.warning("%s", error.message)
        if isinstance(entry.event, ClusterRaised):
            self.keep_level()

    def keep_level(self) -> None:
        """Let no rota run in this folder that knows less than the cluster does."""
        plate = Nameplate(self._name, self._world.cluster.picture.level)
        text = plate.text(rota.__version__)
        if text != self._folder.read(FILE):
            try:
                self._folder.write(FILE, text)
            except UnavailableError as error:
                logger.warning("the cluster's level is not kept: %s", error.message)

    def _is_among_others(self) -> bool:
        return len(self._world.cluster.picture.agents) > 1
