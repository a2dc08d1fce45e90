"""Needs, matrices and supersession in a header: each key, each fault, and where it is."""

from __future__ import annotations

import pytest
from tests.harness.joined import script

from rota.core.header import parse_header
from rota.core.job import Job, Need


def good(*lines: str) -> Job:
    job, problems = parse_header(script("\n".join(lines)), name="j", path="j")
    assert not problems, problems
    assert job is not None
    return job


def faults(*lines: str) -> list[str]:
    _, problems = parse_header(script("\n".join(lines)), name="j", path="j")
    return [str(problem) for problem in problems]


def test_needs_are_names_or_tables() -> None:
    job = good(
        "params = { v = '1' }",
        "needs = ['a', { job = 'b/c', result = 'any', optional = true, artifacts = ['d/*'], "
        "params = { v = '{v}', n = 1 } }]",
    )
    assert job.needs[0] == Need(job="a", line=5, column=12)
    assert job.needs[1].params == {"v": "{v}", "n": "1"}
    assert len(job.needs[1].results) == 6
    assert job.needs[1].optional


def test_a_matrix_is_all_combinations_without_and_with_some() -> None:
    job = good(
        "[tool.rota.matrix]",
        "os = ['linux', 'mac']",
        "n = [1, 2]",
        "exclude = [{ os = 'mac', n = 1 }]",
        "include = [{ os = 'linux', extra = 'x' }, { os = 'bsd', n = 3 }]",
        "fail_fast = true",
        "max_parallel = 2",
    )
    assert job.matrix is not None
    assert job.matrix.cells == (
        {"os": "linux", "n": 1, "extra": "x"},
        {"os": "linux", "n": 2, "extra": "x"},
        {"os": "mac", "n": 2},
        {"os": "bsd", "n": 3},
    )
    assert (job.matrix.fail_fast, job.matrix.max_parallel) == (True, 2)


def test_cells_have_the_types_of_declared_parameters() -> None:
    job = good("matrix = { n = ['1', 2] }", "[tool.rota.params]", "n = { type = 'int' }")
    assert job.matrix is not None
    assert job.matrix.cells == ({"n": 1}, {"n": 2})


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("needs = 'a'", "j:4:11: needs must be an array, not a string (such as needs = [\"web/build\"])"),
        ("needs = [1]", "j:4:12: needs[1] must be a job's name or a table, not an integer "),
        ("needs = ['a b']", "j:4:12: needs[1] is no job's name: the segment 'a b' does not fit "),
        ("needs = [{ jb = 'a' }]", "j:4:12: needs[1] names no job (did you mean 'job'?)"),
        ("needs = ['a', 'a']", "j:4:17: needs[2] is the same as needs[1]"),
        (
            "needs = [{ job = 'a', result = ['pased'] }]",
            "j:4:35: needs[1].result[1] cannot be 'pased' (did you mean 'passed'?)",
        ),
        (
            "needs = [{ job = 'a', params = { v = '{w}' } }]",
            "j:4:40: needs[1].params.v asks for {w}, which is no parameter of this job (known: none)",
        ),
        (
            "needs = [{ job = 'a', params = { v = '{' } }]",
            "j:4:40: needs[1].params.v has a lone '{'; write {{ for the brace itself",
        ),
        (
            "needs = [{ job = 'a', artifacts = ['/x'] }]",
            "j:4:38: needs[1].artifacts[1] is no glob of artifacts: '/x' ",
        ),
        ("matrix = { a = [] }", "j:4:18: matrix.a is empty, so that there would be no cell "),
        ("matrix = {}", "j:4:12: matrix has no cell (give it an axis, "),
        ("matrix = { a = [1, 1] }", "j:4:18: matrix.a has 1 twice "),
        (
            "matrix = { n = [1], exclude = [{ n = 2 }] }",
            "j:4:34: matrix.exclude[1] fits no cell (its values must be those of the axes)",
        ),
        (
            f"matrix = {{ a = {list(range(17))}, b = {list(range(16))} }}",
            "j:4:12: matrix has 272 cells, the limit is 256 ",
        ),
        (
            f"matrix = {{ a = {list(range(300))}, b = {list(range(300))} }}",
            "j:4:12: matrix has 90000 cells, the limit is 256 ",
        ),
        ("matrix = { PATH = ['x'] }", "j:4:14: matrix.PATH is reserved: "),
        (
            "labels = 'os={so}'\nmatrix = { os = ['a'] }",
            "j:4:12: labels asks for {so}, there is os (labels may use what all cells ",
        ),
        (
            "labels = 'os={os}'\nmatrix = { os = ['a &&'] }",
            "j:4:12: labels are 'os=a &&' in one cell: ",
        ),
        (
            "matrix = { n = ['x'] }\nparams = { n = 1 }",
            "j:4:18: matrix.n must be an integer, not 'x'",
        ),
        ("supersede = 'old'", "j:4:15: supersede cannot be 'old' (known: queued, running)"),
        (
            "supersede_key = '{b}'",
            "j:4:3: supersede_key says nothing without supersede (add supersede = \"queued\")",
        ),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place_and_a_hint(lines: str, fault: str) -> None:
    found = faults(lines)
    assert len(found) == 1, found
    assert found[0].startswith(fault) if fault.endswith((" ", ", ")) else found == [fault]
