"""A build as spans of a trace: what happened when, derived from what is folded.

The ids of traces and spans are hashes of what they stand for, so every agent makes the same ones: what is told
twice, by a leader and by who leads after it, is one span. A trigger that came with a ``traceparent`` (W3C Trace
Context) has its tree told as part of that trace. Words are those of OpenTelemetry's conventions for CI/CD.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from rota.core.build import Build
from rota.core.events import EPOCH
from rota.core.states import Result

#: In a trigger's data, where its trace came from.
TRACEPARENT = "traceparent"
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_RESULTS = {
    Result.PASSED: "success",
    Result.FAILED: "failure",
    Result.ERRORED: "error",
    Result.LOST: "error",
    Result.TIMED_OUT: "timeout",
    Result.CANCELLED: "cancellation",
}
MAX_TEXT = 500

Value = str | int | bool


class Context(msgspec.Struct, frozen=True):
    """A trace, and the span in it under which something stands: ids in hex."""

    trace: str
    span: str
    sampled: bool = True

    @property
    def header(self) -> str:
        """Return it as a ``traceparent``."""
        return f"00-{self.trace}-{self.span}-{'01' if self.sampled else '00'}"


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Something that took its time; ``fault`` says why it went wrong, if it did."""

    trace: str
    id: str
    parent: str = ""
    name: str
    start: datetime
    end: datetime
    agent: str = ""  # where it happened; empty: nowhere in particular
    attributes: dict[str, Value] = {}
    fault: str | None = None


class Seen(msgspec.Struct, frozen=True):
    """What was seen of a build as its events were folded, and what does not stand in it."""

    queued_at: datetime | None = None  # where it was held before
    checked_out: tuple[tuple[int, datetime], ...] = ()  # by attempt


def parse_traceparent(text: str) -> Context | None:
    """Return what a ``traceparent`` says; ``None`` for what is none, which the standard passes over."""
    found = _TRACEPARENT.fullmatch(text.strip())
    if found is None or not int(found[1], 16) or not int(found[2], 16):
        return None
    if text.strip().startswith("00-") and len(text.strip()) != 55:
        return None
    return Context(found[1], found[2], bool(int(found[3], 16) & 1))


def trace_of(root: str, given: str) -> Context:
    """Return the trace of a tree, and the span of its pipeline.

    Args:
        root: The id of the tree's root.
        given: The ``traceparent`` that the root's trigger came with; empty for none.
    """
    outer = parse_traceparent(given)
    span = _id("pipeline", root)[:16]
    if outer is None:
        return Context(_id("trace", root)[:32], span)
    return Context(outer.trace, span, outer.sampled)


def context_of(build: Build, attempt: int, tree: Context) -> Context:
    """Return what an attempt's script is told: the trace, and the attempt's own span."""
    return Context(tree.trace, _attempt_id(build, attempt), tree.sampled)


def pipeline_span(root: Build, tree: Context, end: datetime) -> Span:
    """Return the span of a whole tree, which ended when the last of its builds did."""
    outer = parse_traceparent(root.trigger.data.get(TRACEPARENT, ""))
    return Span(
        trace=tree.trace,
        id=tree.span,
        parent=outer.span if outer is not None else "",
        name=f"pipeline {root.job}",
        start=root.requested_at,
        end=end,
        attributes={
            "cicd.pipeline.name": root.job,
            "cicd.pipeline.run.id": root.id,
            "cicd.pipeline.result": _RESULTS.get(root.result or Result.ERRORED, "error"),
            "rota.trigger": root.trigger.kind,
            "rota.by": root.trigger.by,
        },
        fault=_fault(root),
    )


def build_spans(build: Build, tree: Context, seen: Seen) -> Iterator[Span]:
    """Yield the spans of a build that has ended: itself, its waits, its attempts and what is in them."""
    own, end = _id("build", build.id)[:16], build.finished_at or build.requested_at
    whole = Span(
        trace=tree.trace,
        id=own,
        parent=_parent(build, tree),
        name=build.ref,
        start=build.requested_at,
        end=end,
        attributes={
            "cicd.pipeline.task.name": build.job,
            "cicd.pipeline.task.run.id": build.id,
            "cicd.pipeline.task.run.result": _RESULTS.get(build.result or Result.ERRORED, "error"),
            "rota.build": build.ref,
            "rota.result": str(build.result or ""),
            "rota.reason": str(build.reason or ""),
            "rota.attempts": build.attempt,
            "rota.trigger": build.trigger.kind,
            "rota.by": build.trigger.by,
        },
        fault=_fault(build),
    )
    yield whole
    since = build.requested_at
    if seen.queued_at is not None and seen.queued_at > since:
        yield _part(whole, "held", since, seen.queued_at)
        since = seen.queued_at
    for former in build.former:
        if former.started_at is not None and former.finished_at is not None:
            yield _part(whole, "queued", since, former.started_at, str(former.attempt))
            yield _attempt(
                build,
                whole,
                number=former.attempt,
                agent=former.agent,
                start=former.started_at,
                end=former.finished_at,
                reason=str(former.reason),
                fault=None if former.result is Result.PASSED else former.message or former.reason,
            )
            yield from _checkout(build, whole, seen, former.attempt, former.started_at)
            since = former.finished_at
    if build.attempt == 0 or build.started_at is None or build.finished_at is None:
        yield _part(whole, "queued", since, end, "0")
        return
    yield _part(whole, "queued", since, build.started_at, str(build.attempt))
    last = _attempt(
        build,
        whole,
        number=build.attempt,
        agent=build.agent or "",
        start=build.started_at,
        end=build.finished_at,
        reason=str(build.reason or ""),
        fault=_fault(build),
    )
    yield last
    yield from _checkout(build, last, seen, build.attempt, build.started_at)
    yield from _steps(build, last)
    kept = [it.kept_at for it in build.artifacts if it.kept_at is not None]
    if kept:
        size = sum(it.size for it in build.artifacts)
        more: dict[str, Value] = {"rota.files": len(build.artifacts), "rota.bytes": size}
        yield _part(last, "artifacts", min(kept), max(kept), attributes=more)


def _parent(build: Build, tree: Context) -> str:
    if not build.parent:
        return tree.span
    asked_in = parse_traceparent(build.trigger.data.get(TRACEPARENT, ""))
    if asked_in is not None and asked_in.trace == tree.trace:
        return asked_in.span  # the script, or what it was doing just then, asked for it
    return _id("build", build.parent)[:16]


def _attempt(
    build: Build,
    whole: Span,
    *,
    number: int,
    agent: str,
    start: datetime,
    end: datetime,
    reason: str,
    fault: str | None,
) -> Span:
    return Span(
        trace=whole.trace,
        id=_attempt_id(build, number),
        parent=whole.id,
        name=f"attempt {number}",
        start=start,
        end=end,
        agent=agent,
        attributes={
            "cicd.worker.name": agent,
            "rota.build": build.ref,
            "rota.attempt": number,
            "rota.reason": reason,
        },
        fault=None if fault is None else fault[:MAX_TEXT],
    )


def _checkout(
    build: Build, parent: Span, seen: Seen, attempt: int, start: datetime
) -> Iterator[Span]:
    for number, at in seen.checked_out:
        if number == attempt:
            found = _part(parent, "checkout", start, at, str(attempt))
            source = build.source
            if source is not None:
                head: dict[str, Value] = {"vcs.ref.head.revision": source.commit}
                found = msgspec.structs.replace(found, attributes=head)
            yield msgspec.structs.replace(found, parent=_attempt_id(build, attempt))


def _steps(build: Build, last: Span) -> Iterator[Span]:
    """Yield the steps, those inside of others below them."""
    above: list[str] = []
    for number, step in enumerate(build.steps):
        del above[step.depth :]
        span = _part(
            last,
            step.name,
            step.started_at,
            step.ended_at or last.end,
            f"step {number}",
            attributes={} if step.status is None else {"process.exit.code": step.status},
        )
        if step.status:
            span = msgspec.structs.replace(span, fault=f"exit status {step.status}")
        yield msgspec.structs.replace(span, parent=above[-1] if above else last.id)
        above.append(span.id)


def _part(
    whole: Span,
    name: str,
    start: datetime,
    end: datetime,
    key: str = "",
    attributes: Mapping[str, Value] = {},
) -> Span:
    """Return a span inside another one; clocks of several agents may differ, time goes forwards."""
    return Span(
        trace=whole.trace,
        id=_id("part", whole.id, name, key)[:16],
        parent=whole.id,
        name=name,
        start=start,
        end=max(start, end),
        agent=whole.agent,
        attributes=dict(attributes),
    )


def _fault(build: Build) -> str | None:
    if build.result is Result.PASSED:
        return None
    words = (str(build.reason or build.result or ""), build.step, build.message)
    return ": ".join(filter(None, words))[:MAX_TEXT]


def _attempt_id(build: Build, attempt: int) -> str:
    return _id("attempt", build.id, str(attempt))[:16]


def _id(*parts: str) -> str:
    return hashlib.sha256("\0".join(("rota", *parts)).encode()).hexdigest()


# -- OTLP ---------------------------------------------------------------------------------------


def encode_spans(spans: Sequence[Span], *, version: str) -> bytes:
    """Return an ``ExportTraceServiceRequest`` in OTLP's JSON; a resource for each agent."""
    by_agent: dict[str, list[Span]] = {}
    for span in spans:
        by_agent.setdefault(span.agent, []).append(span)
    resources = [
        {
            "resource": {"attributes": _attributes(_resource(agent, version))},
            "scopeSpans": [
                {"scope": {"name": "rota", "version": version}, "spans": [_shown(it) for it in its]}
            ],
        }
        for agent, its in by_agent.items()
    ]
    return msgspec.json.encode({"resourceSpans": resources})


def _resource(agent: str, version: str) -> dict[str, Value]:
    known: dict[str, Value] = {"service.name": "rota", "service.version": version}
    return known | ({"service.instance.id": agent} if agent else {})


def _shown(span: Span) -> dict[str, object]:
    shown: dict[str, object] = {
        "traceId": span.trace,
        "spanId": span.id,
        "name": span.name,
        "kind": 1,  # internal
        "startTimeUnixNano": _nanoseconds(span.start),
        "endTimeUnixNano": _nanoseconds(max(span.start, span.end)),
        "attributes": _attributes(span.attributes),
        "status": {} if span.fault is None else {"code": 2, "message": span.fault},
    }
    if span.parent:
        shown["parentSpanId"] = span.parent
    return shown


def _attributes(values: Mapping[str, Value]) -> list[dict[str, object]]:
    return [{"key": name, "value": _value(it)} for name, it in values.items() if it != ""]


def _value(value: Value) -> dict[str, Value]:
    if isinstance(value, bool):
        return {"boolValue": value}
    # 64 bits do not fit into JSON's numbers: they are strings there.
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}


def _nanoseconds(at: datetime) -> str:
    return str((at - EPOCH) // timedelta(microseconds=1) * 1000)
