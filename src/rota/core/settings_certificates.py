"""``[certificates]`` in settings.toml: how long agents' certificates live, and their keys."""

from __future__ import annotations

import msgspec

from rota.core import fields
from rota.core.fields import Field
from rota.core.header import DAY_S

HOUR_S = 3600.0
LIFE_S = 90 * DAY_S


class CertificateSettings(msgspec.Struct, frozen=True):
    """How long agents' certificates live: ``[certificates]``."""

    life_s: float = LIFE_S  # life: renewed while the agent runs, when a third of it is left
    keys: bool = True  # keys: whether a renewal changes the key as well, once all members know it


#: What the settings say by this key.
CERTIFICATES = {
    "certificates": Field(
        "certificates",
        fields.table(
            {
                "life": Field("life_s", fields.duration(HOUR_S, 3650 * DAY_S), 'life = "90d"'),
                "keys": Field("keys", fields.boolean, "keys = false"),
            },
            CertificateSettings,
        ),
        '[certificates] with life = "90d"',
    )
}
