"""``[secrets]`` of the settings: programs that give secrets which the store does not have."""

from __future__ import annotations

from typing import Any

import msgspec

from rota.core import fields
from rota.core.fields import Field, FieldError, Spot, printed_value
from rota.core.secret_use import provider_name_fault


class Provider(msgspec.Struct, frozen=True, omit_defaults=True):
    """A program that prints a secret: ``[secrets.provider.NAME]``, for ``NAME:PATH`` in headers.

    ``{path}`` in its ``command`` stands for what is asked for; without it that comes last. ``jobs``
    and ``branches`` are rules, as secrets of the store have them.
    """

    command: tuple[str, ...] = ()
    timeout_s: float = 30.0
    jobs: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()


class SecretSettings(msgspec.Struct, frozen=True):
    """Where secrets come from beside the store: ``[secrets]``."""

    provider: dict[str, Provider] = {}


def _command(value: Any, spot: Spot) -> tuple[str, ...]:
    found = fields.list_of(fields.text)(value, spot)
    if not found or not found[0].startswith("/"):
        given = printed_value(found[0]) if found else "nothing"
        raise FieldError(f"must begin with a program's whole path, not {given}")
    return found


def _globs(value: Any, spot: Spot) -> tuple[str, ...]:
    return fields.list_of(fields.text)(value, spot)


_PROVIDER = {
    "command": Field("command", _command, 'command = ["/usr/local/bin/vault-read", "{path}"]'),
    "timeout": Field("timeout_s", fields.duration(0.1, 600), 'timeout = "30s"'),
    "jobs": Field("jobs", _globs, 'jobs = ["web/*"]'),
    "branches": Field("branches", _globs, 'branches = ["main"]'),
}

read_secret_settings = fields.table(
    {
        "provider": Field(
            "provider",
            fields.table_of(
                provider_name_fault, fields.table(_PROVIDER, Provider, required=("command",))
            ),
            '[secrets.provider.vault] with command = ["/usr/local/bin/vault-read", "{path}"]',
        )
    },
    SecretSettings,
)

#: What the settings say by this key.
SECRETS = {
    "secrets": Field(
        "secrets", read_secret_settings, "[secrets.provider.NAME] with command = [...]"
    )
}
