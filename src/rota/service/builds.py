"""Verbs on builds: request, look, wait, cancel, retry, send."""

from __future__ import annotations

import hashlib
import itertools
import secrets

from msgspec.structs import replace

from rota.core.build import Build, Trigger
from rota.core.definitions import Definition
from rota.core.events import BuildCancelled, BuildRequested, BuildRetried
from rota.core.ids import ID_ALPHABET, ID_LENGTH, parse_build_ref, parse_job_name
from rota.core.params import resolve_params
from rota.core.problem import nearest
from rota.core.states import State
from rota.errors import ConflictError, InputError, NotFoundError, StaleError, UnavailableError
from rota.service import messages as m
from rota.service.context import Principal, Service
from rota.service.explain import explain
from rota.service.world import World

MAX_SEND = 64 * 1024
#: A cancel or retry that meets another writer looks again and repeats; this often at most.
TRIES = 10
LIVE_STATES = (State.HELD, State.QUEUED, State.RUNNING)


async def run(service: Service, request: m.RunRequest, who: Principal) -> Build:
    """Request a build. The same idempotency key gives the same build, however often."""
    definition = find_definition(service.world, request.job)
    build_id = new_id(who.name, request.job, request.key)
    if request.key and (known := service.world.find(build_id)) is not None:
        return known
    _refuse_if_not_now(service, definition)
    params, problems = resolve_params(definition.job.params, request.params)
    if problems:
        raise InputError(
            f"{request.job} cannot take these parameters",
            problems=problems,
            hint=f"see what it takes: rota show {request.job}",
        )
    spec = definition.job.spec
    if spec.timeout_s is None:
        spec = replace(spec, timeout_s=service.world.definitions.settings.timeout_s)
    event = BuildRequested(
        at=service.clock.now(),
        by=who.name,
        agent=service.me.name,
        build=build_id,
        job=definition.job.name,
        spec=spec if request.priority is None else replace(spec, priority=request.priority),
        params=params,
        trigger=Trigger(
            kind="build" if who.build else "manual", by=who.name, source=who.build, key=request.key
        ),
        commit=service.world.commit,
        script=definition.blob,
    )
    try:
        await service.write(event, expect=0)
    except StaleError:
        # The same key, a moment ago: whoever was first wrote the build that both are told of.
        await service.world.changed(build_id, 0.1)
    build = service.world.find(build_id)
    if build is None:
        raise UnavailableError(f"build {build_id} was requested, but is not here yet")
    return build


async def builds(service: Service, request: m.BuildsRequest, who: Principal) -> list[Build]:
    """List builds, newest first: those in memory and those in the index."""
    wanted = _states(request.state)
    live = sorted(
        (build for build in service.world.live() if _matches(build, request, wanted)),
        key=lambda build: -build.requested_seq,
    )
    found = live[: request.limit]
    if State.FINISHED in wanted and len(found) < request.limit:
        past = service.world.past(
            job=request.job or None,
            result=request.result or None,
            before=request.before,
            limit=request.limit,
        )
        both = {build.id: build for build in itertools.chain(past, live)}
        found = sorted(both.values(), key=lambda build: -build.requested_seq)
    return found[: request.limit]


async def build(service: Service, request: m.BuildRequest, who: Principal) -> Build:
    """Show a build; with ``wait``, once it has finished or the time is over."""
    found = find_build(service.world, request.build)
    if request.wait > 0 and found.state is not State.FINISHED:
        return await service.world.finished(found.id, request.wait)
    return found


async def cancel(service: Service, request: m.CancelRequest, who: Principal) -> Build:
    """Cancel a build. One that is over is left as it is, and said so."""
    found = find_build(service.world, request.build)
    for _ in range(TRIES):
        if found.state is State.FINISHED:
            raise ConflictError(f"{found.ref} is over: {found.result}")
        event = BuildCancelled(
            at=service.clock.now(),
            by=who.name,
            agent=service.me.name,
            build=found.id,
            why=request.why,
        )
        try:
            await service.write(event, expect=found.last_seq)
        except StaleError:
            found = await _newer(service, found)
            continue
        return service.world.find(found.id) or found
    raise UnavailableError(f"{found.ref} changes too fast; try again")


async def retry(service: Service, request: m.RetryRequest, who: Principal) -> Build:
    """Queue a finished build again, as its next attempt, with the same script and parameters."""
    found = find_build(service.world, request.build)
    if found.state is not State.FINISHED:
        raise ConflictError(
            f"{found.ref} is {found.state}; only a finished build can be tried again",
            hint=f"cancel it first: rota cancel {found.ref!r}",
        )
    event = BuildRetried(
        at=service.clock.now(), by=who.name, agent=service.me.name, build=found.id, record=found
    )
    # A build that left memory has no event in reach to compare with; the fold is the judge then.
    live = found.id in service.world.cluster.picture.builds
    await service.write(event, expect=found.last_seq if live else None)
    return service.world.find(found.id) or found


async def send(service: Service, request: m.SendRequest, who: Principal) -> m.Sent:
    """Write to a running script's standard input."""
    data = request.text.encode()
    if len(data) > MAX_SEND:
        raise InputError(f"{len(data)} bytes to send, the limit is {MAX_SEND}")
    found = find_build(service.world, request.build)
    if found.state is not State.RUNNING:
        raise ConflictError(f"{found.ref} is {found.state}; only a running build listens")
    if not found.spec.stdin:
        raise ConflictError(
            f"{found.ref} has no standard input",
            hint="set `stdin = true` in the job's header, so that later builds listen",
        )
    await service.attempts.send(found.id, data, eof=request.eof)
    return m.Sent(bytes=len(data))


async def why(service: Service, request: m.BuildRequest, who: Principal) -> m.Why:
    """Say what a build waits for, or how it ended."""
    return explain(service.world, find_build(service.world, request.build), service.clock.now())


def new_id(who: str, job: str, key: str) -> str:
    """Return a fresh id; with an idempotency key, the one id that key stands for."""
    if not key:
        return "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))
    digest = hashlib.sha256(f"{who}\0{job}\0{key}".encode()).digest()
    return "".join(ID_ALPHABET[byte & 31] for byte in digest[:ID_LENGTH])


def find_definition(world: World, name: str) -> Definition:
    """Return a job's definition.

    Raises:
        NotFoundError: with the name that is most like it.
    """
    parse_job_name(name)
    found = world.definitions.jobs.get(name)
    if found is None:
        raise NotFoundError(
            f"no job {name!r}",
            hint=nearest(name, world.definitions.jobs) or "see which there are: rota jobs",
        )
    return found


def find_build(world: World, text: str) -> Build:
    """Return the build that a person named.

    Raises:
        InputError: the text names none, or several.
        NotFoundError: there is no such build.
    """
    ref = parse_build_ref(text)
    if ref.job is not None and ref.number is not None:
        found = world.find_number(ref.job, ref.number)
        if found is not None:
            return found
        last = world.last_number(ref.job)
        raise NotFoundError(
            f"no build {text}", hint=f"the latest of {ref.job} is #{last}" if last else None
        )
    if ref.job is not None and (last := world.last_number(ref.job)):
        found = world.find_number(ref.job, last)
        if found is not None:
            return found
    if ref.prefix is not None:
        matches = world.find_prefix(ref.prefix)
        if len(matches) > 1:
            raise InputError(f"several builds have an id that starts with {text!r}")
        if matches:
            return matches[0]
    if ref.job in world.definitions.jobs:
        raise NotFoundError(f"{text} has no build yet", hint=f"start one: rota run {text}")
    raise NotFoundError(f"no build {text!r}", hint="see which there are: rota builds")


def _refuse_if_not_now(service: Service, definition: Definition) -> None:
    paused = definition.paused
    name = definition.job.name
    if paused is not None:
        why = f": {paused.reason}" if paused.reason else ""
        raise ConflictError(
            f"{name} is paused by {paused.by}{why}", hint=f"resume it: rota resume {name}"
        )
    full = service.world.troubles.get("disk")
    if full is not None:
        raise UnavailableError(full, hint="free some space; nothing was lost")


async def _newer(service: Service, build: Build) -> Build:
    """Return a build once this agent knows more of it than ``build`` says."""
    for _ in range(TRIES):
        now = service.world.find(build.id) or build
        if now.last_seq > build.last_seq:
            return now
        await service.world.changed(build.id, 0.5)
    return service.world.find(build.id) or build


def _states(text: str) -> tuple[State, ...]:
    if not text:
        return tuple(State)
    if text == "live":
        return LIVE_STATES
    try:
        return (State(text),)
    except ValueError:
        known = [*State, "live"]
        raise InputError(
            f"no state {text!r}", hint=nearest(text, known) or "one of " + ", ".join(known)
        ) from None


def _matches(build: Build, request: m.BuildsRequest, wanted: tuple[State, ...]) -> bool:
    return (
        build.state in wanted
        and (not request.job or build.job == request.job)
        and (not request.result or build.result == request.result)
        and (request.before is None or build.requested_seq < request.before)
    )
