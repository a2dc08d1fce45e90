"""The cluster's settings."""

from __future__ import annotations

from textwrap import dedent

import pytest

from rota.core.policy import Policy, Throttle
from rota.core.settings import (
    Agents,
    Artifacts,
    Builds,
    Logs,
    Settings,
    parse_settings,
    policy_of,
)

DAY = 86400.0


def faults(text: str) -> list[str]:
    return [str(problem) for problem in parse_settings(text)[1]]


def test_an_empty_file_is_the_defaults() -> None:
    settings, problems = parse_settings("")
    assert problems == ()
    assert settings == Settings()
    assert ":".join(settings.path) == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert settings.timeout_s == 6 * 3600
    assert settings.logs == Logs(max_age_s=30 * DAY, max_bytes=20 << 30)
    assert settings.builds.keep_failed_workspaces == 5
    assert settings.voters == 3
    assert settings.artifacts == Artifacts(max_age_s=90 * DAY, max_bytes=50 << 30)
    assert settings.agents == Agents(lost_after_s=8.0, stopped_after_s=60.0, replace_after_s=60.0)


def test_each_key_is_read() -> None:
    text = dedent("""\
        path = ["/opt/bin", "/bin"]
        timeout = "2h"
        env = { LANG = "C.UTF-8" }
        voters = 5
        [logs]
        max_age = "7d"
        max_bytes = "1.5G"
        [builds]
        keep_failed_workspaces = 0
        [artifacts]
        max_age = "2d"
        max_bytes = "3M"
        [agents]
        lost_after = "2s"
        stopped_after = "10m"
        replace_after = "1d"
        """)
    settings = Settings(
        path=("/opt/bin", "/bin"),
        env={"LANG": "C.UTF-8"},
        timeout_s=7200.0,
        logs=Logs(max_age_s=7 * DAY, max_bytes=3 << 29),
        builds=Builds(keep_failed_workspaces=0),
        voters=5,
        artifacts=Artifacts(max_age_s=2 * DAY, max_bytes=3 << 20),
        agents=Agents(lost_after_s=2.0, stopped_after_s=600.0, replace_after_s=DAY),
    )
    assert parse_settings(text) == (settings, ())
    assert parse_settings(text.replace("\n", "\r\n")) == (settings, ())


def test_no_timeout_can_be_said() -> None:
    assert parse_settings('timeout = "none"')[0].timeout_s is None


def test_bytes_can_be_a_number() -> None:
    assert parse_settings("[logs]\nmax_bytes = 5000000")[0].logs.max_bytes == 5_000_000


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("paths = []", "settings.toml:1:1: unknown key paths (did you mean 'path'?)"),
        (
            "x = 1",
            (
                "settings.toml:1:1: unknown key x (known: path, env, timeout, voters, logs, "
                "artifacts, bucket, caches, builds, workspaces, agents, containers, queue, limits, throttle, share, url, rest, forge, cloud, isolation, groups, access, oidc, secrets, certificates, metrics, traces, mail, outlet, notify, chat)"
            ),
        ),
        (
            "voters = 2",
            (
                "settings.toml:1:10: voters must be 1, 3 or 5, not 2 "
                "(more than half of them must live: 3 survive the loss of one, 5 of two)"
            ),
        ),
        (
            "voters = '3'",
            ("settings.toml:1:10: voters must be an integer, not a string (such as voters = 3)"),
        ),
        (
            "[agents]\nlost_after = '1s'",
            (
                "settings.toml:2:14: agents.lost_after must be at least 2s, not '1s' "
                '(such as lost_after = "8s")'
            ),
        ),
        (
            "[agents]\nstopped_after = '61m'",
            (
                "settings.toml:2:17: agents.stopped_after must be at most 1h, not '61m' "
                '(such as stopped_after = "1m")'
            ),
        ),
        (
            "[agents]\nlost_afer = '9s'",
            "settings.toml:2:1: unknown key agents.lost_afer (did you mean 'lost_after'?)",
        ),
        (
            "[artifacts]\nmax_bytes = '1K'",
            (
                "settings.toml:2:13: artifacts.max_bytes must be between 1048576 and "
                '1152921504606846976 bytes, not 1024 (such as max_bytes = "50G")'
            ),
        ),
        (
            "path = '/bin'",
            (
                "settings.toml:1:8: path must be an array, not a string "
                '(such as path = ["/usr/bin", "/bin"])'
            ),
        ),
        ('path = ["/a",\n "bin"]', "settings.toml:2:2: path[2] must be absolute, not 'bin'"),
        (
            'path = ["/a:/b"]',
            (
                "settings.toml:1:9: path[1] has a ':', which separates folders in PATH "
                "(one folder an item)"
            ),
        ),
        (
            "env = { A = 1 }",
            'settings.toml:1:13: env.A must be a string, not an integer (write "1")',
        ),
        ("env = { A = [] }", "settings.toml:1:13: env.A must be a string, not an array"),
        (
            "env = { ROTA_JOB = '' }",
            "settings.toml:1:9: env.ROTA_JOB is reserved: names in ROTA_ are set by the agent",
        ),
        (
            'timeout = "6"',
            (
                "settings.toml:1:11: timeout cannot be read: '6' has no unit, write 6s or 6m "
                '(such as timeout = "6h", or "none")'
            ),
        ),
        (
            'timeout = "31d"',
            (
                "settings.toml:1:11: timeout must be at most 30d, not '31d' "
                '(such as timeout = "6h", or "none")'
            ),
        ),
        (
            "logs = 1",
            (
                "settings.toml:1:8: logs must be a table, not an integer "
                '(such as [logs] with max_age = "30d")'
            ),
        ),
        (
            '[logs]\nmax_bytes = "20X"',
            (
                "settings.toml:2:13: logs.max_bytes must be a size, not '20X' "
                '(such as max_bytes = "20G")'
            ),
        ),
        (
            "[logs]\nmax_bytes = 0",
            (
                "settings.toml:2:13: logs.max_bytes must be between 1048576 and 1152921504606846976 "
                'bytes, not 0 (such as max_bytes = "20G")'
            ),
        ),
        (
            "[logs]\nmax_bytes = 1.5",
            (
                "settings.toml:2:13: logs.max_bytes must be a string or an integer, not a float "
                '(such as max_bytes = "20G")'
            ),
        ),
        (
            "[builds]\nkeep_failed_workspaces = -1",
            (
                "settings.toml:2:26: builds.keep_failed_workspaces must be between 0 and 1000, not -1 "
                "(such as keep_failed_workspaces = 5)"
            ),
        ),
        ("a.b.c", "settings.toml:1:6: not TOML: expected '=' after a key in a key/value pair"),
        (
            "env = { A = '\udcff' }",
            "settings.toml:1:14: byte 0xff is not UTF-8 (save the file as UTF-8)",
        ),
        ("#" * 70_000, "settings.toml: 70000 characters, the limit is 65536"),
    ],
)
def test_a_fault_is_told_with_its_place(text: str, fault: str) -> None:
    assert faults(text) == [fault]


def test_a_faulty_key_keeps_its_default_and_the_others_are_read() -> None:
    settings, problems = parse_settings('timeout = "x"\n[logs]\nmax_age = 3\nmax_bytes = "2G"\n')
    assert [problem.line for problem in problems] == [1, 3]
    assert settings.timeout_s == 6 * 3600
    assert settings.logs == Logs(max_bytes=2 << 30)


def test_limits_throttles_shares_and_ageing_are_read_and_are_the_folds_policy() -> None:
    settings, problems = parse_settings(
        dedent("""\
            [limits]
            licence = 5
            "db.main" = 0
            [[throttle]]
            labels = "linux&&docker"
            per_agent = 1
            [[throttle]]
            total = 40
            [share]
            web = 2
            [queue]
            ageing = 7
            """)
    )
    assert problems == ()
    assert policy_of(settings) == Policy(
        limits={"licence": 5, "db.main": 0},
        throttles=(Throttle("linux && docker", per_agent=1), Throttle(total=40)),
        share={"web": 2},
        ageing=7,
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "[limits]\nlicence = -1",
            "settings.toml:2:11: limits.licence must be between 0 and 1000000",
        ),
        (
            "[limits]\n'a b' = 1",
            "settings.toml:2:1: limits.'a b' cannot be a limit's name: up to 64",
        ),
        ("[[throttle]]\nlabels = 'x'", "settings.toml:1:1: throttle[1] needs total or per_agent"),
        ("[[throttle]]\nlabels = 'x &&'\ntotal = 1", "settings.toml:2:"),
        (
            "[share]\n'web/test' = 2",
            "settings.toml:2:1: share.'web/test' is no project: write web,",
        ),
        ("[share]\nweb = 0", "settings.toml:2:7: share.web must be between 1 and 1000, not 0"),
        (
            "[queue]\nagein = 1",
            "settings.toml:2:1: unknown key queue.agein (did you mean 'ageing'?)",
        ),
    ],
)
def test_a_fault_in_what_limits_is_told(text: str, fault: str) -> None:
    found = faults(text)
    assert len(found) == 1
    assert found[0].startswith(fault)


def test_origins_of_pages_are_read_as_browsers_send_them() -> None:
    origins = ["http://localhost:8000", "https://ci.example", "http://[::1]:80", "null"]
    settings, faults = parse_settings(f"[rest]\norigins = {origins}")
    assert (list(settings.rest.origins), faults) == (origins, ())
    assert parse_settings("")[0].rest.origins == ()


@pytest.mark.parametrize(
    ("origin", "fault"),
    [
        ("*", "rest.origins[1] must name each origin: '*' would let any page read"),
        ("https://ci.example/", "rest.origins[1] is no origin: 'https://ci.example/'"),
        ("https://CI.example", "rest.origins[1] is no origin: 'https://CI.example'"),
        ("ci.example", "rest.origins[1] is no origin: 'ci.example'"),
        ("https://*.example", "rest.origins[1] is no origin: 'https://*.example'"),
        ("ftp://ci.example", "rest.origins[1] is no origin: 'ftp://ci.example'"),
    ],
)
def test_what_is_no_origin_is_refused_with_its_place(origin: str, fault: str) -> None:
    settings, faults = parse_settings(f"[rest]\norigins = ['{origin}']")
    assert settings.rest.origins == ()
    (found,) = faults
    assert found.message == fault
    assert (found.line, found.column) == (2, 12)
    assert found.hint
