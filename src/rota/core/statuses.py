"""How a forge is told how a build is: what to send where, in each forge's own words."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from rota.core.build import Build
from rota.core.settings import Forge
from rota.core.states import Result, State

MAX_DESCRIPTION = 140
#: Where a forge's interface is on another host than its repositories.
_APIS = {"github.com": "api.github.com", "bitbucket.org": "api.bitbucket.org"}
_KINDS = ("github", "gitlab", "gitea", "forgejo", "bitbucket", "bitbucket-server")

_GITHUB = {"queued": "pending", "running": "pending", "passed": "success", "failed": "failure"}
_GITLAB = {
    "queued": "pending",
    "running": "running",
    "passed": "success",
    "cancelled": "canceled",
}
_CLOUD = {
    "queued": "INPROGRESS",
    "running": "INPROGRESS",
    "passed": "SUCCESSFUL",
    "cancelled": "STOPPED",
}


class Target(msgspec.Struct, frozen=True):
    """What a status is about: for one of these only the last word counts."""

    kind: str
    api: str
    project: str
    commit: str
    context: str
    host: str  # of the repository: whose token is shown


class Post(msgspec.Struct, frozen=True):
    """A request that tells a forge; the token is not in it yet."""

    url: str
    headers: dict[str, str]
    body: bytes


def target_of(build: Build, forges: Mapping[str, Forge]) -> Target | str:
    """Return whom to tell of a build, or why nobody can be told."""
    data = build.trigger.data
    host = data.get("repo", "").partition("/")[0]
    known = forges.get(host, Forge())
    kind, api = known.kind or data.get("forge", ""), known.api or data.get("api", "")
    if not known.statuses:
        return f"statuses are off for {host}"
    if kind not in _KINDS or not api or not data.get("project"):
        return f"nobody said how {host or 'the forge'} is told"
    # A webhook's word sends no token anywhere but to the forge that the token is for.
    named = _hostname(api)
    is_its = named is not None and named in (_hostname(f"//{host}"), _APIS.get(host))
    if not known.api and not is_its:
        return f"{api} is not on {host}; if it is right, say so in settings.toml"
    return Target(kind, api.rstrip("/"), data["project"], data["commit"], f"rota/{build.job}", host)


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None  # such as `https://[git/`


def state_of(build: Build) -> tuple[str, bool]:
    """Return how a build is, in a word, and whether that is the last one."""
    if build.state is State.FINISHED:
        return str(build.result), True
    return ("running" if build.state is State.RUNNING else "queued"), False


def post_of(target: Target, build: Build, state: str, url: str) -> Post:
    """Return the request that tells a forge that a build is in ``state``; ``url`` shows it."""
    text = _description(build, state)
    match target.kind:
        case "gitlab":
            query = {
                "state": _GITLAB.get(state, "failed"),
                "name": target.context,
                "target_url": url,
                "description": text,
            }
            if branch := build.trigger.data.get("head") or build.trigger.data.get("branch"):
                query["ref"] = branch
            project = quote(target.project, safe="")
            path = f"/projects/{project}/statuses/{target.commit}?{urlencode(query)}"
            return Post(target.api + path, {}, b"")
        case "bitbucket":
            body: dict[str, str] = {
                "key": _key(target.context),
                "state": _CLOUD.get(state, "FAILED"),
                "name": target.context,
                "url": url,
                "description": text,
            }
            path = f"/repositories/{quote(target.project)}/commit/{target.commit}/statuses/build"
        case "bitbucket-server":
            body = {
                "key": target.context,
                "state": "SUCCESSFUL" if state == "passed" else _running(state),
                "name": target.context,
                "url": url,
                "description": text,
            }
            path = f"/rest/build-status/1.0/commits/{target.commit}"
        case _:
            body = {
                "state": _GITHUB.get(state, "failure" if state == "timed-out" else "error"),
                "target_url": url,
                "description": text,
                "context": target.context,
            }
            path = f"/repos/{quote(target.project)}/statuses/{target.commit}"
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    return Post(target.api + path, headers, msgspec.json.encode(body))


def _running(state: str) -> str:
    return "INPROGRESS" if state in ("queued", "running") else "FAILED"


def _key(context: str) -> str:
    """Return a key of at most 40 characters, the end of a long job's name being what differs."""
    return context if len(context) <= 40 else f"rota/…{context[-34:]}"


def authorization(target: Target, token: str) -> dict[str, str]:
    """Return the header that shows a token to a forge."""
    match target.kind:
        case "gitlab":
            return {"PRIVATE-TOKEN": token}
        case "gitea" | "forgejo":
            return {"Authorization": f"token {token}"}
        case _:
            return {"Authorization": f"Bearer {token}"}


def is_taken(target: Target, status: int, text: str) -> bool:
    """Whether a forge's answer says that it knows by now."""
    # GitLab refuses to be told the same twice.
    is_known = target.kind == "gitlab" and status == 400 and "Cannot transition status" in text
    return 200 <= status < 300 or is_known


def may_help_again(status: int) -> bool:
    """Whether a forge may take later what it answered to with ``status``."""
    return status in (408, 425, 429) or status >= 500


def _description(build: Build, state: str) -> str:
    match state:
        case "queued":
            text = f"{build.ref} waits"
        case "running":
            text = f"{build.ref} runs" + (f" on {build.agent}" if build.agent else "")
        case _:
            text = f"{build.ref} {state}"
            if build.result is Result.FAILED and build.exit_code is not None:
                text += f", exit code {build.exit_code}"
            if build.message:
                text += f": {build.message}"
            elif build.tests is not None:
                text += f": {build.tests.text}"
    return text if len(text) <= MAX_DESCRIPTION else text[: MAX_DESCRIPTION - 1] + "…"
