"""The keys of a header that join builds together: ``needs``, ``matrix``, ``supersede``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from rota.core import fields
from rota.core.environment import param_fault
from rota.core.fields import Field, FieldError, Spot
from rota.core.ids import job_name_fault
from rota.core.job import Job, Matrix, Need, ParamValue
from rota.core.labels import parse_labels
from rota.core.params import conform, read_param, value_fault
from rota.core.problem import nearest
from rota.core.states import Result
from rota.core.template import TemplateError, fill, names

MAX_NEEDS = 100
MAX_CELLS = 256
_RESULTS = tuple(map(str, Result))


# -- needs ------------------------------------------------------------------------------------


def read_needs(value: object, spot: Spot) -> tuple[Need, ...]:
    """Read the list of needs; the same one twice is a fault."""
    needs = fields.list_of(_need)(value, spot)
    if len(needs) > MAX_NEEDS:
        raise FieldError(f"has {len(needs)} needs, the limit is {MAX_NEEDS}")
    seen: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
    for index, need in enumerate(needs):
        first = seen.setdefault((need.job, tuple(sorted(need.params.items()))), index)
        if first != index:
            here = spot.at(index)
            here.fault(f"{here.name} is the same as {spot.at(first).name}")
            raise FieldError
    return needs


def _need(value: object, spot: Spot) -> Need:
    place = spot.document.places.value(spot.path)
    found = spot.document.source.problem(place, "")
    if isinstance(value, str):
        return Need(job=_job(value, spot), line=found.line, column=found.column)
    if not isinstance(value, dict):
        raise FieldError(
            f"must be a job's name or a table, not {fields.type_name(value)}",
            'such as "web/build" or { job = "web/build", artifacts = ["dist/*"] }',
        )
    if "job" not in value:
        meant = next((hint for key in value if (hint := nearest(key, ["job"]))), None)
        raise FieldError("names no job", meant or 'such as { job = "web/build" }')
    values = fields.read_table(value, spot, _NEED)
    if len(values) < len(value):
        raise FieldError
    return Need(**values, line=found.line, column=found.column)


def _job(value: object, spot: Spot) -> str:
    name = fields.text(value, spot)
    if (fault := job_name_fault(name)) is not None:
        raise FieldError(f"is no job's name: {fault}", "such as web/build")
    return name


def _results(value: object, spot: Spot) -> tuple[str, ...]:
    if value == "any":
        return _RESULTS
    if value == []:
        raise FieldError("is empty, so that no result would do")
    listed = [value] if isinstance(value, str) else value
    return fields.list_of(fields.one_of(_RESULTS))(listed, spot)


def _template(value: object, spot: Spot) -> str:
    """Read a text with names in braces; a number or boolean is its text."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value) if isinstance(value, int | float) else fields.text(value, spot)
    try:
        names(text)
    except TemplateError as error:
        raise FieldError(str(error)) from None
    return text


def _artifact(value: object, spot: Spot) -> str:
    glob = fields.text(value, spot)
    if not glob.strip() or glob.startswith("/") or ".." in glob.split("/"):
        raise FieldError(
            f"is no glob of artifacts: {fields.printed_value(glob)}", "such as dist/*.whl"
        )
    return glob


_NEED = {
    "job": Field("job", _job, 'job = "web/build"'),
    "result": Field("results", _results, 'result = ["passed", "failed"], or "any"'),
    "params": Field(
        "params", fields.table_of(param_fault, _template), 'params = { suite = "{suite}" }'
    ),
    "optional": Field("optional", fields.boolean, "optional = true"),
    "artifacts": Field("artifacts", fields.list_of(_artifact), 'artifacts = ["dist/*.whl"]'),
}


# -- matrix -----------------------------------------------------------------------------------

Cell = dict[str, ParamValue]


def read_matrix(value: object, spot: Spot) -> Matrix:
    """Read the axes and expand them: all combinations, but for ``exclude``, and with ``include``.

    An entry of ``include`` whose axes fit some of the combinations adds its other keys to those; any
    other one is a cell of its own.
    """
    if not isinstance(value, dict):
        raise FieldError(f"must be a table, not {fields.type_name(value)}")
    options = fields.read_table({k: v for k, v in value.items() if k in _MATRIX}, spot, _MATRIX)
    axes: dict[str, tuple[ParamValue, ...]] = {}
    is_bad = len(options) < sum(key in _MATRIX for key in value)
    for key, raw in value.items():
        if key in _MATRIX:
            continue
        if (fault := param_fault(key)) is not None:
            spot.at(key).key_fault(f"{spot.at(key).name} {fault}", nearest(key, _MATRIX))
            is_bad = True
            continue
        good, read = fields.attempt(_axis, raw, spot.at(key), f'such as {key} = ["3.11", "3.12"]')
        is_bad |= not good
        axes[key] = read or ()
    if is_bad:
        raise FieldError
    return Matrix(
        cells=_cells(axes, options, spot),
        fail_fast=options.get("fail_fast", False),
        max_parallel=options.get("max_parallel", 0),
    )


def _cells(
    axes: Mapping[str, tuple[ParamValue, ...]], options: Mapping[str, Any], spot: Spot
) -> tuple[Cell, ...]:
    # Counted before they are made: a hundred values on each of ten axes are more than fit anywhere.
    count = math.prod(map(len, axes.values())) if axes else 0
    if count > 100 * MAX_CELLS:
        raise FieldError(f"has {count} cells, the limit is {MAX_CELLS}")
    made = itertools.product(*axes.values()) if axes else ()
    all_cells: list[Cell] = [dict(zip(axes, values, strict=True)) for values in made]
    for index, entry in enumerate(options.get("exclude", ())):
        left = [cell for cell in all_cells if not entry.items() <= cell.items()]
        if len(left) == len(all_cells):
            here = spot.at("exclude").at(index)
            here.fault(f"{here.name} fits no cell", "its values must be those of the axes")
            raise FieldError
        all_cells = left
    all_cells = _included(all_cells, axes, options.get("include", ()))
    if not all_cells:
        raise FieldError("has no cell", 'give it an axis, such as python = ["3.11", "3.12"]')
    if len(all_cells) > MAX_CELLS:
        raise FieldError(f"has {len(all_cells)} cells, the limit is {MAX_CELLS}")
    return tuple(all_cells)


def _included(
    cells: list[Cell], axes: Mapping[str, object], entries: tuple[Cell, ...]
) -> list[Cell]:
    """Return the cells with what ``include`` says; a cell is there once."""
    original = [dict(cell) for cell in cells]
    grown = [dict(cell) for cell in cells]
    for entry in entries:
        own = {key: value for key, value in entry.items() if key in axes}
        fits = [at for at, cell in enumerate(original) if own.items() <= cell.items()]
        if fits and len(own) < len(entry):
            for at in fits:
                grown[at] |= entry
        elif entry not in grown:
            grown.append(dict(entry))
    return grown


def _axis(value: object, spot: Spot) -> tuple[ParamValue, ...]:
    if value == []:
        raise FieldError("is empty, so that there would be no cell")
    values = fields.list_of(_scalar)(value, spot)
    for index, each in enumerate(values):
        if each in values[:index]:
            raise FieldError(f"has {fields.printed_value(each)} twice")
    return values


def _scalar(value: object, _: Spot) -> ParamValue:
    kinds: dict[type, str] = {bool: "bool", int: "int", float: "float", str: "string"}
    found = conform(value, kinds.get(type(value), ""))
    if found is None:
        raise FieldError(f"cannot be {fields.type_name(value)}", "a string, a number or a boolean")
    if (fault := value_fault(found)) is not None:
        raise FieldError(fault)
    return found


def _entry(value: object, spot: Spot) -> Cell:
    if value == {}:
        raise FieldError("is empty, so that it says nothing")
    return fields.table_of(param_fault, _scalar)(value, spot)


_MATRIX = {
    "include": Field("include", fields.list_of(_entry), 'include = [ { python = "3.14" } ]'),
    "exclude": Field("exclude", fields.list_of(_entry), 'exclude = [ { python = "3.11" } ]'),
    "fail_fast": Field("fail_fast", fields.boolean, "fail_fast = true"),
    "max_parallel": Field("max_parallel", fields.integer(1, MAX_CELLS), "max_parallel = 4"),
}


# -- what must fit together -------------------------------------------------------------------

JOINS = {
    "needs": Field("needs", read_needs, 'needs = ["web/build"]'),
    "matrix": Field("matrix", read_matrix, 'matrix = { python = ["3.11", "3.12"] }'),
    "supersede": Field("supersede", fields.one_of(("queued", "running")), 'supersede = "queued"'),
    "supersede_key": Field("supersede_key", _template, 'supersede_key = "{branch}"'),
}


def check_joins(job: Job, spot: Spot) -> Job:
    """Return a job whose matrix fits its parameters and labels; report what does not."""
    if job.supersede_key and not job.spec.supersede:
        here = spot.at("supersede_key")
        here.key_fault("supersede_key says nothing without supersede", 'add supersede = "queued"')
    known = {*job.params, *(key for cell in _all_cells(job) for key in cell)}
    for index, need in enumerate(job.needs):
        for param, text in need.params.items():
            for name in names(text):
                if name not in known:
                    here = spot.at("needs").at(index).at("params").at(param)
                    here.fault(
                        f"{here.name} asks for {{{name}}}, which is no parameter of this job",
                        nearest(name, known) or fields.one_of_hint(sorted(known) or ["none"]),
                    )
    if job.matrix is not None:
        job = _with_typed_cells(job, job.matrix, spot.at("matrix"))
    _check_labels(job, spot.at("labels"))
    return job


def _all_cells(job: Job) -> tuple[Cell, ...]:
    return job.matrix.cells if job.matrix is not None else ()


def _with_typed_cells(job: Job, matrix: Matrix, spot: Spot) -> Job:
    """Return the job with each cell's values as the parameters of those names have them."""
    cells: list[Cell] = []
    faults: dict[str, str] = {}
    for cell in matrix.cells:
        typed: Cell = {}
        for key, value in cell.items():
            read, fault = value, None
            if key in job.params:
                found, fault = read_param(job.params[key], value)
                read = value if found is None else found
            if key in job.spec.env:
                fault = "is a variable of env as well; keep one of them"
            if fault is not None:
                faults[key] = fault
            typed[key] = read
        cells.append(typed)
    for key, fault in faults.items():
        spot.at(key).fault(f"{spot.at(key).name} {fault}")
    return replace(job, matrix=replace(matrix, cells=tuple(cells)))


def _check_labels(job: Job, spot: Spot) -> None:
    """Report what the labels of some cell come to that is no label expression."""
    if "{" not in job.spec.labels:
        return
    for cell in _all_cells(job) or ({},):
        try:
            text = fill(job.spec.labels, cell)
        except TemplateError as error:
            hint = "labels may use what all cells of the matrix have"
            spot.fault(f"labels {error}", hint)
            return
        _, faults = parse_labels(text)
        if faults:
            spot.fault(f"labels are {text!r} in one cell: {faults[0].message}", faults[0].hint)
            return
