"""What forges send: bodies in the form of their documentation, signed as they sign them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any, NamedTuple

ZERO = "0" * 40
A, B, C = "a1" * 20, "b2" * 20, "c3" * 20


class Call(NamedTuple):
    """A request to a webhook, without its signature."""

    forge: str
    headers: dict[str, str]
    body: bytes
    content_type: str = "application/json"

    def signed(self, secret: str, at: int = 0) -> dict[str, str]:
        """Return the headers with the signature that the forge would make."""
        return {
            **self.headers,
            **SIGNERS[self.forge](self, secret, at),
            "Content-Type": self.content_type,
        }


def _hex(secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _standard(call: Call, secret: str, at: int) -> dict[str, str]:
    id_ = call.headers.get("Idempotency-Key", "msg_1")
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{id_}.{at}.".encode() + call.body, hashlib.sha256).digest()
    return {
        "webhook-id": id_,
        "webhook-timestamp": str(at),
        "webhook-signature": "v1,AAAA v1," + base64.b64encode(mac).decode(),
    }


SIGNERS: dict[str, Any] = {
    "github": lambda c, s, _: {"X-Hub-Signature-256": "sha256=" + _hex(s, c.body)},
    "gitea": lambda c, s, _: {
        "X-Gitea-Signature": _hex(s, c.body),
        "X-Hub-Signature-256": "sha256=" + _hex(s, c.body),
    },
    "forgejo": lambda c, s, _: {
        "X-Forgejo-Signature": _hex(s, c.body),
        "X-Gitea-Signature": _hex(s, c.body),
    },
    "gitlab": lambda c, s, _: {"X-Gitlab-Token": s},
    "gitlab-signed": _standard,
    "bitbucket": lambda c, s, _: {"X-Hub-Signature": "sha256=" + _hex(s, c.body)},
    "bitbucket-server": lambda c, s, _: {"X-Hub-Signature": "sha256=" + _hex(s, c.body)},
    "rota": lambda c, s, at: {
        "X-Rota-Signature": f"t={at},v1=" + _hex(s, str(at).encode() + b"." + c.body)
    },
    "plain": lambda c, s, _: {"X-Hub-Signature-256": "sha256=" + _hex(s, c.body)},
}


def _json(data: object) -> bytes:
    return json.dumps(data).encode()


def commit(id_: str, *files: str, **more: list[str]) -> dict[str, Any]:
    return {
        "id": id_,
        "message": "Add a shop\n\nIt sells things.",
        "author": {"name": "Ann", "email": "ann@example.org"},
        "added": list(files),
        "modified": [],
        "removed": [],
        **more,
    }


def github_repo(name: str = "ann/web") -> dict[str, Any]:
    return {
        "id": 1,
        "full_name": name,
        "html_url": f"https://github.com/{name}",
        "url": f"https://github.com/{name}",
        "clone_url": f"https://github.com/{name}.git",
        "ssh_url": f"git@github.com:{name}.git",
        "statuses_url": f"https://api.github.com/repos/{name}/statuses/{{sha}}",
        "default_branch": "main",
    }


def github(event: str, data: dict[str, Any], delivery: str = "d-1") -> Call:
    headers = {
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": delivery,
        "User-Agent": "GitHub-Hookshot/x",
    }
    return Call("github", headers, _json(data))


def github_push(
    old: str = A,
    new: str = B,
    ref: str = "refs/heads/main",
    *files: str,
    delivery: str = "d-1",
    **more: Any,
) -> Call:
    data = {
        "ref": ref,
        "before": old,
        "after": new,
        "created": old == ZERO,
        "deleted": new == ZERO,
        "forced": False,
        "commits": [commit(new, *(files or ("src/shop.py",)))] if new != ZERO else [],
        "head_commit": commit(new) if new != ZERO else None,
        "pusher": {"name": "ann", "email": "ann@example.org"},
        "sender": {"login": "ann", "id": 7},
        "repository": github_repo(),
        **more,
    }
    return github("push", data, delivery)


def github_pull(
    action: str = "opened", new: str = B, head_repo: str = "ann/web", **more: Any
) -> Call:
    data = {
        "action": action,
        "number": 7,
        "pull_request": {
            "number": 7,
            "title": "Sell more",
            "user": {"login": "bob"},
            "merged": False,
            "head": {"ref": "more", "sha": new, "repo": github_repo(head_repo)},
            "base": {"ref": "main", "sha": A, "repo": github_repo()},
        },
        "repository": github_repo(),
        "sender": {"login": "bob"},
        **more,
    }
    return github("pull_request", data, f"d-{action}-{new[:4]}")


def gitea_push(forge: str = "gitea", old: str = A, new: str = B) -> Call:
    name = {"gitea": "Gitea", "forgejo": "Forgejo"}[forge]
    base = "https://git.example/code"
    data = {
        "ref": "refs/heads/main",
        "before": old,
        "after": new,
        "commits": [commit(new, "src/shop.py")],
        "total_commits": 1,
        "head_commit": commit(new),
        "repository": {
            "id": 3,
            "full_name": "ann/web",
            "html_url": f"{base}/ann/web",
            "clone_url": f"{base}/ann/web.git",
            "ssh_url": "ssh://git@git.example:2222/ann/web.git",
        },
        "pusher": {"login": "ann", "email": "ann@example.org"},
        "sender": {"login": "ann"},
    }
    headers = {
        f"X-{prefix}-{key}": value
        for prefix in dict.fromkeys((name, "Gitea", "Gogs", "GitHub"))
        for key, value in (("Event", "push"), ("Delivery", "f6266f16"), ("Event-Type", "push"))
    }
    return Call(forge, headers, _json(data))


def gitlab_project() -> dict[str, Any]:
    return {
        "id": 15,
        "path_with_namespace": "ann/web",
        "web_url": "https://gitlab.example/ann/web",
        "git_http_url": "https://gitlab.example/ann/web.git",
        "git_ssh_url": "git@gitlab.example:ann/web.git",
    }


def gitlab(event: str, data: dict[str, Any], *, is_signed: bool = False) -> Call:
    headers = {"X-Gitlab-Event": event, "X-Gitlab-Event-UUID": "e-1", "Idempotency-Key": "i-1"}
    return Call("gitlab-signed" if is_signed else "gitlab", headers, _json(data))


def gitlab_push(
    old: str = A, new: str = B, ref: str = "refs/heads/main", *, is_signed: bool = False
) -> Call:
    data = {
        "object_kind": "push",
        "before": old,
        "after": new,
        "ref": ref,
        "checkout_sha": None if new == ZERO else new,
        "user_name": "Ann",
        "user_username": "ann",
        "project_id": 15,
        "project": gitlab_project(),
        "commits": [commit(new, "src/shop.py")],
        "total_commits_count": 1,
    }
    event = "Tag Push Hook" if ref.startswith("refs/tags/") else "Push Hook"
    return gitlab(event, data, is_signed=is_signed)


def gitlab_merge(action: str = "open", source: int = 15, **more: Any) -> Call:
    data = {
        "object_kind": "merge_request",
        "user": {"username": "bob"},
        "project": gitlab_project(),
        "object_attributes": {
            "iid": 7,
            "title": "Sell more",
            "action": action,
            "source_branch": "more",
            "target_branch": "main",
            "source_project_id": source,
            "target_project_id": 15,
            "source": {"git_http_url": "https://gitlab.example/bob/web.git"},
            "last_commit": {"id": B, "message": "More"},
            **more,
        },
    }
    return gitlab("Merge Request Hook", data)


def bitbucket_push(old: str | None = A, new: str | None = B, kind: str = "branch") -> Call:
    def side(hash_: str | None) -> object:
        if hash_ is None:
            return None
        return {"type": kind, "name": "main", "target": {"hash": hash_, "message": "More"}}

    data = {
        "actor": {"nickname": "ann", "display_name": "Ann"},
        "repository": {
            "full_name": "ann/web",
            "links": {"html": {"href": "https://bitbucket.org/ann/web"}},
        },
        "push": {"changes": [{"old": side(old), "new": side(new), "forced": False}]},
    }
    headers = {"X-Event-Key": "repo:push", "X-Request-UUID": "r-1", "X-Hook-UUID": "h-1"}
    return Call("bitbucket", headers, _json(data))


def bitbucket_pull(key: str = "pullrequest:created", origin: str = "ann/web") -> Call:
    data = {
        "actor": {"nickname": "bob"},
        "repository": {
            "full_name": "ann/web",
            "links": {"html": {"href": "https://bitbucket.org/ann/web"}},
        },
        "pullrequest": {
            "id": 7,
            "title": "Sell more",
            "author": {"nickname": "bob"},
            "source": {
                "branch": {"name": "more"},
                "commit": {"hash": B[:12]},
                "repository": {
                    "full_name": origin,
                    "links": {"html": {"href": f"https://bitbucket.org/{origin}"}},
                },
            },
            "destination": {"branch": {"name": "main"}, "commit": {"hash": A[:12]}},
        },
    }
    headers = {"X-Event-Key": key, "X-Request-UUID": "r-2", "X-Hook-UUID": "h-1"}
    return Call("bitbucket", headers, _json(data))


def server_repo(project: str = "SHOP") -> dict[str, Any]:
    base = "https://stash.example/bb"
    return {
        "slug": "web",
        "project": {"key": project},
        "links": {
            "clone": [
                {"name": "ssh", "href": f"ssh://git@stash.example:7999/{project.lower()}/web.git"},
                {"name": "http", "href": f"{base}/scm/{project.lower()}/web.git"},
            ],
            "self": [{"href": f"{base}/projects/{project}/repos/web/browse"}],
        },
    }


def server_push(*changes: tuple[str, str, str]) -> Call:
    data = {
        "eventKey": "repo:refs_changed",
        "actor": {"name": "ann"},
        "repository": server_repo(),
        "changes": [
            {"refId": ref, "fromHash": old, "toHash": new, "type": "UPDATE"}
            for old, new, ref in changes or [(A, B, "refs/heads/main")]
        ],
    }
    headers = {"X-Event-Key": "repo:refs_changed", "X-Request-Id": "q-1"}
    return Call("bitbucket-server", headers, _json(data))


def server_pull(key: str = "pr:opened", project: str = "SHOP") -> Call:
    data = {
        "eventKey": key,
        "actor": {"name": "bob"},
        "pullRequest": {
            "id": 7,
            "title": "Sell more",
            "author": {"user": {"name": "bob"}},
            "fromRef": {
                "id": "refs/heads/more",
                "displayId": "more",
                "latestCommit": B,
                "repository": server_repo(project),
            },
            "toRef": {"id": "refs/heads/main", "displayId": "main", "repository": server_repo()},
        },
    }
    return Call("bitbucket-server", {"X-Event-Key": key, "X-Request-Id": "q-2"}, _json(data))


def plain(data: object, **headers: str) -> Call:
    """A call of no forge, whose time is signed."""
    return Call("rota", {k.replace("_", "-"): v for k, v in headers.items()}, _json(data))
