"""The parts of a header about what builds report: `tests` and `coverage`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from rota.core import fields
from rota.core.fields import Field, FieldError, Reader, Spot, printed_value, type_name
from rota.core.reports import CaseFormat, CaseReports, CoverageFormat, CoverageReports

MAX_PATTERNS = 50
_MAX_PATTERN = 500


def _pattern(value: Any, spot: Spot) -> str:
    glob = fields.text(value, spot)
    hint = "paths are relative to the workspace, such as reports/*.xml"
    if not glob.strip():
        raise FieldError("is empty", hint)
    if len(glob) > _MAX_PATTERN or not glob.isprintable():
        raise FieldError(f"is no path: {printed_value(glob[:80])}", hint)
    if glob.startswith(("/", "~")):
        raise FieldError(f"must be relative, not {printed_value(glob)}", hint)
    if ".." in glob.split("/"):
        raise FieldError(f"leaves the workspace: {printed_value(glob)}", hint)
    return glob


def _files(value: Any, spot: Spot) -> tuple[str, ...]:
    if value == []:
        raise FieldError("is empty, so that it says nothing")
    found = fields.one_or_more(_pattern)(value, spot)
    if len(found) > MAX_PATTERNS:
        raise FieldError(f"has {len(found)} patterns, the limit is {MAX_PATTERNS}")
    return found


def _percent(value: Any, _: Spot) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise FieldError("must be a number from 0 to 100", "percent of the lines")
    return float(value)


def _files_or(table: Mapping[str, Field], make: Any, kind: str) -> Reader[Any]:
    """Return a reader of a table, or of its `files` alone."""

    def read(value: Any, spot: Spot) -> Any:
        if isinstance(value, str | list):
            return make(files=_files(value, spot))
        if not isinstance(value, dict):
            raise FieldError(f"must be an array of {kind}, or a table, not {type_name(value)}")
        values = fields.read_table(value, spot, table)
        if "files" not in value:
            spot.fault(f"{spot.name} needs files", f"such as {table['files'].example}")
            raise FieldError
        if "files" not in values:
            raise FieldError
        return make(**values)

    return read


_TESTS = {
    "files": Field("files", _files, 'files = ["reports/*.xml"]'),
    "format": Field("format", fields.one_of(get_args(CaseFormat)), 'format = "junit"'),
    "required": Field("required", fields.boolean, "required = true"),
    "fail": Field("fail", fields.boolean, "fail = false"),
    "stale": Field("stale", fields.boolean, "stale = true"),
}

_COVERAGE = {
    "files": Field("files", _files, 'files = ["coverage.xml"]'),
    "format": Field("format", fields.one_of(get_args(CoverageFormat)), 'format = "cobertura"'),
    "required": Field("required", fields.boolean, "required = true"),
    "minimum": Field("minimum", _percent, "minimum = 80"),
    "drop": Field("drop", _percent, "drop = 1.0"),
    "fail": Field("fail", fields.boolean, "fail = false"),
    "stale": Field("stale", fields.boolean, "stale = true"),
}

#: What a header says by these keys.
REPORTS = {
    "tests": Field(
        "tests",
        _files_or(_TESTS, CaseReports, "files with reports of tests"),
        'tests = ["target/surefire-reports/*.xml"]',
    ),
    "coverage": Field(
        "coverage",
        _files_or(_COVERAGE, CoverageReports, "files with reports of coverage"),
        'coverage = { files = ["coverage.xml"], minimum = 80 }',
    ),
}
