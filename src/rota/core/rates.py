"""How often a job's builds begin: the generic cell rate algorithm, on the times in events.

For each job one number is kept: until when its rate is used up (seconds since 1970). A build may
begin while that is at most ``count - 1`` steps ahead, and uses up one step.
"""

from __future__ import annotations

from rota.core.job import Rate


def opens_at(used_until: float, rate: Rate) -> float:
    """Return from when on the next build may begin."""
    return used_until - (rate.count - 1) * rate.step_s


def room(used_until: float, rate: Rate, now: float) -> int:
    """Return how many builds may begin now."""
    opens = opens_at(used_until, rate)
    return min(rate.count, int((now - opens) / rate.step_s) + 1) if now >= opens else 0


def after(used_until: float, rate: Rate, at: float) -> float:
    """Return until when the rate is used up once a build has begun.

    It is never further ahead than a whole period: what a wrong clock has put off for a year ends with
    the next event that tells the right time.
    """
    return min(max(used_until, at) + rate.step_s, at + rate.per_s)
