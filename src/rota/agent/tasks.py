"""What the executor is to run for a build's present attempt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from rota.agent.confining import at_home
from rota.agent.sources import variables
from rota.agent.workplace import work
from rota.core.build import Build
from rota.core.confinement import confinement_of
from rota.core.scm import Source
from rota.core.settings import Settings
from rota.core.surroundings import Identity, Place, environment, marker_of
from rota.ports.executor import Task


def task_for(
    build: Build,
    home: Path,
    script: Path,
    place: Place,
    settings: Settings,
    *,
    needs: Sequence[str] = (),
    traceparent: str = "",
) -> Task:
    """Return what the executor is to run for a build's present attempt."""
    identity = Identity(
        job=build.job,
        number=build.number,
        build=build.id,
        attempt=build.attempt,
        fence=build.fence,
        pipeline=build.root,
        needs=tuple(needs),
        traceparent=traceparent,
    )
    confinement = confinement_of(build.spec, settings.isolation)
    return Task(
        home=home,
        argv=(str(script),),
        cwd=work(home),
        confinement=confinement,
        env=environment(
            at_home(place, confinement),
            identity,
            path=settings.path,
            settings_env=settings.env,
            job_env=build.spec.env,
            params=build.params,
        ),
        stdin=build.spec.stdin,
        marker=marker_of(identity),
    )


def with_source(task: Task, build: Build, source: Source | None) -> Task:
    """Return a task whose script is told of its source code."""
    return replace(task, env={**task.env, **variables(build, source)})
