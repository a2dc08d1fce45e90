"""A real engine for tests: one child a module, taken over by each test in two milliseconds.

``tests/conftest.py`` makes the fixtures known to every test.
"""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest

from rota.adapters.nats import Client, Engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def engine_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of an engine that runs while the module's tests do."""
    home = tmp_path_factory.mktemp("engine")
    asyncio.run(_boot(home))
    yield home
    asyncio.run(_stop(home))


@pytest.fixture
async def engine(engine_home: Path) -> AsyncIterator[Engine]:
    """The module's engine, taken over for this test."""
    async with Engine(engine_home) as engine:
        yield engine


@pytest.fixture
async def client(engine: Engine) -> AsyncIterator[Client]:
    """A connected client of the module's engine."""
    async with engine.connect() as client:
        await client.connected(PATIENCE_S)
        yield client


@pytest.fixture(scope="session")
def _stopped_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("stopped")
    asyncio.run(_stop(home))
    return home


@pytest.fixture
def stopped_engine(_stopped_engine: Path, tmp_path: Path) -> Path:
    """The folder of an engine of this test's own that was booted once, is empty, and is stopped.

    It starts in a third of the time that a first boot takes. The test stops it.
    """
    home = tmp_path / "engine"
    shutil.copytree(_stopped_engine, home)
    return home


async def _boot(home: Path) -> None:
    async with Engine(home):
        pass


async def _stop(home: Path) -> None:
    async with Engine(home) as engine:
        await engine.stop()


async def forget_stream(client: Client, name: str) -> None:
    """Delete a stream, so that a test begins with nothing."""
    await client.request(f"$JS.API.STREAM.DELETE.{name}", within_s=PATIENCE_S)


async def until(is_so: Callable[[], bool | Awaitable[bool]], within_s: float = PATIENCE_S) -> None:
    """Return as soon as ``is_so`` says so; fail the test if it never does."""
    async with asyncio.timeout(within_s):
        while True:
            answer = is_so()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.01)
