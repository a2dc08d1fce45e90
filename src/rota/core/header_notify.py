"""The part of a header about who is told of a job's builds: `notify`."""

from __future__ import annotations

from rota.core.fields import Field
from rota.core.preferences import read_notify

NOTIFY = {
    "notify": Field("notify", read_notify, 'notify = [{ to = "irc:#web", on = "always" }]'),
}
