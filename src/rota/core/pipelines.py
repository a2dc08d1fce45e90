"""From wishes for builds to all that must be asked for: what they need, and their matrices' cells.

Pure: the same wishes, definitions and known builds make the same plan. Ids are hashes of what asked
for a build, so that what two builds of a pipeline need with the same parameters is one build, and
whoever plans twice plans the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from rota.core.build import Build, Edge, Group, Trigger
from rota.core.definitions import Definition, Definitions
from rota.core.events import Wanted
from rota.core.ids import derived_id
from rota.core.job import Job, Need, ParamValue, Spec
from rota.core.labels import parse_labels, print_labels
from rota.core.needs import circle_text
from rota.core.params import resolve_params
from rota.core.problem import nearest
from rota.core.states import Result, State
from rota.core.template import TemplateError, fill
from rota.core.workspace import Keeping
from rota.errors import ConflictError, InputError, NotFoundError

#: So many builds one request may come to.
MAX_BUILDS = 1000
#: A chain of needs deeper than this is a mistake; recursion stays shallow.
MAX_DEPTH = 50

Params = Mapping[str, ParamValue]
Find = Callable[[str], Build | None]

_encoder = msgspec.json.Encoder(order="sorted")


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A build that a trigger asks for. With ``only`` what it needs is not asked for."""

    id: str
    job: str
    params: dict[str, ParamValue] = {}
    trigger: Trigger = Trigger()
    priority: int | None = None
    only: bool = False
    keep_workspace: Keeping = ""  # instead of what its job's header says
    parent: str = ""


class Plan(msgspec.Struct, frozen=True):
    """The builds to ask for, what is needed first before what needs it; and their settings."""

    builds: tuple[Wanted, ...]
    specs: tuple[Spec, ...]


def plan(definitions: Definitions, pipeline: str, wishes: Sequence[Wish], find: Find) -> Plan:
    """Return all that the wishes come to, as one pipeline.

    A need without parameters is met by the wished-for builds of its job, if there are any.

    Args:
        definitions: Of all jobs.
        pipeline: The id of its root.
        wishes: What is asked for; builds that ``find`` knows are not planned again.
        find: Returns a build by its id, wherever it is; ``None`` if there is none.

    Raises:
        NotFoundError: there is no such job.
        ConflictError: one that is needed is paused.
        InputError: parameters do not fit, needs go in a circle, or they are too many.
    """
    planner = _Planner(definitions, pipeline, wishes, find)
    for wish in wishes:
        planner.wish(wish)
    return Plan(tuple(planner.wanted.values()), tuple(planner.specs))


class _Planner:
    def __init__(
        self, definitions: Definitions, pipeline: str, wishes: Sequence[Wish], find: Find
    ) -> None:
        self._definitions, self._pipeline, self._find = definitions, pipeline, find
        self._wishes: dict[str, list[Wish]] = {}
        for wish in wishes:
            self._wishes.setdefault(wish.job, []).append(wish)
        self.wanted: dict[str, Wanted] = {}
        self.specs: list[Spec] = []
        self._known_specs: dict[bytes, int] = {}

    def wish(self, wish: Wish, path: tuple[str, ...] = ()) -> None:
        definition = self._definitions.jobs.get(wish.job)
        if definition is None:
            hint = nearest(wish.job, self._definitions.jobs) or "see which there are: rota jobs"
            raise NotFoundError(f"no job {wish.job!r}", hint=hint)
        if wish.id not in self.wanted and self._find(wish.id) is None:
            self._place(wish, definition, path)

    def _place(self, wish: Wish, definition: Definition, path: tuple[str, ...]) -> None:
        job = definition.job
        if job.matrix is None:
            params = _resolved(job, wish.params)
            needs = () if wish.only else self._needs(job, params, wish, path)
            self._add(wish, definition, params=params, needs=needs)
            return
        edges = tuple(self._cells(wish, definition, path))
        group = Group(
            cells=edges, fail_fast=job.matrix.fail_fast, max_parallel=job.matrix.max_parallel
        )
        self._add(wish, definition, params=wish.params, group=group)

    def _cells(self, wish: Wish, definition: Definition, path: tuple[str, ...]) -> Iterator[Edge]:
        job = definition.job
        for cell in _chosen(job, wish.params):
            given = {**wish.params, **cell}
            params = {**_resolved(job, given, besides=cell), **cell}
            one = replace(
                wish,
                id=derived_id("cell", wish.id, _encoder.encode(cell).decode()),
                trigger=replace(wish.trigger, kind="matrix", source=wish.id, key="", at=None),
                parent=wish.id,
            )
            needs = () if wish.only else self._needs(job, params, one, path)
            self._add(one, definition, params=params, needs=needs, cell=cell)
            yield Edge(build=one.id, job=job.name)

    # -- needs ------------------------------------------------------------------------------------

    def _needs(
        self, job: Job, params: Params, wish: Wish, path: tuple[str, ...]
    ) -> tuple[Edge, ...]:
        path = (*path, job.name)
        if len(path) > MAX_DEPTH:
            raise InputError(f"needs are more than {MAX_DEPTH} deep: {' → '.join(path[:4])} → …")
        edges: dict[str, Edge] = {}
        for need in job.needs:
            if need.job in path:
                way = (*path[path.index(need.job) :], need.job)
                raise InputError(
                    circle_text(way), hint=f"take one of these needs out: {_at(job, need)}"
                )
            for build_id in self._needed(job, need, params, wish, path):
                edges[build_id] = _edge(need, build_id, self._find(build_id))
        return tuple(edges.values())

    def _needed(
        self, job: Job, need: Need, params: Params, wish: Wish, path: tuple[str, ...]
    ) -> Sequence[str]:
        """Return the ids of the builds that meet a need, after planning those that are new."""
        wished = [] if need.params else self._wishes.get(need.job, [])
        for other in wished:
            self.wish(other, path)
        if wished:
            return [other.id for other in wished]
        definition = self._definitions.jobs.get(need.job)
        if definition is None or definition.paused is not None:
            if need.optional:
                return []
            raise _not_now(job, need, definition, self._definitions)
        given = _filled(job, need, params)
        key = _encoder.encode(_identity(definition.job, given, need, job)).decode()
        new = replace(
            wish,
            id=derived_id("need", self._pipeline, need.job, key),
            job=need.job,
            params=given,
            trigger=replace(
                wish.trigger,
                kind="need",
                source=wish.id,
                key="",
                at=None,
                data={**wish.trigger.data, "needed_by": job.name},
            ),
            parent=wish.id,
        )
        if new.id not in self.wanted and self._find(new.id) is None:
            self._place(new, definition, path)
        return [new.id]

    # -- one build --------------------------------------------------------------------------------

    def _add(
        self,
        wish: Wish,
        definition: Definition,
        *,
        params: Params,
        needs: tuple[Edge, ...] = (),
        group: Group | None = None,
        cell: Mapping[str, ParamValue] | None = None,
    ) -> None:
        if len(self.wanted) >= MAX_BUILDS:
            raise InputError(
                f"{wish.job} would come to more than {MAX_BUILDS} builds at once, with its needs",
                hint="start some of them from a script: rota run",
            )
        job = definition.job
        spec = job.spec
        if cell is not None:
            spec = replace(spec, labels=_labels(spec.labels, cell))
        if spec.timeout_s is None:
            spec = replace(spec, timeout_s=self._definitions.settings.timeout_s)
        if wish.priority is not None:
            spec = replace(spec, priority=wish.priority)
        if wish.keep_workspace:
            spec = replace(spec, workspace=replace(spec.workspace, keep=wish.keep_workspace))
        self.wanted[wish.id] = Wanted(
            build=wish.id,
            job=job.name,
            spec=self._spec(spec),
            params=dict(params),
            trigger=wish.trigger,
            script=definition.blob,
            parent=wish.parent,
            needs=needs,
            group=group,
            cell=dict(cell or {}),
            lane="" if cell is not None else _lane(job, params, wish.trigger),
        )

    def _spec(self, spec: Spec) -> int:
        """Return where a spec stands among all; equal ones stand there once."""
        at = self._known_specs.setdefault(_encoder.encode(spec), len(self.specs))
        if at == len(self.specs):
            self.specs.append(spec)
        return at


def _resolved(job: Job, given: Params, besides: Collection[str] = ()) -> dict[str, ParamValue]:
    """Return the job's parameters; what is in ``besides`` need not be declared."""
    declared = {k: v for k, v in given.items() if k in job.params or k not in besides}
    values, problems = resolve_params(job.params, declared)
    if problems:
        raise InputError(
            f"{job.name} cannot take these parameters",
            problems=problems,
            hint=f"see what it takes: rota show {job.name}",
        )
    return values


def _chosen(job: Job, given: Params) -> Sequence[Mapping[str, ParamValue]]:
    """Return the cells whose values are those that were given, if any were."""
    assert job.matrix is not None
    cells = job.matrix.cells
    chosen = [
        cell
        for cell in cells
        if all(str(given[key]) == str(value) for key, value in cell.items() if key in given)
    ]
    if not chosen:
        keys = sorted({key for cell in cells for key in cell if key in given})
        asked = ", ".join(f"{key}={given[key]}" for key in keys)
        known = ", ".join(
            " or ".join(dict.fromkeys(f"{key}={cell[key]}" for cell in cells if key in cell))
            for key in keys
        )
        raise InputError(f"no cell of {job.name}'s matrix has {asked}", hint=f"there is {known}")
    return chosen


def _identity(job: Job, given: Params, need: Need, asker: Job) -> dict[str, ParamValue]:
    """Return the parameters that tell one needed build from another: given, and by default."""
    if job.matrix is not None:
        return dict(given)
    try:
        return _resolved(job, given)
    except InputError as error:
        raise InputError(
            f"{asker.name} needs {job.name}, which cannot take these parameters",
            problems=error.problems,
            hint=f"see {_at(asker, need)}",
        ) from None


def _filled(job: Job, need: Need, params: Params) -> dict[str, ParamValue]:
    try:
        return {name: fill(text, params) for name, text in need.params.items()}
    except TemplateError as error:
        raise InputError(
            f"the need {need.job} of {job.name} {error}", hint=f"see {_at(job, need)}"
        ) from None


def _edge(need: Need, build_id: str, known: Build | None) -> Edge:
    results = tuple(map(Result, need.results))
    edge = Edge(
        build=build_id,
        job=need.job,
        results=() if set(results) == set(Result) else results,
        artifacts=need.artifacts,
    )
    if known is not None and known.state is State.FINISHED:
        return replace(edge, result=known.result, number=known.number)
    return edge


def _not_now(
    job: Job, need: Need, definition: Definition | None, definitions: Definitions
) -> NotFoundError | ConflictError:
    if definition is None or definition.paused is None:
        hint = nearest(need.job, definitions.jobs) or f"see {_at(job, need)}"
        return NotFoundError(f"{job.name} needs {need.job}, and there is no such job", hint=hint)
    paused = definition.paused
    why = f": {paused.reason}" if paused.reason else ""
    return ConflictError(
        f"{job.name} needs {need.job}, which is paused by {paused.by or '?'}{why}",
        hint=f"resume it: rota resume {need.job}; or do without: --only",
    )


def _labels(text: str, cell: Params) -> str:
    """Return a label expression with a cell's values in it, in canonical form."""
    if "{" not in text:
        return text
    expr, faults = parse_labels(fill(text, cell))  # looked at when the header was read
    return text if faults else print_labels(expr)


def _lane(job: Job, params: Params, trigger: Trigger) -> str:
    """Return which builds of the job one may supersede; empty: none."""
    if not job.spec.supersede:
        return ""
    try:
        return fill(job.supersede_key, {**trigger.data, **params}) or "all"
    except TemplateError:
        return ""  # the trigger does not say: it is on no branch, say


def _at(job: Job, need: Need) -> str:
    return f"jobs/{job.name}:{need.line}"
