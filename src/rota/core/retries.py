"""Whether a build that ended is tried again by itself, and when."""

from __future__ import annotations

from zlib import crc32

from rota.core.build import Build
from rota.core.job import Reason
from rota.core.states import Result

#: No wait is longer, whatever a header says.
MAX_RETRY_DELAY_S = 86_400.0


def wants_retry(build: Build) -> bool:
    """Whether the retry policy of a build that has just ended asks for another attempt."""
    retry = build.spec.retry
    if build.result is Result.PASSED or build.cancelled_by is not None:
        return False
    if build.reason is Reason.SCRIPT and retry.exit_codes:
        is_wanted = build.exit_code in retry.exit_codes
    else:
        is_wanted = build.reason in retry.on
    return is_wanted and build.attempt <= retry.times


def retry_delay_s(build: Build) -> float:
    """Return how long the next attempt waits: the policy's delay, doubled for each former try.

    What is left to chance is the same wherever it is worked out: it comes from the build's id.
    """
    retry = build.spec.retry
    doublings = min(max(build.attempt - 1, 0), 30)
    delay_s = min(retry.delay_s * 2**doublings, retry.max_delay_s, MAX_RETRY_DELAY_S)
    chance = crc32(f"{build.id} {build.attempt}".encode("utf-8", "surrogatepass")) / 2**32
    delay_s *= 1 - min(max(retry.jitter, 0.0), 1.0) * chance
    return delay_s if delay_s > 0 else 0.0
