"""``[traces]`` of the settings: who is told of builds as traces."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from rota.core import fields
from rota.core.fields import Field, FieldError, Spot, printed_value
from rota.core.secret_use import secret_name_fault


class TracesSettings(msgspec.Struct, frozen=True):
    """Where builds are told as traces, by OTLP over HTTP: ``[traces]``."""

    endpoint: str = ""  # endpoint: of a collector, such as http://otel.example:4318
    headers: str = ""  # headers: the name of a secret that is sent along: key=value,key=value


def _endpoint(value: Any, spot: Spot) -> str:
    url = fields.text(value, spot)
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", url):
        raise FieldError(
            f"must be a URL, not {printed_value(url)}", 'such as "http://otel.example:4318"'
        )
    return url.rstrip("/").removesuffix("/v1/traces")


def _secret(value: Any, spot: Spot) -> str:
    name = fields.text(value, spot)
    fault = secret_name_fault(name)
    if fault is not None:
        raise FieldError(fault, "the name of a secret: rota secret set NAME")
    return name


_TRACES = {
    "endpoint": Field("endpoint", _endpoint, 'endpoint = "http://otel.example:4318"'),
    "headers": Field("headers", _secret, 'headers = "otel-headers", the name of a secret'),
}

#: What the settings say by this key.
TRACES = {
    "traces": Field(
        "traces",
        fields.table(_TRACES, TracesSettings, required=("endpoint",)),
        '[traces] with endpoint = "http://otel.example:4318"',
    )
}
