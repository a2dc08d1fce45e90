"""What a build used, and may use, as people read it."""

from __future__ import annotations

from typing import Any

import pytest

from rota.cli.usage_view import confinement_text, usage_text

MIB = 1 << 20


@pytest.mark.parametrize(
    ("usage", "limits", "text"),
    [
        ({}, {}, ""),
        ({"user_s": 1.0, "system_s": 0.25}, {}, "1.2s of CPU"),
        (
            {"user_s": 3.0, "max_rss_bytes": 64 * MIB},
            {},
            "3.0s of CPU, largest process 64.0 MiB",
        ),
        (
            {
                "user_s": 3.0,
                "throttled_s": 9.0,
                "max_rss_bytes": MIB,
                "memory_bytes": 64 * MIB,
                "oom_kills": 1,
                "refused_forks": 12,
            },
            {"memory_bytes": 64 * MIB},
            (
                "3.0s of CPU, kept from it for 9.0s by the limit, 64.0 MiB of 64.0 MiB of memory, "
                "1 process ended for want of memory, 12 forks refused for the limit of pids"
            ),
        ),
    ],
)
def test_usage_is_one_line(usage: dict[str, Any], limits: dict[str, Any], text: str) -> None:
    assert usage_text({"usage": usage, "spec": {"resources": limits}}) == text


def test_what_a_job_is_confined_to_is_one_line() -> None:
    spec = {
        "resources": {"cpus": 1.5, "memory_bytes": 512 * MIB, "pids": 100},
        "user": "build",
        "network": "none",
        "isolation": {"no_new_privs": True, "private_tmp": True},
    }
    assert confinement_text(spec) == (
        "1.5 cpus, 512.0 MiB of memory, 100 pids, user build, network none, no new privileges, private /tmp"
    )
    assert confinement_text({}) == ""
