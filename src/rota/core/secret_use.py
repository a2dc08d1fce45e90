"""How a header names a secret, and how it is given to the script."""

from __future__ import annotations

import re

import msgspec

from rota.core.scm import Int

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_PROVIDER = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class SecretUse(msgspec.Struct, frozen=True, omit_defaults=True):
    """A secret that a job asks for.

    ``name`` is that of the store; with a ``provider`` it is what that one is asked for. The value
    stands in the variable ``env``; or in a file called ``file``, whose path the variable holds. One
    that is ``optional`` may be missing. ``line`` and ``column`` are where it stands in the script.
    """

    name: str
    env: str = ""
    file: str = ""
    provider: str = ""
    optional: bool = False
    line: Int = 0
    column: Int = 0

    @property
    def ref(self) -> str:
        """What the header calls it."""
        return f"{self.provider}:{self.name}" if self.provider else self.name


def secret_name_fault(name: str) -> str | None:
    """Say what is wrong with a secret's name; ``None`` if nothing is."""
    if not _NAME.fullmatch(name) or name.endswith(".lock"):
        return "1 to 100 letters, digits and . _ -, such as NPM_TOKEN"
    return None


def provider_name_fault(name: str) -> str | None:
    """Say what is wrong with a provider's name; ``None`` if nothing is."""
    return None if _PROVIDER.fullmatch(name) else "is no name: small letters, digits, - and _"
