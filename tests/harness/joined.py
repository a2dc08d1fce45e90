"""Pipelines over the fold alone: jobs by their headers, builds by their plans, ends by a word."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace
from tests.harness.facts import moment
from tests.harness.folding import fold

from rota.core.build import Build, Trigger
from rota.core.cluster import Cluster
from rota.core.definitions import Definitions, check_tree
from rota.core.events import (
    BuildCancelled,
    BuildFinished,
    BuildRetried,
    BuildStarted,
    Event,
    HistorySealed,
    PipelineRequested,
)
from rota.core.fold import Change
from rota.core.gates import told
from rota.core.job import Reason
from rota.core.pipelines import Wish, plan
from rota.core.revival import revival
from rota.core.states import State


def script(header: str) -> str:
    """Return a script whose header holds these lines; without any it has none."""
    if not header:
        return "#!/bin/sh\ntrue\n"
    lines = ["[tool.rota]", *header.split("\n")]
    return "\n".join(["#!/bin/sh", "# /// script", *(f"# {it}" for it in lines), "# ///", ""])


def defined(jobs: Mapping[str, str]) -> Definitions:
    """Return jobs whose headers hold these lines."""
    files = {f"jobs/{name}": script(text) for name, text in jobs.items()}
    found, problems = check_tree({path: text.encode() for path, text in files.items()})
    assert not problems, problems
    return found


class Pipelines:
    """A cluster that runs what is asked for when a test says so."""

    def __init__(self, **jobs: str) -> None:
        self.definitions = defined({name.replace("__", "/"): text for name, text in jobs.items()})
        self.cluster = Cluster()
        self.sealed: dict[str, Build] = {}
        self.ids = itertools.count(1)

    def fold(self, event: Event) -> Change:
        change = fold(self.cluster, self.cluster.picture.seq + 1, event)
        self.sealed |= {build.id: build for build in change.sealed}
        for build in change.builds:
            self.sealed.pop(build.id, None)
        return change

    def find(self, build_id: str) -> Build | None:
        return self.cluster.picture.builds.get(build_id) or self.sealed.get(build_id)

    def __getitem__(self, ref: str) -> Build:
        """A build by its name, job#number; by its job alone if there is one."""
        job, _, number = ref.partition("#")
        found = [b for b in self.all() if b.job == job and (not number or b.number == int(number))]
        assert len(found) == 1, [build.ref for build in self.all()]
        return found[0]

    def all(self) -> list[Build]:
        return [*self.cluster.picture.builds.values(), *self.sealed.values()]

    def now(self, *refs: str) -> list[str]:
        """How builds are: their results, or their states."""
        return [str(self[ref].result or self[ref].state) for ref in refs]

    def request(
        self,
        *jobs: str,
        params: Mapping[str, Any] | None = None,
        inside: str = "",
        seen: int | None = None,
        data: Mapping[str, str] | None = None,
        held: bool = False,
        **wish: Any,
    ) -> str:
        """Ask for builds as one pipeline; return the first one's id."""
        parent = self[inside] if inside else None
        wishes = [
            Wish(
                id=f"w{next(self.ids)}",
                job=job,
                params=dict(params or {}),
                trigger=Trigger(data=dict(data or {})),
                parent=parent.id if parent else "",
                **wish,
            )
            for job in jobs
        ]
        root = parent.root if parent else wishes[0].id
        planned = plan(self.definitions, root, wishes, self.find)
        builds = [
            replace(it, held=("approval",)) if it.build == wishes[0].id and held else it
            for it in planned.builds
        ]
        self.fold(
            PipelineRequested(
                at=moment(),
                by="ann",
                pipeline=root,
                builds=tuple(builds),
                specs=planned.specs,
                seen=self.cluster.picture.seq if seen is None else seen,
            )
        )
        return wishes[0].id

    def start(self, ref: str, agent: str = "p") -> None:
        build = self[ref]
        attempt = build.attempt + 1
        self.fold(BuildStarted(at=moment(1), agent=agent, build=build.id, attempt=attempt))
        assert self[ref].state is State.RUNNING

    def finish(self, ref: str, code: int = 0, reason: Reason = Reason.SCRIPT) -> None:
        build = self[ref]
        self.fold(
            BuildFinished(
                at=moment(2),
                agent=build.agent or "",
                build=build.id,
                attempt=build.attempt,
                reason=reason,
                exit_code=code,
            )
        )

    def run(self, *refs: str, code: int = 0) -> None:
        """Let builds run to their ends, one after the other."""
        for ref in refs:
            self.start(ref)
            self.finish(ref, code)

    def cancel(self, ref: str, *, tree: bool = True, why: str = "enough") -> Change:
        event = BuildCancelled(at=moment(3), by="bob", build=self[ref].id, why=why, tree=tree)
        return self.fold(event)

    def retry(self, ref: str) -> list[str]:
        """Try a build again as the service does; return what came back, in its order."""
        build = self[ref]
        back = revival(build, [it for it in self.all() if it.root == build.root])
        for each in back:
            record = each
            for edge in each.edges:
                other = self.find(edge.build)
                record = told(record, other) if other is not None else record
            self.fold(BuildRetried(at=moment(4), by="ann", build=each.id, record=record))
        return [it.ref for it in back]

    def seal(self) -> None:
        self.fold(HistorySealed(at=moment(5), through=self.cluster.picture.seq))
