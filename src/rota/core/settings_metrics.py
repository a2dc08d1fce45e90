"""``[metrics]`` of the settings: what is told to who watches the cluster."""

from __future__ import annotations

import msgspec

from rota.core import fields
from rota.core.fields import Field


class MetricsSettings(msgspec.Struct, frozen=True):
    """What the page `/metrics` tells, and to whom: ``[metrics]``."""

    open: bool = False  # open: it is told to anyone that reaches an agent, without a token
    jobs: int = 100  # jobs: so many jobs have numbers of their own; all others are "other"


_METRICS = {
    "open": Field("open", fields.boolean, "open = true"),
    "jobs": Field("jobs", fields.integer(0, 1000), "jobs = 100"),
}

#: What the settings say by this key.
METRICS = {
    "metrics": Field(
        "metrics", fields.table(_METRICS, MetricsSettings), "[metrics] with open = true"
    )
}
