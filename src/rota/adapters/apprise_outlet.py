"""A service that takes notices one way, by Apprise: a hundred kinds, each by the URL of the settings.

What Apprise can tell of a failure is only that there was one: so everything that was not taken is
tried again later, and given up by whoever sends it.
"""

from __future__ import annotations

import asyncio
import logging

import apprise

from rota.errors import InputError, LaterError
from rota.ports.networks import Abilities, OneWayNetwork, Said, Saying

#: For the service to take a message.
WITHIN_S = 45.0
_TONES = {"good": apprise.NotifyType.SUCCESS, "bad": apprise.NotifyType.FAILURE}


class AppriseOutlet(OneWayNetwork):
    """One service; see :class:`rota.ports.networks.Network`.

    Args:
        name: What targets call it.
        url: Apprise's URL of the service. It has keys in it: no error shows it.

    Raises:
        InputError: Apprise makes nothing of the URL.
    """

    def __init__(self, name: str, *, url: str) -> None:
        self._name = name
        # Its log has URLs in it, and with them keys.
        logging.getLogger("apprise").disabled = True
        # No plugins of the user's, nothing kept on disk, and nobody asked for a new version.
        asset = apprise.AppriseAsset(
            plugin_paths=None, async_mode=True, secure_logging=True, app_id="rota", app_desc="rota"
        )
        self._service = apprise.Apprise(asset=asset)
        kind = url.partition(":")[0] if ":" in url else ""
        if not url.strip() or not self._service.add(url.strip()):
            raise InputError(
                f"{name}: Apprise makes nothing of its URL"
                + (f" of kind {kind!r}" if kind else ""),
                hint="https://appriseit.com/services lists what URLs look like",
            )

    @property
    def name(self) -> str:
        """Its name in the settings."""
        return self._name

    @property
    def abilities(self) -> Abilities:
        """What services commonly can."""
        return Abilities(characters=10_000, lines=200, every_s=1.0, burst=10)

    async def say(self, saying: Saying) -> Said:
        """Send it, and return when the service took it.

        Raises:
            LaterError: it did not, or it is not known.
        """
        body = "\n\n".join(part for part in (saying.text, saying.code, saying.link) if part)
        tone = _TONES.get(saying.tone, apprise.NotifyType.INFO)
        try:
            async with asyncio.timeout(WITHIN_S):
                was_taken = await self._service.async_notify(
                    body=body,
                    title=saying.subject,
                    notify_type=tone,
                    body_format=apprise.NotifyFormat.TEXT,
                )
        except TimeoutError:
            raise LaterError(f"{self._name} did not answer within {WITHIN_S:g} s") from None
        except (OSError, TypeError, ValueError) as error:
            # Its message may have the URL in it.
            raise LaterError(f"{self._name} failed: {type(error).__name__}") from None
        if not was_taken:
            raise LaterError(f"{self._name} did not take it; Apprise does not say why")
        return Said()
