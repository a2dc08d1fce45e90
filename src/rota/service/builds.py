"""Verbs on builds: request, look, wait, cancel, retry, send."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence

import msgspec

from rota.core import gates
from rota.core.build import Build, Trigger
from rota.core.definitions import Definition
from rota.core.events import BuildCancelled, BuildRetried
from rota.core.ids import ID_ALPHABET, ID_LENGTH, derived_id, parse_build_ref, parse_job_name
from rota.core.origin import source_data
from rota.core.pipelines import Wish, plan
from rota.core.problem import nearest
from rota.core.revival import revival
from rota.core.spans import TRACEPARENT, parse_traceparent
from rota.core.states import Result, State
from rota.errors import ConflictError, InputError, NotFoundError, StaleError, UnavailableError
from rota.service import members, pipelines
from rota.service import messages as m
from rota.service.context import Principal, Service
from rota.service.explain import explain
from rota.service.newest import MAX_JOBS, PAGE, newest
from rota.service.pipelines import depth_of
from rota.service.sight import Sees, everything
from rota.service.world import World

MAX_SEND = 64 * 1024
#: A cancel or retry that meets another writer looks again and repeats; this often at most.
TRIES = 10
LIVE_STATES = (State.HELD, State.QUEUED, State.RUNNING)


async def run(service: Service, request: m.RunRequest, who: Principal) -> Build:
    """Request a build.

    The same idempotency key gives the same build, however often and however fast; with other
    parameters it is refused, since one of the two callers would get what it did not ask for.
    """
    build_id = new_id(who.name, parse_job_name(request.job), request.key)
    if request.key and (known := service.world.find(build_id)) is not None:
        return _same_request(service, request, known)
    definition = find_definition(service.world, request.job)
    _refuse_if_not_now(service, definition)
    parent = service.world.find(who.build) if who.build else None
    if parent is not None:
        depth_of(service, parent)
    wish = Wish(
        id=build_id,
        job=definition.job.name,
        params=request.params,
        trigger=Trigger(
            kind="build" if who.build else "manual",
            by=who.name,
            source=who.build,
            key=request.key,
            depth=parent.trigger.depth if parent is not None else 0,
            data={
                **(source_data(parent) if parent is not None else {}),
                **_trace(request.traceparent),
            },
        ),
        priority=request.priority,
        only=request.only,
        keep_workspace=request.keep_workspace,
        parent=parent.id if parent is not None else "",
    )
    root = parent.root if parent is not None else ""
    try:
        (found,) = await pipelines.request(service, [wish], by=who.name, pipeline=root)
    except StaleError:
        # The same key, a moment ago: whoever was first wrote the build that both are told of.
        return _same_request(service, request, await _appeared(service, build_id))
    return found


def _trace(given: str) -> dict[str, str]:
    """Return what a trigger says of the trace that it is part of."""
    return {TRACEPARENT: given.strip()} if parse_traceparent(given) is not None else {}


def _same_request(service: Service, request: m.RunRequest, known: Build) -> Build:
    """Return the build that a key stands for.

    Raises:
        ConflictError: it was requested with other parameters. Where the job has changed since,
            that cannot be told, and is not.
    """
    definition = service.world.definitions.jobs.get(request.job)
    if definition is None or definition.blob != known.script:
        return known
    wish = Wish(
        id="?", job=request.job, params=request.params, priority=request.priority, only=True
    )
    again = plan(service.world.definitions, "?", [wish], lambda _: None)
    wanted = again.builds[-1]
    if wanted.params != known.params or again.specs[wanted.spec].priority != known.spec.priority:
        raise ConflictError(
            f"the idempotency key {request.key!r} stands for {known.ref}, which was requested"
            " with other parameters",
            hint="a key is for one request and its repetitions: take a new one",
        )
    return known


async def _appeared(service: Service, build_id: str) -> Build:
    """Return a build that was written a moment ago, once this agent has folded it."""
    for _ in range(TRIES):
        build = service.world.find(build_id)
        if build is not None:
            return build
        await service.world.changed(build_id, 0.5)
    raise UnavailableError(
        f"build {build_id} was requested, but is not here yet", hint="look again: rota ps"
    )


async def builds(service: Service, request: m.BuildsRequest, who: Principal) -> list[Build]:
    """List builds, newest first: those in memory and those in the index."""
    wanted = _states(request.state)
    check_result(request.result)
    if request.job:
        if not who.sees(request.job):
            raise unknown_job(service.world, request.job, who.sees)
        refuse_unknown_job(service.world, request.job)
    live = [
        build
        for build in service.world.live()
        if _matches(build, request, wanted) and who.sees(build.job)
    ]
    past: Sequence[Build] = ()
    if State.FINISHED in wanted and not request.job and not who.sees_all:
        past = await _seen_past(service.world, request, who)
    elif State.FINISHED in wanted:
        past = service.world.past(
            job=request.job or None,
            result=request.result or None,
            before=request.before,
            limit=request.limit,
        )
    # Both, also where the live ones alone would do: an old one may wait among newer ones that ran.
    both = {build.id: build for build in (*past, *live)}
    return sorted(both.values(), key=lambda build: -build.requested_seq)[: request.limit]


async def _seen_past(world: World, request: m.BuildsRequest, who: Principal) -> Sequence[Build]:
    """Return the first builds of the index that somebody sees.

    Cost: where only few jobs are seen that of their builds, else of all builds that are newer.
    """
    seen = [job for job in world.cluster.picture.numbers if who.sees(job)]
    jobs = seen if len(seen) <= MAX_JOBS else None
    found: list[Build] = []
    for count, it in enumerate(newest(world, jobs, request.result, before=request.before)):
        if count % PAGE == PAGE - 1:
            await asyncio.sleep(0)
        if it.state is State.FINISHED and who.sees(it.job):
            found.append(it)
        if len(found) >= request.limit:
            break
    return found


async def build(service: Service, request: m.BuildRequest, who: Principal) -> Build:
    """Show a build; with ``wait``, once it has finished or the time is over."""
    found = find_build(service.world, request.build)
    if request.wait > 0 and found.state is not State.FINISHED:
        async with service.waits.of(who.build, found.id):
            return await service.world.finished(found.id, request.wait)
    return found


async def cancel(service: Service, request: m.CancelRequest, who: Principal) -> Build:
    """Cancel a build, with all that was asked for by it or for it unless ``alone``.

    Asking again while it is being ended changes nothing.

    Raises:
        ConflictError: it is over, and so is all below it.
    """
    found = find_build(service.world, request.build)
    is_tree = not request.alone or found.group is not None
    for _ in range(TRIES):
        is_over = found.state is State.FINISHED
        if is_over and not (is_tree and _has_live_children(service.world, found.id)):
            raise ConflictError(
                f"{found.ref} is over: {found.result}", hint=f"see how: rota why {found.ref!r}"
            )
        if found.cancelled_by is not None and not is_over:
            return found
        event = BuildCancelled(
            at=service.clock.now(),
            by=who.name,
            agent=service.me.name,
            build=found.id,
            why=request.why,
            tree=is_tree,
        )
        try:
            await service.write(event, expect=None if is_over else found.last_seq)
        except StaleError:
            found = await newer(service, found)
            continue
        return service.world.find(found.id) or found
    raise UnavailableError(f"{found.ref} changes too fast; try again")


def _has_live_children(world: World, build_id: str) -> bool:
    """Whether anything below a build has not finished, as far as it is in memory."""
    builds, todo, seen = world.cluster.picture.builds, [build_id], {build_id}
    while todo:
        for child in world.cluster.links.children.get(todo.pop(), ()):
            if builds[child].state is not State.FINISHED:
                return True
            if child not in seen:
                seen.add(child)
                todo.append(child)
    return False


async def retry(service: Service, request: m.RetryRequest, who: Principal) -> Build:
    """Queue a finished build again, as its next attempt, with the same script and parameters.

    What it needs and did not end well is tried again first; what did not run because of it, and the
    group that it is a cell of, wait for it again.

    Raises:
        ConflictError: it has not finished; also where somebody else was faster to try it again.
    """
    found = find_build(service.world, request.build)
    if found.state is not State.FINISHED:
        raise ConflictError(
            f"{found.ref} is {found.state}; only a finished build can be tried again",
            hint=f"cancel it first: rota cancel {found.ref!r}",
        )
    for other in revival(found, service.world.pipeline(found.root)):
        if other.id == found.id:
            found = await _retry_one(service, found, who)
        else:
            # Somebody else may be faster, or it may run by now: then it needs no retry.
            with contextlib.suppress(ConflictError):
                await _retry_one(service, other, who)
    return found


async def _retry_one(service: Service, found: Build, who: Principal) -> Build:
    for _ in range(TRIES):
        if found.state is not State.FINISHED:
            raise ConflictError(
                f"{found.ref} is {found.state} by now: somebody else tried it again"
            )
        event = BuildRetried(
            at=service.clock.now(),
            by=who.name,
            agent=service.me.name,
            build=found.id,
            record=_informed(service.world, found),
        )
        # Of one that left memory the journal has nothing any more (0), or its last event still.
        is_live = found.id in service.world.cluster.picture.builds
        for expect in (found.last_seq,) if is_live else (0, found.last_seq):
            try:
                await service.write(event, expect=expect)
            except StaleError:
                continue
            after = service.world.find(found.id) or found
            if after.state is not State.FINISHED or after.seq > found.seq:
                return after
        found = await newer(service, found)
    raise UnavailableError(f"{found.ref} changes too fast; try again")


def _informed(world: World, build: Build) -> Build:
    """Return a build that knows how those are by now that it waits for."""
    for edge in build.edges:
        other = world.find(edge.build)
        if other is not None:
            build = gates.told(build, other)
    return build


async def send(service: Service, request: m.SendRequest, who: Principal) -> m.Sent:
    """Write to a running script's standard input, wherever it runs."""
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
    if found.agent not in (None, service.me.name) and service.peers is not None:
        return await _send_there(service, found, request, who)
    await service.attempts.send(found.id, data, eof=request.eof)
    return m.Sent(bytes=len(data))


async def _send_there(
    service: Service, found: Build, request: m.SendRequest, who: Principal
) -> m.Sent:
    """Let the agent that runs a build write to it."""
    agent = found.agent or ""
    if who.peer or service.peers is None:
        # The peer that asked us knows less, or more, than we do; asking on could go in circles.
        raise UnavailableError(f"{found.ref} runs on {agent} by now", hint="send it again")
    answer = await service.peers.request(
        members.peer(service.world, agent),
        "POST",
        f"/v1/builds/{found.id}/input",
        body=msgspec.json.encode({"text": request.text, "eof": request.eof}),
        headers=members.spoken_for(who),
    )
    return msgspec.json.decode(answer, type=m.Sent)


async def why(service: Service, request: m.BuildRequest, who: Principal) -> m.Why:
    """Say what a build waits for, or how it ended; with ``wait``, once it has or time is over."""
    found = await build(service, request, who)
    return explain(service.world, found, service.clock.now(), who.sees)


def new_id(who: str, job: str, key: str) -> str:
    """Return a fresh id; with an idempotency key, the one id that key stands for."""
    if not key:
        return "".join(ID_ALPHABET[byte & 31] for byte in secrets.token_bytes(ID_LENGTH))
    return derived_id(who, job, key)


def find_definition(world: World, name: str) -> Definition:
    """Return a job's definition.

    Raises:
        NotFoundError: with the name that is most like it.
    """
    parse_job_name(name)
    found = world.definitions.jobs.get(name)
    if found is None:
        raise unknown_job(world, name)
    return found


def unknown_job(world: World, name: str, sees: Sees = everything) -> NotFoundError:
    """Return what is said of a job that is not there; the hint names the most like it that is seen."""
    known = world.definitions.jobs
    seen = known if sees is everything else [it for it in known if sees(it)]
    return NotFoundError(
        f"no job {name!r}", hint=nearest(name, seen) or "see which there are: rota jobs"
    )


def find_build(world: World, text: str, sees: Sees = everything) -> Build:
    """Return the build that a person named.

    Args:
        world: Where to look.
        text: ``job#number``, ``job`` for its latest, or the beginning of an id.
        sees: Of which jobs builds are there for that person.

    Raises:
        InputError: the text names none, or several.
        NotFoundError: there is no such build.
    """
    ref = parse_build_ref(text)
    is_seen = ref.job is not None and sees(ref.job)
    last = world.last_number(ref.job) if ref.job is not None and is_seen else 0
    if ref.job is not None and ref.number is not None:
        found = world.find_number(ref.job, ref.number) if is_seen else None
        if found is not None:
            return found
        raise NotFoundError(
            f"no build {text}", hint=f"the latest of {ref.job} is #{last}" if last else None
        )
    if ref.job is not None and last:
        found = world.find_number(ref.job, last)
        if found is not None:
            return found
    if ref.prefix is not None:
        matches = world.find_prefix(ref.prefix, None if sees is everything else sees)
        if len(matches) > 1:
            raise InputError(
                f"several builds have an id that starts with {text!r}",
                hint=f"more of it: {' or '.join(build.id for build in matches)}",
            )
        if matches:
            return matches[0]
    if is_seen and ref.job in world.definitions.jobs:
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


async def newer(service: Service, build: Build) -> Build:
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
            f"no state {text!r}",
            hint=nearest(text, map(str, known)) or "one of " + ", ".join(known),
        ) from None


def check_result(text: str) -> None:
    """Do nothing if ``text`` is a result, or empty.

    Raises:
        InputError: it is none.
    """
    if text and text not in set(Result):
        raise InputError(
            f"no result {text!r}",
            hint=nearest(text, map(str, Result)) or "one of " + ", ".join(Result),
        )


def refuse_unknown_job(world: World, name: str) -> None:
    """Do nothing if there is or was a job of that name: an empty list would hide the mistake.

    Raises:
        NotFoundError: there never was; the hint has the name that is most like it.
    """
    if not world.last_number(name):
        find_definition(world, name)


def _matches(build: Build, request: m.BuildsRequest, wanted: tuple[State, ...]) -> bool:
    return (
        build.state in wanted
        and (not request.job or build.job == request.job)
        and (not request.result or build.result == request.result)
        and (request.before is None or build.requested_seq < request.before)
    )
