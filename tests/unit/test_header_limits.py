"""What a header says of limits."""

from __future__ import annotations

import pytest
from tests.unit.test_header import faults, good, script

from rota.core.definitions import check_changes, check_file, check_tree
from rota.core.job import Rate, Take
from rota.core.settings import Settings

SETTINGS = b"[limits]\nlicence = 5\ndb = 2\n"


def test_limits_are_read() -> None:
    job = good(
        script(
            "concurrency = 2",
            'concurrency_key = "{env}-{zone}"',
            'limits = ["licence", { name = "db", take = 2 }, { name = "lock", take = "all" }]',
            'rate = "10/h"',
            'params = { env = "prod", zone = "a" }',
        )
    )
    spec = job.spec
    assert (spec.concurrency, spec.concurrency_key) == (2, "{env}-{zone}")
    assert spec.limits == (Take("licence"), Take("db", 2), Take("lock", 0))
    assert spec.rate == Rate(10, 3600.0)
    assert job.limit_places == ((6, 13), (6, 33), (6, 60))


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1/s", Rate(1, 1.0)),
        ("3/30m", Rate(3, 1800.0)),
        ("100 / day", Rate(100, 86400.0)),
        ("2/weeks", Rate(2, 7 * 86400.0)),
        ("5/min", Rate(5, 60.0)),
        ("7/hours", Rate(7, 3600.0)),
        ("1/1h30m", Rate(1, 5400.0)),
    ],
)
def test_a_rate_is_a_number_and_a_time(text: str, rate: Rate) -> None:
    assert good(script(f'rate = "{text}"')).spec.rate == rate


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (["concurrency = 0"], "j:4:17: concurrency must be between 1 and 1000000, not 0"),
        (
            ['concurrency_key = "x"'],
            "j:4:3: concurrency_key says nothing without concurrency (add concurrency = 1)",
        ),
        (
            ["concurrency = 1", 'concurrency_key = "{evn}"', 'params = { env = "a" }'],
            "j:5:21: concurrency_key names 'evn', which is no parameter (did you mean 'env'?)",
        ),
        (
            ["concurrency = 1", 'concurrency_key = "a{"'],
            (
                "j:5:23: concurrency_key has '{', which names nothing "
                '(parameters in braces, such as "{env}")'
            ),
        ),
        (['limits = "db"'], "j:4:12: limits must be an array, not a string"),
        (["limits = [3]"], "j:4:13: limits[1] must be a string or a table, not an integer"),
        (['limits = ["a b"]'], "j:4:13: limits[1] cannot be a limit's name"),
        (["limits = [{ take = 2 }]"], "j:4:13: limits[1] needs name"),
        (
            ['limits = [{ name = "db", take = "some" }]'],
            "j:4:35: limits[1].take must be a number or \"all\", not 'some'",
        ),
        (
            ['limits = [{ name = "db", take = 0 }]'],
            "j:4:35: limits[1].take must be between 1 and 1000000, not 0",
        ),
        (
            ['limits = ["db", "db"]'],
            "j:4:19: limits[2] names 'db' again (say how much once: take = 2)",
        ),
        (
            ['rate = "often"'],
            "j:4:10: rate cannot be 'often' (a number of builds and a time, such as 10/h or 3/30m)",
        ),
        (['rate = "0/h"'], "j:4:10: rate must be at least 1 and at most 1000000 builds, not 0"),
        (['rate = "1/10ms"'], "j:4:10: rate must be over at least 1s and at most 366d"),
    ],
)
def test_a_fault_is_told_with_its_place(lines: list[str], fault: str) -> None:
    found = faults(script(*lines))
    assert len(found) == 1
    assert found[0].startswith(fault)


def job(*limits: str) -> bytes:
    return script(f"limits = [{', '.join(limits)}]").encode()


def problems(files: dict[str, bytes]) -> list[str]:
    return [str(problem) for problem in check_tree(files)[1]]


def test_a_limit_must_be_in_the_settings_and_large_enough() -> None:
    files = {
        "settings.toml": SETTINGS,
        "jobs/good": job('"licence"', '{ name = "db", take = "all" }'),
        "jobs/typo": job('"licenc"'),
        "jobs/large": job('{ name = "db", take = 3 }'),
        "jobs/other": job('"gpu"'),
    }
    assert problems(files) == [
        (
            "jobs/large:4:22: takes 3 of 'db', of which there are 2"
            " (take less, or raise it in settings.toml)"
        ),
        "jobs/other:4:13: no limit is called 'gpu' (set it in settings.toml: [limits] gpu = 1)",
        "jobs/typo:4:13: no limit is called 'licenc' (did you mean 'licence'?)",
    ]


def test_settings_with_faults_do_not_make_every_limit_unknown() -> None:
    files = {"settings.toml": b"[limits]\nlicence = 'x'\n", "jobs/a": job('"licence"')}
    assert len(problems(files)) == 1


def test_a_change_is_held_against_the_settings_and_the_settings_against_all_jobs() -> None:
    new = {"jobs/a": job('"gpu"')}
    assert check_changes(new, new, settings=SETTINGS) != ()
    assert check_changes(new, new) == ()
    less = {"settings.toml": b"[limits]\nlicence = 5\n"}
    (problem,) = check_changes(less, [], {"jobs/b": job('"db"')}, less["settings.toml"])
    assert str(problem).startswith("jobs/b:4:13: no limit is called 'db'")
    assert check_file("jobs/a", new["jobs/a"], settings=Settings(limits={"gpu": 1})) == ()
