"""Clouds by Apache Libcloud, in threads; imported when the first one is opened, and not before."""

from __future__ import annotations

import os
from pathlib import Path

from rota.core.settings_clouds import Cloud
from rota.errors import InputError, NotFoundError, RotaError
from rota.ports.clouds import Provider, ReadSecret

__all__ = ["LibcloudProviders"]

#: What providers' own programs take from the environment, where the settings name nothing.
USUAL = {"ec2": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
MAX_KEY = 64 * 1024


class LibcloudProviders:
    """See :class:`rota.ports.clouds.Providers`."""

    async def open(self, name: str, cloud: Cloud, read: ReadSecret) -> Provider:
        """Return the provider of a cloud."""
        usual = USUAL.get(cloud.provider, ("", ""))
        key = await _value(name, "key", cloud.key or usual[0], read)
        secret = await _value(name, "secret", cloud.secret or usual[1], read)
        try:
            import libcloud  # noqa: F401 - whether it is there
        except ImportError:
            raise InputError(
                f"cloud {name} needs Apache Libcloud, and this agent has it not",
                hint="on every agent that may lead: pip install 'rota[cloud]'",
            ) from None
        if cloud.provider == "ec2":
            from rota.adapters.clouds.ec2 import Ec2

            return await Ec2.open(name, cloud, key, secret)
        from rota.adapters.clouds.generic import Generic

        return await Generic.open(name, cloud, key, secret)


async def _value(cloud: str, what: str, source: str, read: ReadSecret) -> str:
    """Return a key: from a file, a secret of the cluster, or this agent's environment."""
    if not source:
        return ""
    if source.startswith("/"):
        try:
            return Path(source).read_text(encoding="utf-8")[:MAX_KEY].strip()
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8"
            raise InputError(f"cloud {cloud}: cannot read {what} {source}: {why}") from error
    try:
        return (await read(source)).decode("utf-8").strip()
    except NotFoundError:
        found = os.environ.get(source)
    except UnicodeError:
        raise InputError(f"cloud {cloud}: the secret {source} is not UTF-8") from None
    except RotaError as error:
        raise InputError(f"cloud {cloud}: {error.message}", hint=error.hint) from error
    if found is None:
        raise InputError(
            f"cloud {cloud}: there is no secret {source}, and the agent that leads has no"
            f" environment variable of that name",
            hint=f'or name a file on every agent that may lead: {what} = "/etc/rota/…"',
        )
    return found.strip()
