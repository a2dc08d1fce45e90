"""What a forge's webhook says: changes of a repository, from any JSON whatever.

Only what is known is read, and of the right type; a field that should say something and says
nonsense is refused by its name, so that nothing half-understood gets into the journal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from rota.core.repository import repo_key
from rota.errors import InputError

Data = Mapping[str, object]
Where = dict[str, Any]
"""Fields of a :class:`Moved` that say where it was."""

MAX_FILES = 1000
MAX_FILES_CHARACTERS = 64 * 1024
MAX_TEXT = 500
MAX_CHANGES = 100
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_REF = re.compile(r"refs/[^\x00-\x20\x7f~^:?*\[\\]{1,240}")
_URL = re.compile(r"(?:https?|ssh|git)://[^\x00-\x20\x7f'\"<>]{1,900}")


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a repository; the fields are those of ``scm.changed``."""

    what: str
    repo: str
    also: tuple[str, ...] = ()
    url: str = ""
    ref: str
    old: str = ""
    new: str = ""
    forced: bool = False
    files: tuple[str, ...] | None = None
    number: int = 0
    action: str = ""
    base: str = ""
    head: str = ""
    head_url: str = ""
    fork: bool = False
    author: str = ""
    message: str = ""
    api: str = ""
    project: str = ""


def read_changes(forge: str, event: str, data: Data) -> tuple[Moved, ...] | None:
    """Return the changes that a call tells of; ``None`` where it tells of something else.

    Raises:
        InputError: it should tell of changes, and what it says cannot be.
    """
    reader = _READERS.get((forge, event))
    if reader is None:
        return None
    changes = reader(data)
    if changes is None:
        return None
    found = tuple(changes)
    if len(found) > MAX_CHANGES:
        raise InputError(f"{len(found)} changes in one call, the limit is {MAX_CHANGES}")
    return found


def is_ping(forge: str, event: str, data: Data) -> bool:
    """Whether a forge only wants to know that somebody answers."""
    return (forge, event) in {("github", "ping"), ("bitbucket-server", "diagnostics:ping")}


def read_lines(text: str, repo: str, author: str) -> tuple[Moved, ...]:
    """Return the changes that git's ``post-receive`` was told of: lines of old, new and ref.

    Raises:
        InputError: a line is something else.
    """
    found = []
    for number, line in enumerate(filter(None, text.splitlines()), 1):
        words = line.split(" ", 2)
        if len(words) != 3:
            raise InputError(f"line {number} is not `OLD NEW REF`", hint="as post-receive is told")
        old, new, ref = words
        where = {"repo": repo_key(repo), "url": _url(repo), "author": author[:MAX_TEXT]}
        found.append(_moved(f"line {number}: ref", ref, old, new, where))
    if len(found) > MAX_CHANGES:
        raise InputError(f"{len(found)} changes in one call, the limit is {MAX_CHANGES}")
    return tuple(found)


# -- github, gitea, forgejo -----------------------------------------------------------------------


def _github_push(data: Data) -> Iterable[Moved]:
    commits = _list(data, "commits")
    total = _int(data, "total_commits")  # of gitea, which names the last few alone
    is_all = len(commits) < 2048 and total <= max(len(commits), 1)
    who = _text(data, "pusher.login") or _text(data, "pusher.name") or _text(data, "sender.login")
    where = _github_repo(_table(data, "repository")) | {
        "author": who,
        "message": _first_line(_text(data, "head_commit.message") or _last_message(commits)),
        "forced": data.get("forced") is True,
        "files": _files(commits) if is_all and data.get("forced") is not True else None,
    }
    yield _moved("ref", _text(data, "ref"), _text(data, "before"), _text(data, "after"), where)


def _github_delete(data: Data) -> Iterable[Moved] | None:
    kind = {"branch": "refs/heads/", "tag": "refs/tags/"}.get(_text(data, "ref_type"))
    if kind is None:
        return None
    where = _github_repo(_table(data, "repository")) | {"author": _text(data, "sender.login")}
    ref = kind + _text(data, "ref").removeprefix(kind)
    return [Moved(what="removed", ref=_ref("ref", ref), **where)]


def _github_pull(data: Data) -> Iterable[Moved] | None:
    pull = _table(data, "pull_request")
    action = {
        "opened": "opened",
        "reopened": "opened",
        "ready_for_review": "changed",
        "synchronize": "changed",
        "synchronized": "changed",
        "closed": "merged" if pull.get("merged") is True else "closed",
        "edited": "changed" if _table(data, "changes.base") else "",
    }.get(_text(data, "action"), "")
    if not action:
        return None
    number = _number(data, "number") or _number(pull, "number")
    target = _table(pull, "base.repo") or _table(data, "repository")
    origin = _table(pull, "head.repo")
    return [
        Moved(
            what="pull",
            ref=f"refs/pull/{number}/head",
            number=number,
            action=action,
            new=_commit("pull_request.head.sha", _text(pull, "head.sha")),
            old=_commit("before", _text(data, "before"), may_lack=True),
            base=_branch("pull_request.base.ref", _text(pull, "base.ref")),
            head=_branch("pull_request.head.ref", _text(pull, "head.ref")),
            head_url=_url(_text(origin, "clone_url")),
            # A fork that was deleted has no repository any more, and is none of ours.
            fork=_text(origin, "full_name") != _text(target, "full_name"),
            author=_text(pull, "user.login") or _text(data, "sender.login"),
            message=_first_line(_text(pull, "title")),
            **_github_repo(_table(data, "repository")),
        )
    ]


def _github_repo(repo: Data) -> Where:
    name = _text(repo, "full_name")
    url = _url(_text(repo, "clone_url"))
    statuses = _text(repo, "statuses_url")  # https://api.github.com/repos/OWNER/NAME/statuses/{sha}
    api = statuses.partition("/repos/")[0] if "/repos/" in statuses else ""
    if not api and url:
        scheme, _, rest = url.partition("://")
        host, slash, path = rest.partition("/")
        path = f"{slash}{path}".removesuffix(".git").removesuffix(name).rstrip("/")
        api = f"{scheme}://{host}{path}/api/v1"
    return _repo(url, _text(repo, "ssh_url"), _text(repo, "html_url"), api=api, project=name)


# -- gitlab -------------------------------------------------------------------------------------------


def _gitlab_push(data: Data) -> Iterable[Moved]:
    commits = _list(data, "commits")
    is_all = _int(data, "total_commits_count") <= len(commits)
    where = _gitlab_repo(_table(data, "project")) | {
        "author": _text(data, "user_username") or _text(data, "user_name"),
        "message": _first_line(_last_message(commits)),
        "files": _files(commits) if is_all else None,
    }
    yield _moved("ref", _text(data, "ref"), _text(data, "before"), _text(data, "after"), where)


def _gitlab_merge(data: Data) -> Iterable[Moved] | None:
    merge = _table(data, "object_attributes")
    old = _text(merge, "oldrev")
    action = {
        "open": "opened",
        "reopen": "opened",
        "update": "changed" if old else "",
        "close": "closed",
        "merge": "merged",
    }.get(_text(merge, "action"), "")
    if not action:
        return None
    number = _number(merge, "iid")
    return [
        Moved(
            what="pull",
            ref=f"refs/merge-requests/{number}/head",
            number=number,
            action=action,
            new=_commit("object_attributes.last_commit.id", _text(merge, "last_commit.id")),
            old=_commit("object_attributes.oldrev", old, may_lack=True),
            base=_branch("object_attributes.target_branch", _text(merge, "target_branch")),
            head=_branch("object_attributes.source_branch", _text(merge, "source_branch")),
            head_url=_url(_text(merge, "source.git_http_url")),
            fork=_int(merge, "source_project_id") != _int(merge, "target_project_id"),
            author=_text(data, "user.username"),
            message=_first_line(_text(merge, "title")),
            **_gitlab_repo(_table(data, "project")),
        )
    ]


def _gitlab_repo(project: Data) -> Where:
    url = _url(_text(project, "git_http_url"))
    name = _text(project, "path_with_namespace")
    web = _text(project, "web_url")
    api = web.removesuffix(name).rstrip("/") + "/api/v4" if name and web.endswith(name) else ""
    id_ = _int(project, "id")
    return _repo(url, _text(project, "git_ssh_url"), web, api=api, project=str(id_ or name))


# -- bitbucket ----------------------------------------------------------------------------------------


def _cloud_push(data: Data) -> Iterator[Moved]:
    where = _cloud_repo(_table(data, "repository"))
    who = _text(data, "actor.nickname") or _text(data, "actor.display_name")
    for change in map(_as_table, _list(data, "push.changes")):
        old, new = _table(change, "old"), _table(change, "new")
        ref = new or old
        kind = _text(ref, "type")
        folder = {"tag": "refs/tags/", "annotated_tag": "refs/tags/"}.get(kind, "refs/heads/")
        more = {
            "author": who,
            "message": _first_line(_text(new, "target.message")),
            "forced": change.get("forced") is True,
        }
        yield _moved(
            "push.changes",
            folder + _text(ref, "name"),
            _text(old, "target.hash"),
            _text(new, "target.hash"),
            where | more,
        )


def _cloud_pull(action: str) -> Callable[[Data], Iterable[Moved]]:
    def read(data: Data) -> Iterable[Moved]:
        pull = _table(data, "pullrequest")
        number = _number(pull, "id")
        source, target = _table(pull, "source"), _table(pull, "destination")
        origin = _cloud_repo(_table(source, "repository") or _table(data, "repository"))
        yield Moved(
            what="pull",
            ref=f"refs/pull-requests/{number}/from",
            number=number,
            action=action,
            new=_commit("pullrequest.source.commit.hash", _text(source, "commit.hash")),
            base=_branch("pullrequest.destination.branch.name", _text(target, "branch.name")),
            head=_branch("pullrequest.source.branch.name", _text(source, "branch.name")),
            head_url=str(origin["url"]),
            fork=_text(source, "repository.full_name") != _text(data, "repository.full_name"),
            author=_text(pull, "author.nickname") or _text(data, "actor.nickname"),
            message=_first_line(_text(pull, "title")),
            **_cloud_repo(_table(data, "repository")),
        )

    return read


def _cloud_repo(repo: Data) -> Where:
    name, web = _text(repo, "full_name"), _text(repo, "links.html.href")
    api = "https://api.bitbucket.org/2.0"
    return _repo(_url(f"{web}.git") if web else "", "", web, api=api, project=name)


def _server_push(data: Data) -> Iterator[Moved]:
    where = _server_repo(_table(data, "repository")) | {"author": _text(data, "actor.name")}
    for change in map(_as_table, _list(data, "changes")):
        ref = _text(change, "refId") or _text(change, "ref.id")
        yield _moved("changes", ref, _text(change, "fromHash"), _text(change, "toHash"), where)


def _server_pull(action: str) -> Callable[[Data], Iterable[Moved]]:
    def read(data: Data) -> Iterable[Moved]:
        pull = _table(data, "pullRequest")
        number = _number(pull, "id")
        source, target = _table(pull, "fromRef"), _table(pull, "toRef")
        origin = _server_repo(_table(source, "repository"))
        where = _server_repo(_table(target, "repository"))
        yield Moved(
            what="pull",
            ref=f"refs/pull-requests/{number}/from",
            number=number,
            action=action,
            new=_commit("pullRequest.fromRef.latestCommit", _text(source, "latestCommit")),
            old=_commit("previousFromHash", _text(data, "previousFromHash"), may_lack=True),
            base=_branch("pullRequest.toRef.displayId", _text(target, "displayId")),
            head=_branch("pullRequest.fromRef.displayId", _text(source, "displayId")),
            head_url=str(origin["url"]),
            fork=origin["project"] != where["project"],
            author=_text(pull, "author.user.name") or _text(data, "actor.name"),
            message=_first_line(_text(pull, "title")),
            **where,
        )

    return read


def _server_repo(repo: Data) -> Where:
    clones = [_as_table(it) for it in _list(repo, "links.clone")]
    by_name = {_text(it, "name"): _text(it, "href") for it in clones}
    url = _url(by_name.get("http", "") or by_name.get("https", "") or by_name.get("ssh", ""))
    web = _text(_as_table((_list(repo, "links.self") or [None])[0]), "href")
    api = web.partition("/projects/")[0] if "/projects/" in web else ""
    name = f"{_text(repo, 'project.key')}/{_text(repo, 'slug')}"
    return _repo(url, by_name.get("ssh", ""), "", api=api, project=name)


_READERS: dict[tuple[str, str], Callable[[Data], Iterable[Moved] | None]] = {
    ("gitlab", "Push Hook"): _gitlab_push,
    ("gitlab", "Tag Push Hook"): _gitlab_push,
    ("gitlab", "Merge Request Hook"): _gitlab_merge,
    ("bitbucket", "repo:push"): _cloud_push,
    ("bitbucket", "pullrequest:created"): _cloud_pull("opened"),
    ("bitbucket", "pullrequest:updated"): _cloud_pull("changed"),
    ("bitbucket", "pullrequest:fulfilled"): _cloud_pull("merged"),
    ("bitbucket", "pullrequest:rejected"): _cloud_pull("closed"),
    ("bitbucket-server", "repo:refs_changed"): _server_push,
    ("bitbucket-server", "pr:opened"): _server_pull("opened"),
    ("bitbucket-server", "pr:from_ref_updated"): _server_pull("changed"),
    ("bitbucket-server", "pr:merged"): _server_pull("merged"),
    ("bitbucket-server", "pr:declined"): _server_pull("closed"),
    ("bitbucket-server", "pr:deleted"): _server_pull("closed"),
}
for _forge in ("github", "gitea", "forgejo"):
    _READERS |= {
        (_forge, "push"): _github_push,
        (_forge, "delete"): _github_delete,
        (_forge, "pull_request"): _github_pull,
        (_forge, "pull_request_sync"): _github_pull,
    }


# -- parts ----------------------------------------------------------------------------------------


def _moved(name: str, ref: str, old: str, new: str, where: Where) -> Moved:
    ref = _ref(name, ref)
    old = _commit("the commit before", old, may_lack=True)
    new = _commit("the commit after", new, may_lack=True)
    if not old and not new:
        raise InputError(f"{ref} moves from nothing to nothing", hint="one commit must be there")
    what = "removed" if not new else "tag" if ref.startswith("refs/tags/") else "push"
    # A branch that is new may bring more than the commits that are listed.
    files = where.get("files") if old and new else None
    return msgspec.convert(
        {**where, "files": files, "what": what, "ref": ref, "old": old, "new": new}, Moved
    )


def _repo(url: str, ssh: str, web: str, *, api: str, project: str) -> Where:
    keys = dict.fromkeys(repo_key(it) for it in (url, _url(ssh, is_scp=True), _url(web)) if it)
    if not keys:
        raise InputError(
            "the body names no repository", hint="is it of the forge that the headers say?"
        )
    first, *others = keys
    fine = bool(_URL.fullmatch(api)) and len(project) <= MAX_TEXT
    return {
        "repo": first,
        "also": tuple(others),
        "url": url,
        "api": api if fine else "",
        "project": project if fine else "",
    }


def _url(text: str, *, is_scp: bool = False) -> str:
    """Return a URL without what somebody would log in by; nothing where it is none."""
    if is_scp and "://" not in text and re.fullmatch(r"[\w.-]+@[\w.-]+:[\w./+~-]{1,500}", text):
        return text
    if not _URL.fullmatch(text):
        return ""
    return re.sub(r"^([a-z]+://)[^/@]*:[^/@]*@", r"\1", text)


def _ref(name: str, ref: str) -> str:
    if not _REF.fullmatch(ref) or ".." in ref or ref.endswith(("/", ".lock")) or "//" in ref:
        raise InputError(f"{name} is no ref: {ref[:80]!r}", hint="such as refs/heads/main")
    return ref


def _branch(name: str, branch: str) -> str:
    return _ref(name, f"refs/heads/{branch}").removeprefix("refs/heads/")


def _commit(name: str, commit: str, *, may_lack: bool = False) -> str:
    if not commit.strip("0") and may_lack:
        return ""
    if not _COMMIT.fullmatch(commit):
        raise InputError(f"{name} is no commit: {commit[:80]!r}", hint="its hash in hex")
    return commit


def _number(data: Data, path: str) -> int:
    number = _int(data, path)
    if not 0 < number < 2**53:
        raise InputError(f"{path} is no number of a pull request")
    return number


def _files(commits: Sequence[object]) -> tuple[str, ...] | None:
    """Return all paths that the commits change; ``None`` where they do not say, or it is much."""
    found: dict[str, None] = {}
    for commit in map(_as_table, commits):
        lists = [commit.get(key) for key in ("added", "modified", "removed")]
        if not all(isinstance(it, list) for it in lists):
            return None
        found |= {it: None for some in lists for it in _as_list(some) if isinstance(it, str)}
    if not commits or len(found) > MAX_FILES or sum(map(len, found)) > MAX_FILES_CHARACTERS:
        return None
    return tuple(sorted(found))


def _last_message(commits: Sequence[object]) -> str:
    return _text(_as_table(commits[-1]), "message") if commits else ""


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].strip()


def _at(data: Data, path: str) -> object:
    value: object = data
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _text(data: Data, path: str) -> str:
    value = _at(data, path)
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _int(data: Data, path: str) -> int:
    value = _at(data, path)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _table(data: Data, path: str) -> Data:
    return _as_table(_at(data, path))


def _list(data: Data, path: str) -> Sequence[object]:
    return _as_list(_at(data, path))


def _as_table(value: object) -> Data:
    return value if isinstance(value, Mapping) else {}


def _as_list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []
