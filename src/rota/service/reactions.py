"""The events that ask for what a rule wants, or say why that cannot be."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from rota.core.events import BuildRequested, Event, TriggerFailed
from rota.core.params import resolve_params
from rota.core.reactions import Request
from rota.service.context import Service


def events_for(
    service: Service, requests: Sequence[Request]
) -> Sequence[tuple[Event, Sequence[str]]]:
    """Return the events for all requests of one cause, each with the requests that it settles.

    The builds are one pipeline, whose root is the first of them.
    """
    events: list[tuple[Event, Sequence[str]]] = []
    root = ""
    for request in requests:
        event = _event(service, request, root)
        if not root and isinstance(event, BuildRequested):
            root = event.build
        events.append((event, (request.id,)))
    return events


def _event(service: Service, request: Request, root: str) -> BuildRequested | TriggerFailed:
    definition = service.world.definitions.jobs.get(request.job)
    if request.fault or definition is None:
        return _failed(service, request, request.fault or "the job is gone")
    params, problems = resolve_params(definition.job.params, request.params)
    if problems:
        return _failed(service, request, "; ".join(problems))
    spec = definition.job.spec
    if spec.timeout_s is None:
        spec = replace(spec, timeout_s=service.world.definitions.settings.timeout_s)
    if request.priority is not None:
        spec = replace(spec, priority=request.priority)
    return BuildRequested(
        at=service.clock.now(),
        by=request.trigger.by,
        agent=service.me.name,
        build=request.id,
        job=request.job,
        spec=spec,
        params=params,
        trigger=request.trigger,
        commit=service.world.commit,
        script=definition.blob,
        pipeline=root,
    )


def _failed(service: Service, request: Request, why: str) -> TriggerFailed:
    return TriggerFailed(
        at=service.clock.now(),
        by=request.trigger.by,
        agent=service.me.name,
        build=request.id,
        job=request.job,
        rule=request.trigger.source,
        cause=request.cause,
        why=why,
    )
