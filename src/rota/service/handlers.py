"""Which function carries out which verb."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rota.service import (
    agents,
    artifacts,
    builds,
    cluster,
    events,
    hooks,
    jobs,
    people,
    queueing,
    schedules,
    trees,
    watches,
)

#: By the verb's name. A handler takes the service, the request and the principal. Stream verbs are
#: not here: what they return is not one value, and their edge calls them by themselves.
HANDLERS: dict[str, Callable[..., Any]] = {
    "status": agents.status,
    "agents": agents.agents,
    "stop": agents.stop,
    "drain": agents.drain,
    "label": agents.label,
    "leave": agents.leave,
    "forget": agents.forget,
    "cluster": cluster.ring,
    "invite": cluster.invite,
    "invitations": cluster.invitations,
    "revoke": cluster.revoke,
    "recover": cluster.recover,
    "jobs": jobs.jobs,
    "job": jobs.job,
    "put": jobs.put,
    "rm": jobs.rm,
    "pause": jobs.pause,
    "resume": jobs.resume,
    "check": jobs.check,
    "schedules": schedules.schedules,
    "why_not": schedules.why_not,
    "backfill": schedules.backfill,
    "run": builds.run,
    "builds": builds.builds,
    "build": builds.build,
    "tree": trees.tree,
    "cancel": builds.cancel,
    "retry": builds.retry,
    "send": builds.send,
    "approve": people.approve,
    "reject": people.reject,
    "ask": people.ask,
    "question": people.question,
    "answer": people.answer,
    "asks": people.asks,
    "why": builds.why,
    "queue": queueing.queue,
    "limits": queueing.limits,
    "artifacts": artifacts.artifacts,
    "watches": watches.watches,
    "watch": watches.watch,
    "unwatch": watches.unwatch,
    "emit": events.emit,
    "hooks": hooks.hooks,
    "hook": hooks.hook,
    "put_hook": hooks.put,
    "rm_hook": hooks.rm,
}
