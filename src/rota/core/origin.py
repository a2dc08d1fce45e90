"""What a build passes on to those that it asks for: which source code they are about."""

from __future__ import annotations

from rota.core.build import Build

#: Of what a trigger brought: where the source is, whether it is to be trusted, and who is told.
PASSED_ON = (
    "repo",
    "url",
    "ref",
    "branch",
    "tag",
    "commit",
    "before",
    "number",
    "base",
    "head",
    "head_url",
    "fork",
    "author",
)


def source_data(build: Build) -> dict[str, str]:
    """Return what a build's children are triggered with: they have the same commit as it has."""
    data = {key: build.trigger.data[key] for key in PASSED_ON if key in build.trigger.data}
    source = build.source
    if source is None or "commit" in data:
        return data
    own = {"url": source.url, "ref": source.ref, "branch": source.branch, "commit": source.commit}
    return {key: text[:200] for key, text in own.items() if text}
