"""Runs attempts: folder, script, supervisor, log, limits, outcome.

An attempt ends with one ``build.finished`` in the journal, written after its log is whole at the
engine. If somebody else recorded an end meanwhile (the attempt was superseded), what ran here is
ended and its outcome dropped: the journal's word stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from rota.agent.confining import check_bounds
from rota.agent.exclusive import Leases
from rota.agent.finaliser import Finaliser
from rota.agent.moments import Moments
from rota.agent.patience import persist
from rota.agent.secrets import scrub
from rota.agent.shipper import Shipper
from rota.agent.sources import Sources
from rota.agent.stages import Ending, Left, Stage, Stages, Underway
from rota.agent.tasks import task_for, with_source
from rota.agent.time_limits import TimeLimits
from rota.agent.tracer import tree_of
from rota.agent.workplace import Workplace, work
from rota.agent.workspaces import Workspaces
from rota.core.build import Annotation, Build
from rota.core.chain import AUDITED
from rota.core.events import BuildCheckedOut, BuildFinished
from rota.core.job import Reason
from rota.core.levels import ENDS_FLOODS
from rota.core.masks import Masks
from rota.core.metrics import merged
from rota.core.scm import Source
from rota.core.spans import TRACEPARENT, context_of
from rota.core.states import Result, State, result_of
from rota.core.steps import Step
from rota.core.surroundings import Identity, Place, marker_of
from rota.errors import ConflictError, ExecutionError, RotaError, StaleError
from rota.ports.clock import Clock
from rota.ports.executor import Executor, Exit, Running, Task
from rota.ports.journal import Journal
from rota.ports.logs import LogKey, Logs
from rota.ports.store import Store
from rota.ports.watcher import Watch, Watcher
from rota.service.livelog import LiveLog
from rota.service.log_fields import about
from rota.service.world import World

logger = logging.getLogger(__name__)

#: Exists in an attempt's folder until all that its script needs is there. A daemon that comes after one
#: that was killed meanwhile begins anew, instead of taking half a tree for a whole one.
MARK = "readying"
#: Why an attempt was told to end is written here first, for a daemon that comes after us.
STOP_FILE = "stop"
MAX_MESSAGE = 500
EXPIRED = "it is exclusive, and its agent was not heard any more"


@dataclasses.dataclass
class Active:
    """An attempt that this agent runs now."""

    build: Build
    home: Path
    stages: Stages
    task: Task | None = None  # as the stages made it
    running: Running | None = None
    live: LiveLog | None = None
    stopped_for: Reason | None = None
    ending: asyncio.Task[None] | None = None  # what ends it, since it was told to stop
    is_script_over: bool = False
    is_alone: bool = False  # no process of it is left, and nothing came after its script
    is_finalising: bool = False  # what comes after its script is under way
    reason: Reason | None = None  # once the script has ended, and what comes after it
    remarks: tuple[Annotation, ...] = ()
    late_steps: tuple[Step, ...] = ()
    shipper: Shipper | None = None
    shipping: asyncio.Task[int] | None = None
    watch: Watch | None = None
    resumes: bool = False  # a former daemon was killed before it had got ready
    readying: asyncio.Task[Task | RotaError] | None = None
    noting: asyncio.Task[int] | None = None
    source: Source | None = None
    limits: TimeLimits | None = None


@dataclasses.dataclass(kw_only=True)
class Runner:
    """All attempts of this agent. Its methods run in the agent's task group."""

    group: asyncio.TaskGroup
    agent: str
    place: Callable[[Path], Place]
    workplace: Workplace
    workspaces: Workspaces
    world: World
    journal: Journal
    logs: Logs
    store: Store
    executor: Executor
    watcher: Watcher
    clock: Clock
    sources: Sources
    stages: Sequence[Stage] = ()
    freed: Callable[[], None] = lambda: None  # called when a slot is free again
    leases: Leases | None = None  # of exclusive attempts; None where there can be no other agent
    active: dict[str, Active] = dataclasses.field(default_factory=dict)

    # -- from the loop --------------------------------------------------------------------------

    def start(self, build: Build, *, adopt: bool = False) -> None:
        """Run the build's present attempt, or take it over from a former daemon."""
        home = self.workplace.home(build.id, build.attempt)
        under = Underway(build=build, home=home, masks=Masks())
        active = Active(build, home, Stages(self.stages, under))
        # A claim without a folder: the former daemon died before the spawn, so nothing ever ran.
        active.resumes = adopt and (active.home / MARK).exists()
        adopt = adopt and active.home.exists() and not active.resumes
        self.active[build.id] = active
        name = f"attempt {build.id}.{build.attempt}"
        self.group.create_task(self._run(active, adopt=adopt), name=name)

    def adopt(self, builds: Sequence[Build]) -> None:
        """Take over what a former daemon ran; end what it ran and was given up since."""
        for build in builds:
            self.start(build, adopt=True)
        running = {active.home for active in self.active.values()}
        self.workspaces.load(running, self.world.find)
        left = [it for it in self.workplace.homes() if it[2] not in running]
        self.group.create_task(self._end_superseded(left), name="end superseded")

    def stop(self, build_id: str, reason: Reason) -> None:
        """End a build that runs here, for ``reason``. Later reasons do not replace the first."""
        active = self.active.get(build_id)
        if active is None or active.stopped_for is not None or active.is_finalising:
            return  # what comes after the script has a time of its own
        active.stopped_for = reason
        with contextlib.suppress(OSError):
            (active.home / STOP_FILE).write_text(reason)
        if active.readying is not None:
            active.readying.cancel()
        if active.running is not None:
            # Of one that was given up, another attempt may begin at once.
            is_urgent = reason is Reason.LOST and active.build.spec.exclusive
            # Who floods would fill the disk while it is waited for.
            is_urgent = is_urgent or reason is Reason.TOO_MUCH_OUTPUT
            grace_s = 0.0 if is_urgent else active.build.spec.grace_s
            active.ending = self.group.create_task(
                self._terminate(active.running, grace_s), name="terminate"
            )

    async def end_all(self) -> None:
        """End all that runs here, for another agent has it now; return when scripts are gone.

        What comes after a script has a time of its own, and is not waited for.
        """
        for build_id in list(self.active):
            self.stop(build_id, Reason.LOST)
        endings = [it.ending for it in self.active.values() if it.ending is not None]
        if endings:
            await asyncio.wait(endings)

    def builds(self) -> Iterator[Build]:
        """Yield the builds that run here."""
        yield from (active.build for active in self.active.values())

    async def send(self, build: str, data: bytes, *, eof: bool) -> None:
        """Write to the standard input of a build that runs here."""
        active = self.active.get(build)
        if active is None or active.running is None:
            raise ConflictError(f"build {build} does not run on {self.agent}")
        await active.running.send(data, eof=eof)

    async def _end_superseded(self, left: Sequence[tuple[str, int, Path]]) -> None:
        """End what still runs here of attempts that were given up while this agent was away."""
        for build, attempt, home in left:
            identity = Identity(job="", number=0, build=build, attempt=attempt)
            task = Task(home=home, argv=(), cwd=work(home), env={}, marker=marker_of(identity))
            try:
                running = await self.executor.adopt(task)
                await running.terminate(0)
            except RotaError as error:
                logger.warning("cannot end what is left of %s.%d: %s", build, attempt, error)

    # -- one attempt ----------------------------------------------------------------------------

    async def _run(self, active: Active, *, adopt: bool) -> None:
        about(build=active.build.ref, attempt=str(active.build.attempt))
        try:
            outcome = await self._outcome(active, adopt=adopt)
            if active.noting is not None:
                await active.noting
            recorded = await self._record(active, outcome)
        finally:
            if active.limits is not None:
                active.limits.end()
            self.world.live_logs.pop((active.build.id, active.build.attempt), None)
            self.active.pop(active.build.id, None)
            self.freed()
        self._tidy(active, outcome, recorded=recorded)

    async def _outcome(self, active: Active, *, adopt: bool) -> BuildFinished:
        until: float | None = None
        try:
            if not adopt:
                check_bounds(active.build.spec, self.world.definitions.settings.isolation)
            task = self._task(active, await self._prepare(active, adopt=adopt))
            if adopt:
                task = await active.stages.resume(
                    with_source(task, active.build, active.build.source)
                )
            elif active.build.spec.scm is not None or active.stages:
                ready = await self._get_ready(active, task)
                if isinstance(ready, BuildFinished):
                    return ready
                task = ready
            active.task = task
            # Lent last: what came before may take longer than a lease.
            if not adopt and self.leases is not None and active.build.spec.exclusive:
                until = await self.leases.lend(lambda: active.stopped_for is None)
                if until is None:
                    return await self._give_up(active, active.stopped_for or Reason.LOST)
            if adopt:
                active.running = await self.executor.adopt(task)
            else:
                active.running = await self.executor.start(replace(task, lease_until=until))
        except RotaError as error:
            return await self._give_up(active, Reason.AGENT_ERROR, error.told)
        try:
            return await self._attend(active, active.running, adopt=adopt)
        except RotaError as error:
            await self._terminate(active.running, 0)
            return await self._give_up(active, Reason.AGENT_ERROR, error.told)

    async def _give_up(self, active: Active, reason: Reason, message: str = "") -> BuildFinished:
        """End an attempt of whose script there is no outcome."""
        left = await active.stages.after(Ending(exit=None, reason=reason, passed=False))
        length, digest = await self._end_log(active)
        text = "; ".join(filter(None, (message, *left.faults)))
        over = self._finished(active, reason, message=text[:MAX_MESSAGE])
        return replace(over, log_bytes=length, log_sha256=digest, annotations=left.remarks)

    def _kept(self, active: Active, running: Running) -> contextlib.AbstractContextManager[None]:
        """Renew the lease of an exclusive attempt while the context is open."""
        if self.leases is None or not active.build.spec.exclusive:
            return contextlib.nullcontext()
        return self.leases.kept(running, lambda: self.stop(active.build.id, Reason.LOST))

    async def _prepare(self, active: Active, *, adopt: bool) -> Path:
        build, home = active.build, active.home
        name = build.job.rpartition("/")[2]
        blobs = await self.store.blobs([build.script])
        script = self.workplace.script(build.script, name, blobs[build.script])
        if active.resumes:
            await asyncio.to_thread(self.workplace.empty, home)
        elif not adopt:
            self.workplace.make(home)
        return script

    def _refs(self, build: Build) -> Iterator[str]:
        """Yield the names of the builds that a build needed."""
        for edge in build.needs:
            found = self.world.find(edge.build)
            if found is not None:
                yield found.ref

    def _task(self, active: Active, script: Path) -> Task:
        return task_for(
            active.build,
            active.home,
            script,
            self.place(active.home),
            self.world.definitions.settings,
            needs=tuple(self._refs(active.build)),
            traceparent=self._traceparent(active.build),
        )

    def _traceparent(self, build: Build) -> str:
        """Return where a script's own spans go; empty where nobody spoke of any."""
        if self.world.definitions.settings.traces.endpoint:
            return context_of(build, build.attempt, tree_of(self.world, build)).header
        return build.trigger.data.get(TRACEPARENT, "")  # handed on: others may collect

    def task_of(self, build: Build, home: Path) -> Task:
        """Return the task of an attempt that has ended, as far as stages have no part in it."""
        script = Path(build.job.rpartition("/")[2])
        settings, needs = self.world.definitions.settings, tuple(self._refs(build))
        task = task_for(build, home, script, self.place(home), settings, needs=needs)
        return with_source(task, build, build.source)

    async def _get_ready(self, active: Active, task: Task) -> Task | BuildFinished:
        """Bring the source code and what the stages bring; return the task, or how it ended."""
        build = active.build
        (active.home / MARK).touch()
        (active.home / "log").touch(mode=0o600)
        await self._begin_log(active, adopt=active.resumes)
        if build.cancelled_by is not None:
            self.stop(build.id, Reason.CANCELLED)
        found: Task | RotaError | None = None
        if active.stopped_for is None:
            found = await self._ready(active, task)
        if isinstance(found, Task) and active.stopped_for is None:
            (active.home / MARK).unlink(missing_ok=True)
            return found
        message = found.told if isinstance(found, RotaError) else ""
        has_source = build.spec.scm is None or active.source is not None
        reason = Reason.AGENT_ERROR if has_source else Reason.CHECKOUT
        return await self._give_up(active, active.stopped_for or reason, message)

    async def _ready(self, active: Active, task: Task) -> Task | RotaError | None:
        """Return the task as it is to be run, or why it cannot; None if it was told to stop."""

        async def ready() -> Task | RotaError:
            try:
                return await active.stages.before(await self._lay(active, task))
            except (RotaError, OSError) as error:
                return error if isinstance(error, RotaError) else ExecutionError(str(error))

        name = f"ready {active.build.id}.{active.build.attempt}"
        active.readying = readying = self.group.create_task(ready(), name=name)
        try:
            await asyncio.wait([readying], timeout=active.build.spec.timeout_s)
            if not readying.done():
                self.stop(active.build.id, Reason.TIMEOUT)
                await asyncio.wait([readying])
        finally:
            readying.cancel()
            active.readying = None
        return None if readying.cancelled() else readying.result()

    async def _lay(self, active: Active, task: Task) -> Task:
        """Lay the source code out; return the task with what its script is told of it."""
        build, scm = active.build, active.build.spec.scm
        if scm is None:
            return task
        active.source = await self.sources.lay(
            build, scm, active.home, lambda source: self._note(active, source)
        )
        active.stages.checked_out(active.source)
        return with_source(task, build, active.source)

    def _note(self, active: Active, source: Source) -> None:
        """Record what is checked out; the script need not wait for that."""
        event = BuildCheckedOut(
            at=self.clock.now(),
            by=self.agent,
            agent=self.agent,
            build=active.build.id,
            attempt=active.build.attempt,
            source=source,
        )
        append = persist("source", lambda: self.journal.append(event))
        active.noting = self.group.create_task(append, name="source")

    async def _attend(self, active: Active, running: Running, *, adopt: bool) -> BuildFinished:
        """Follow a live attempt to its end."""
        build = active.build
        if active.shipping is None:
            await self._begin_log(active, adopt=adopt)
        finaliser = Finaliser(self.executor, self.clock, build, active.home)
        active.is_finalising = adopt and finaliser.has_begun
        try:
            self._set_limits(active, adopt=adopt)
            with self._kept(active, running):
                ended = await running.wait()
            active.is_script_over = True
            nothing_follows = build.spec.finaliser is None and not active.stages
            active.is_alone = ended.is_alone and nothing_follows
            if not active.is_finalising:
                await running.terminate(0)
                if active.ending is not None:
                    # What is under way to end the script would end what comes after it as well.
                    await active.ending
            reason = active.reason = await self._finalise(active, ended, finaliser)
            await running.terminate(0)
            passed = result_of(reason, ended.code) is Result.PASSED
            left = await active.stages.after(Ending(exit=ended, reason=reason, passed=passed))
            if passed and left.reason is not None:
                active.reason = left.reason
        finally:
            self._close_log(active)
        return self._judge(active, ended, await self._end_log(active), left)

    async def _finalise(self, active: Active, ended: Exit, finaliser: Finaliser) -> Reason:
        """Run what comes after the script, and return why the attempt ended."""
        reason = active.stopped_for or _reason(ended)
        given_up = reason is Reason.LOST and active.build.spec.exclusive
        if active.build.spec.finaliser is None or given_up:
            return reason  # of one that is exclusive, another attempt may run by now
        active.is_finalising = True
        if active.limits is not None:
            active.limits.end()
        reason = finaliser.begin(reason, ended.code)
        result = result_of(reason, ended.code)
        assert active.task is not None
        over = await finaliser.run(active.task, result, reason, ended.code)
        active.late_steps = (over.step,)
        if over.fault:
            level = "error" if over.is_required else "warning"
            note = Annotation(
                level=level, title="finally", message=over.fault, offset=over.step.offset
            )
            active.remarks = (note,)
        return (
            Reason.FINALLY
            if over.fault and over.is_required and result is Result.PASSED
            else reason
        )

    async def _begin_log(self, active: Active, *, adopt: bool) -> None:
        build = active.build
        key = LogKey(build.id, build.attempt)
        log = active.home / "log"
        if adopt:
            log.touch()
        masks = active.stages.under.masks
        active.live = live = LiveLog(log, Moments(active.home, self.clock).at, masks)
        shipped = await persist("log", lambda: self.logs.end(key)) if adopt else 0
        active.shipper = shipper = Shipper(
            key, live, self.logs, shipped=shipped, most=self._longest_log
        )
        self.world.live_logs[build.id, build.attempt] = live
        active.watch = self.watcher.watch(log, lambda: self._on_write(active, shipper))
        name = f"log {build.id}.{build.attempt}"
        active.shipping = self.group.create_task(shipper.run(), name=name)
        shipper.on_write()  # it may have been written to before it was watched

    def _close_log(self, active: Active) -> None:
        """Say that nothing is written any more."""
        if active.watch is not None:
            active.watch.close()
            active.watch = None
        if active.shipper is not None:
            active.shipper.finish()

    async def _end_log(self, active: Active) -> tuple[int, str]:
        """Return the log's length and digest once the engine has all of it."""
        self._close_log(active)
        if active.shipping is None or active.shipper is None:
            return 0, ""
        length = await active.shipping
        is_recorded = self.world.cluster.picture.level >= AUDITED
        return length, await active.shipper.digest() if is_recorded else ""

    def _on_write(self, active: Active, shipper: Shipper) -> None:
        if active.limits is not None:
            active.limits.grew()
            if active.live is not None and active.live.size() > self._longest_log():
                self.stop(active.build.id, Reason.TOO_MUCH_OUTPUT)
        shipper.on_write()

    def _longest_log(self) -> float:
        """Return how long a log may be; members below this level do not know of such an end."""
        settings, level = self.world.definitions.settings, self.world.cluster.picture.level
        return settings.logs.max_build_bytes if level >= ENDS_FLOODS else math.inf

    def _judge(
        self, active: Active, ended: Exit, log: tuple[int, str], left: Left
    ) -> BuildFinished:
        reason = active.reason or active.stopped_for or _reason(ended)
        is_passed = result_of(reason, ended.code) is Result.PASSED
        scanner = active.live.scanner if active.live is not None else None
        fact = self._finished(
            active,
            reason,
            exit_code=ended.code,
            message="; ".join([EXPIRED] * ended.expired + [*left.faults])[:MAX_MESSAGE],
        )
        if scanner is None:
            return fact
        return replace(
            fact,
            signal=ended.signal,
            log_bytes=log[0],
            log_sha256=log[1],
            usage=ended.usage,
            annotations=(*scanner.shown_annotations(), *active.remarks, *left.remarks),
            steps=(*scanner.shown_steps(), *active.late_steps),
            step="" if is_passed or reason is Reason.REPORTS else scanner.failed_step,
            tests=left.tests,
            metrics=merged(scanner.metrics.values(), left.metrics),
        )

    def _finished(
        self, active: Active, reason: Reason, *, exit_code: int | None = None, message: str = ""
    ) -> BuildFinished:
        return BuildFinished(
            at=self.clock.now(),
            by=self.agent,
            agent=self.agent,
            build=active.build.id,
            attempt=active.build.attempt,
            reason=reason,
            exit_code=exit_code,
            message=active.stages.under.masks.text(message),
        )

    # -- limits ---------------------------------------------------------------------------------

    def _set_limits(self, active: Active, *, adopt: bool) -> None:
        """Start the clocks of `timeout` and `idle_timeout`; take up a stop that was under way."""
        build = active.build
        if adopt and (reason := _stop_file(active.home)) is not None:
            self.stop(build.id, reason)
        elif build.cancelled_by is not None:
            self.stop(build.id, Reason.CANCELLED)
        elif active.stopped_for is not None and active.running is not None:
            # Told to stop between the claim and the spawn.
            active.ending = self.group.create_task(
                self._terminate(active.running, build.spec.grace_s)
            )
        active.limits = TimeLimits(build, self.world, self.clock, partial(self.stop, build.id))
        active.limits.begin()

    async def _terminate(self, running: Running, grace_s: float) -> None:
        try:
            await running.terminate(grace_s)
        except RotaError as error:
            logger.error("cannot end process %d: %s", running.pid, error.message)  # noqa: TRY400 - no trace of ours to show

    # -- the record -----------------------------------------------------------------------------

    async def _record(self, active: Active, outcome: BuildFinished) -> bool:
        """Write the outcome; say whether it counts. Waits as long as the engine is away."""
        while True:
            build = self.world.cluster.picture.builds.get(outcome.build)
            if build is None or not _is_ours(build, outcome):
                logger.warning("attempt %s.%d is superseded", outcome.build, outcome.attempt)
                return False
            expect = build.last_seq
            try:
                await persist("result", partial(self.journal.append, outcome, expect=expect))
            except StaleError:
                # A cancel or an artifact came in between: look again once it is folded.
                await self.world.changed(outcome.build, 0.2)
                continue
            return True

    def _tidy(self, active: Active, outcome: BuildFinished, *, recorded: bool) -> None:
        result = result_of(outcome.reason, outcome.exit_code)
        if active.stages.under.masks:
            # What stays for people to look at has no line of the log with what was hidden in it.
            scrub(active.home)
        self.workspaces.settle(
            active.build, active.build.attempt, result, counts=recorded, is_alone=active.is_alone
        )


def _is_ours(build: Build, outcome: BuildFinished) -> bool:
    return (
        build.state is State.RUNNING
        and build.attempt == outcome.attempt
        and build.agent == outcome.agent
    )


def _reason(ended: Exit) -> Reason:
    if not ended.known or ended.expired:
        return Reason.LOST
    if ended.oom_killed:
        return Reason.OOM_KILLED
    return Reason.SIGNAL if ended.signal is not None else Reason.SCRIPT


def _stop_file(home: Path) -> Reason | None:
    try:
        return Reason((home / STOP_FILE).read_text())
    except (OSError, ValueError):
        return None
