"""Logs of a back-up beside the engine, until they are in it."""

from __future__ import annotations

import asyncio
import gzip
import logging
import shutil
import zlib
from pathlib import Path

from rota.errors import StaleError, UnavailableError
from rota.ports.logs import LogKey, Logs

logger = logging.getLogger(__name__)

FOLDER = "restored"
RETRY_S = 1.0


async def bring_back(folder: Path, logs: Logs) -> None:
    """Put the logs that lie in a folder into the engine, build by build; then it is gone.

    Safe to begin again: what is there already stays. A log that cannot be read is left out, and said.
    """
    for attempt in await asyncio.to_thread(_attempts, folder):
        key = LogKey(attempt.parent.name, int(attempt.name))
        try:
            await _bring(attempt, key, logs)
        except (OSError, EOFError, zlib.error, ValueError, StaleError) as error:
            logger.warning("the log of %s, attempt %d, is not restored: %s", *_named(key), error)
        await asyncio.to_thread(shutil.rmtree, attempt, ignore_errors=True)
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _named(key: LogKey) -> tuple[str, int]:
    return key.build, key.attempt


def _attempts(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = (attempt for build in sorted(folder.iterdir()) for attempt in sorted(build.iterdir()))
    return [attempt for attempt in found if attempt.name.isdigit()]


async def _bring(attempt: Path, key: LogKey, logs: Logs) -> None:
    for path in sorted(attempt.iterdir()):
        offset = int(path.name.partition(".")[0])
        data = await asyncio.to_thread(lambda: gzip.decompress(path.read_bytes()))  # noqa: B023 - awaited within the turn
        while True:
            try:
                if await logs.end(key) <= offset:
                    await logs.append(key, offset, data)
            except UnavailableError:
                await asyncio.sleep(RETRY_S)
            else:
                break
