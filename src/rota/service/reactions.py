"""The events that ask for what a rule wants, or say why that cannot be."""

from __future__ import annotations

from collections.abc import Sequence

from rota.core.events import Event, TriggerFailed
from rota.core.pipelines import Wish, plan
from rota.core.reactions import Request
from rota.errors import InputError, RotaError
from rota.service.context import Service
from rota.service.pipelines import event_for


def events_for(
    service: Service, requests: Sequence[Request]
) -> Sequence[tuple[Event, Sequence[str]]]:
    """Return the events for all requests of one cause, each with the requests that it settles.

    The builds are one pipeline, asked for by one event, whose root is the first of them.
    """
    events: list[tuple[Event, Sequence[str]]] = []
    good: list[Wish] = []
    for request in requests:
        wish = _wish(request)
        if fault := request.fault or _fault(service, wish):
            events.append((_failed(service, request, fault), (request.id,)))
        else:
            good.append(wish)
    if not good:
        return events
    by_id = {request.id: request for request in requests}
    try:
        planned = plan(service.world.definitions, good[0].id, good, service.world.find)
    except RotaError as error:
        # Each would do alone, all of them are too much.
        refused = (_failed(service, by_id[wish.id], error.message) for wish in good)
        return [*events, *((event, (event.build,)) for event in refused)]
    if planned.builds:
        event = event_for(service, planned, good[0].id, good[0].trigger.by)
        events.append((event, tuple(wish.id for wish in good)))
    return events


def _wish(request: Request) -> Wish:
    return Wish(
        id=request.id,
        job=request.job,
        params=dict(request.params),
        trigger=request.trigger,
        priority=request.priority,
    )


def _fault(service: Service, wish: Wish) -> str:
    """Return why a build cannot be asked for; empty: it can."""
    try:
        plan(service.world.definitions, wish.id, [wish], service.world.find)
    except InputError as error:
        return "; ".join(map(str, error.problems)) or error.message
    except RotaError as error:
        return error.message
    return ""


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
