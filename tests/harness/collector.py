"""A collector of traces: takes OTLP over HTTP, and reads it by the official messages."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from google.protobuf.json_format import Parse  # type: ignore[import-untyped]  # its stubs are a package of their own
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_IDS = ("traceId", "spanId", "parentSpanId")


def read(body: bytes) -> ExportTraceServiceRequest:
    """Read a request. In OTLP's JSON ids are hex, where protobuf's own has base64."""

    def ids(value: dict[str, Any]) -> dict[str, Any]:
        for name in _IDS:
            if name in value:
                value[name] = base64.b64encode(bytes.fromhex(value[name])).decode()
        return value

    text = json.dumps(json.loads(body, object_hook=ids))
    request = ExportTraceServiceRequest()
    Parse(text, request)  # unknown fields are refused
    return request


class Got:
    """A span as it came."""

    def __init__(self, span: Any, resource: Any) -> None:
        self.trace, self.id = span.trace_id.hex(), span.span_id.hex()
        self.parent, self.name = span.parent_span_id.hex(), span.name
        self.start, self.end = span.start_time_unix_nano, span.end_time_unix_nano
        self.is_error, self.message = span.status.code == 2, span.status.message
        self.attributes = {it.key: _plain(it.value) for it in span.attributes}
        self.resource = {it.key: _plain(it.value) for it in resource.attributes}
        assert len(span.trace_id) == 16
        assert len(span.span_id) == 8
        assert self.start <= self.end


def _plain(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


def spans(request: ExportTraceServiceRequest) -> list[Got]:
    return [
        Got(span, resource.resource)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


class FakeCollector:
    """Takes spans, or answers with ``status``."""

    def __init__(self) -> None:
        self.spans: list[Got] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.port = 0
        self.asked = 0

    async def _take(self, request: web.Request) -> web.Response:
        self.asked += 1
        assert request.content_type == "application/json"
        body = await request.read()
        if self.status != 200:
            return web.Response(status=self.status, text="not now")
        self.headers.append(dict(request.headers))
        self.spans += spans(read(body))
        return web.json_response({"partialSuccess": {}})

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[FakeCollector]:
        app = web.Application()
        app.router.add_post("/v1/traces", self._take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    def named(self, name: str) -> list[Got]:
        return [it for it in self.spans if it.name == name]

    async def until(self, name: str, count: int = 1) -> Got:
        """Return the last span of that name, once there are so many."""
        async with asyncio.timeout(30):
            while len(self.named(name)) < count:
                await asyncio.sleep(0.02)
        return self.named(name)[-1]
