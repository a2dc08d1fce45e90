"""Fixtures that any test may ask for, and one profile for all properties: repeatable, not timed."""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

pytest_plugins = [
    "tests.harness.agent",
    "tests.harness.bucket",
    "tests.harness.engine",
    "tests.harness.engines",
    "tests.harness.irc",
]
