"""What an agent's machine can, as labels: found at its start, and again whenever that changes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from rota.adapters.docker.containers import EngineContainers
from rota.adapters.docker.found import found_engine, watch_engine
from rota.adapters.process.confiner import Confiner
from rota.adapters.tools import known_tools, watch_tools
from rota.agent.agent import Agent
from rota.bootstrap.machine import Machine, labels_of
from rota.core.settings import Settings

#: What is known of the machine's tools, so that a start asks none of them.
TOOLS = "tools.json"


class Abilities:
    """The labels of an agent: what its operator gave it, its tools, and how builds can be confined.

    Args:
        name: The agent's.
        machine: What its operator says of it.
        data: The agent's folder, where the tools' versions are kept.
    """

    def __init__(self, name: str, machine: Machine, data: Path) -> None:
        self._name, self._machine, self._cache = name, machine, data / TOOLS
        self._confined: Mapping[str, str] = {}
        self._tools: Mapping[str, str] = {}

    async def find(self, confiner: Confiner) -> None:
        """Find out what can be told without starting any tool."""
        self._confined = await asyncio.to_thread(confiner.labels)
        self._tools = await asyncio.to_thread(self._known)

    def labels(self) -> dict[str, str]:
        """Return all of them, as they are known now."""
        return labels_of(self._name, self._machine.labels, {**self._confined, **self._tools})

    async def watch(self, agent: Agent, containers: EngineContainers) -> None:
        """Tell the agent of every change, for ever."""
        again, failed = asyncio.Event(), asyncio.Event()

        async def changed(found: dict[str, str]) -> None:
            self._tools = found
            await agent.members.found(self.labels())

        def path() -> Sequence[str]:
            return agent.service.world.definitions.settings.path

        agent.follower.told.append(again.set)
        containers.failed = failed.set
        async with asyncio.TaskGroup() as group:
            group.create_task(watch_engine(failed, again.set), name="container engine watch")
            await watch_tools(
                path, self._cache, changed, known=self._tools, again=again, besides=found_engine
            )

    def _known(self) -> dict[str, str]:
        return {**known_tools(Settings().path, self._cache), **found_engine()}
