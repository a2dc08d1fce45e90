"""Verbs on jobs. Each change is one commit on ``main``, by its author, checked before it stands."""

from __future__ import annotations

import asyncio
import fnmatch
import itertools
from collections.abc import Callable

import msgspec

from rota.core.definition_file import JOBS
from rota.core.definitions import Definition, check_file, clashes
from rota.core.header import parse_header
from rota.core.ids import parse_job_name
from rota.core.needs import need_problems
from rota.core.paused import PAUSED, Paused, encode_paused
from rota.core.problem import Problem
from rota.core.reach import reach_faults
from rota.core.rights import Role
from rota.core.triggers import On, rule_id, rule_text
from rota.errors import ConflictError, DeniedError, InputError, NotFoundError, StaleError
from rota.service import messages as m
from rota.service.builds import find_definition
from rota.service.committing import commit, until_first
from rota.service.context import Principal, Service
from rota.service.etags import is_among
from rota.service.trends import LastResults
from rota.service.world import World

#: Of so many jobs the past is looked up in one go: a millisecond or two, with a million builds behind.
LOOKED_UP_AT_ONCE = 10


async def jobs(service: Service, request: m.JobsRequest, who: Principal) -> list[m.JobSummary]:
    """List jobs by name."""
    definitions = service.world.definitions.jobs
    found: list[m.JobSummary] = []
    recent = LastResults(service.world, request.recent)
    for name in sorted(definitions):
        if not fnmatch.fnmatchcase(name, request.match) or not who.sees(name):
            continue
        if request.recent and len(found) % LOOKED_UP_AT_ONCE == 0:
            await asyncio.sleep(0)  # others are not to wait for a thousand jobs' past
        found.append(
            m.JobSummary(
                name=name,
                description=definitions[name].job.description,
                paused=_paused(definitions[name]),
                last=_last(service.world, name),
                recent=recent.of(name),
            )
        )
    return found


async def job(service: Service, request: m.JobRequest, who: Principal) -> m.JobView:
    """Show a job, its script included."""
    definition = find_definition(service.world, request.job)
    data = (await service.store.blobs([definition.blob]))[definition.blob]
    return m.JobView(
        name=definition.job.name,
        description=definition.job.description,
        params=definition.job.params,
        spec=definition.job.spec,
        paused=_paused(definition),
        etag=definition.blob,
        commit=service.world.commit,
        script=data.decode("utf-8", "replace"),
        last=_last(service.world, definition.job.name),
        on=tuple(_rule(service.world, definition.job.name, rule) for rule in definition.job.on),
        needs=definition.job.needs,
        matrix=definition.job.matrix,
        supersede_key=definition.job.supersede_key,
    )


def _rule(world: World, job: str, rule: On) -> m.RuleView:
    id_ = rule_id(job, rule)
    failure = world.cluster.picture.failures.get(id_)
    return m.RuleView(
        id=id_,
        kind=str(rule.__struct_config__.tag),
        text=rule_text(rule),
        fault=failure.why if failure is not None else "",
        failed_at=failure.at if failure is not None else None,
    )


async def put(service: Service, request: m.PutJobRequest, who: Principal) -> m.Committed:
    """Add or change a job. The same text again changes nothing and makes no commit."""
    name = parse_job_name(request.job)
    if not request.script:
        raise InputError("the script is empty", hint="send it as the body: curl -T FILE …")
    # First of all: what is wrong with a need tells whether that job is there.
    _refuse_reach(name, request.script, who)
    checked = await check(service, m.CheckRequest(job=name, script=request.script), who)
    if not checked.ok:
        raise InputError(f"{name} was not taken", problems=checked.problems)
    return await _put(service, name, request, who)


def _refuse_reach(name: str, script: str, who: Principal) -> None:
    """Do nothing, unless a header has other jobs run, or hears of them, that somebody may not."""
    if who.role >= Role.BUILDER:
        return
    job, _ = parse_header(script, name=name, path=JOBS + name)
    for fault in reach_faults(job, who.on) if job is not None else ():
        raise DeniedError(f"{name} {fault}", known=True)


async def put_alone(service: Service, request: m.PutJobRequest, who: Principal) -> m.Committed:
    """Add a job where there is no other: what it names elsewhere (jobs, limits) is not looked at."""
    name = parse_job_name(request.job)
    problems = check_file(JOBS + name, request.script.encode())
    if problems:
        raise InputError(f"{name} was not taken", problems=problems)
    return await _put(service, name, request, who)


async def _put(
    service: Service, name: str, request: m.PutJobRequest, who: Principal
) -> m.Committed:
    data = request.script.encode()

    def change(world: World) -> dict[str, bytes | None]:
        now = world.definitions.jobs.get(name)
        _precondition(name, now, request.if_match, request.if_none_match)
        _refuse_clash(world, name)
        return {JOBS + name: data}

    verb = "change" if name in service.world.definitions.jobs else "add"
    return await _commit(service, name, change, request.message or f"{verb} {name}", who)


async def rm(service: Service, request: m.RemoveJobRequest, who: Principal) -> m.Committed:
    """Remove a job. What it ran stays in the history."""
    find_definition(service.world, request.job)

    def change(world: World) -> dict[str, bytes | None]:
        definition = find_definition(world, request.job)
        _precondition(request.job, definition, request.if_match, "")
        _refuse_if_needed(world, request.job)
        gone: dict[str, bytes | None] = {JOBS + request.job: None}
        if definition.paused is not None:
            gone[PAUSED + request.job] = None
        return gone

    return await _commit(
        service, request.job, change, request.message or f"remove {request.job}", who
    )


async def pause(service: Service, request: m.PauseRequest, who: Principal) -> m.Committed:
    """Take no triggers for a job until it is resumed; what is queued or runs goes on."""
    paused = Paused(
        by=who.name, at=service.clock.now(), reason=request.reason, misses=request.misses
    )

    def change(world: World) -> dict[str, bytes | None]:
        if find_definition(world, request.job).paused is not None:
            return {}
        return {PAUSED + request.job: encode_paused(paused)}

    why = f": {request.reason}" if request.reason else ""
    return await _commit(service, request.job, change, f"pause {request.job}{why}", who)


async def resume(service: Service, request: m.JobRequest, who: Principal) -> m.Committed:
    """Take triggers for a job again."""

    def change(world: World) -> dict[str, bytes | None]:
        if find_definition(world, request.job).paused is None:
            return {}
        return {PAUSED + request.job: None}

    return await _commit(service, request.job, change, f"resume {request.job}", who)


async def check(service: Service, request: m.CheckRequest, who: Principal) -> m.Checked:
    """Check a script's header."""
    _refuse_reach(request.job, request.script, who)
    path = JOBS + parse_job_name(request.job)
    definitions = service.world.definitions
    data = request.script.encode()
    problems = check_file(
        path, data, definitions.calendars, definitions.settings, definitions.secrets
    )
    problems += _needs_of(service.world, request.job, None if problems else request.script)
    views = tuple(m.ProblemView(**msgspec.structs.asdict(problem)) for problem in problems)
    return m.Checked(ok=not views, problems=views)


def _needs_of(world: World, name: str, script: str | None) -> tuple[Problem, ...]:
    """Return what would be wrong with needs if a job had that script; with none, nothing."""
    job, _ = parse_header(script, name=name, path=JOBS + name) if script is not None else (None, ())
    if job is None:
        return ()
    jobs = {it.job.name: it.job for it in world.definitions.jobs.values()} | {name: job}
    return need_problems(jobs, jobs, changed=[name])


def _refuse_if_needed(world: World, name: str) -> None:
    """Refuse to remove a job that others need."""
    jobs = {it.job.name: it.job for it in world.definitions.jobs.values() if it.job.name != name}
    problems = need_problems(jobs, jobs, changed=(), removed=[name])
    if problems:
        raise ConflictError(
            f"{name} was not removed: {problems[0]}",
            hint="take that need out first; or make it optional = true",
        )


async def _commit(
    service: Service,
    name: str,
    change: Callable[[World], dict[str, bytes | None]],
    message: str,
    who: Principal,
) -> m.Committed:
    """Make the commit that ``change`` asks for, on whatever ``main`` is by then."""
    if "\0" in message:
        raise InputError("the text for the record has a NUL character, which git does not keep")

    async def attempt(base: str) -> m.Committed | None:
        changes = change(service.world)
        if await _changes_nothing(service, base, changes):
            return _committed(service, name, base, changed=False)
        made = await commit(service, base, changes, message, who)
        return None if made is None else _committed(service, name, made, changed=True)

    return await until_first(service, attempt)


async def _changes_nothing(service: Service, base: str, changes: dict[str, bytes | None]) -> bool:
    if not changes:
        return True
    tree = await service.store.tree(base)
    for path, data in changes.items():
        blob = tree.get(path)
        if (blob is None) != (data is None):
            return False
        if blob is not None and (await service.store.blobs([blob]))[blob] != data:
            return False
    return True


def _committed(service: Service, name: str, commit: str, *, changed: bool) -> m.Committed:
    now = service.world.definitions.jobs.get(name)
    return m.Committed(
        job=name,
        commit=commit,
        etag=now.blob if now is not None else None,
        changed=changed,
    )


def _precondition(name: str, now: Definition | None, if_match: str, if_none_match: str) -> None:
    etag = now.blob if now is not None else None
    if if_none_match and is_among(etag, if_none_match, weak=True):
        raise StaleError(f"there is a job {name} already", hint=f"change it: rota edit {name}")
    if not if_match or is_among(etag, if_match, weak=False):
        return
    if etag is None:
        raise NotFoundError(f"no job {name!r}", hint="without If-Match it would be added")
    raise StaleError(
        f"{name} was changed meanwhile: its ETag is {etag}, not {if_match}",
        hint="look at the new text, and change that",
    )


def _refuse_clash(world: World, name: str) -> None:
    """Refuse a name that is another job's folder, or that only case tells from another job's."""
    parts = name.split("/")
    for parent in itertools.accumulate(parts[:-1], lambda a, b: f"{a}/{b}"):
        if parent in world.definitions.jobs:
            raise ConflictError(
                f"{parent} is a job, so it cannot be the folder of {name}", hint="another name"
            )
    inside = next((other for other in world.definitions.jobs if other.startswith(name + "/")), None)
    if inside is not None:
        raise ConflictError(
            f"{name} is the folder of {inside}, so it cannot be a job", hint="another name"
        )
    for problem in clashes([JOBS + name], world.definitions.files):
        raise ConflictError(f"{name} was not taken: {problem.message}", hint="another name")


def _paused(definition: Definition) -> str | None:
    return definition.paused.reason if definition.paused is not None else None


def _last(world: World, name: str) -> m.LastBuild | None:
    number = world.last_number(name)
    build = world.find_number(name, number) if number else None
    if build is None:
        return None
    return m.LastBuild(
        number=number, state=build.state, result=build.result, finished_at=build.finished_at
    )
