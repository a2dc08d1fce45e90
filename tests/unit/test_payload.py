"""What forges' webhooks say, and that no body whatever does harm."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields
from tests.harness import forges as f
from tests.harness.facts import JSON
from tests.harness.forges import ZERO, A, B, Call

from rota.core.events import ScmChanged
from rota.core.payload import _READERS, Moved, read_changes, read_lines
from rota.errors import InputError


def changes(call: Call) -> tuple[Moved, ...] | None:
    forge = call.forge.removesuffix("-signed")
    event = next(
        call.headers[key]
        for key in ("X-Event-Key", "X-Gitlab-Event", "X-GitHub-Event")
        if key in call.headers
    )
    return read_changes(forge, event, json.loads(call.body))


def test_what_is_read_of_a_call_is_what_the_event_says() -> None:
    said = {field.name: field.default for field in fields(ScmChanged)}
    read = {field.name: field.default for field in fields(Moved)}
    of_the_call = {"at", "by", "agent", "via", "token", "address", "v", "id"}
    of_the_call |= {"forge", "hook", "delivery"}
    assert read == {name: default for name, default in said.items() if name not in of_the_call}


def only(call: Call) -> Moved:
    found = changes(call)
    assert found is not None
    (one,) = found
    return one


@pytest.mark.parametrize(
    ("call", "repo", "project", "api", "files"),
    [
        (f.github_push(), "github.com/ann/web", "ann/web", "https://api.github.com", True),
        (
            f.gitea_push(),
            "git.example/code/ann/web",
            "ann/web",
            "https://git.example/code/api/v1",
            True,
        ),
        (
            f.gitea_push("forgejo"),
            "git.example/code/ann/web",
            "ann/web",
            "https://git.example/code/api/v1",
            True,
        ),
        (f.gitlab_push(), "gitlab.example/ann/web", "15", "https://gitlab.example/api/v4", True),
        (
            f.bitbucket_push(),
            "bitbucket.org/ann/web",
            "ann/web",
            "https://api.bitbucket.org/2.0",
            False,
        ),
        (
            f.server_push(),
            "stash.example/bb/scm/shop/web",
            "SHOP/web",
            "https://stash.example/bb",
            False,
        ),
    ],
)
def test_a_push_is_the_same_whoever_tells_of_it(
    call: Call, repo: str, project: str, api: str, files: bool
) -> None:
    moved = only(call)
    assert (moved.what, moved.ref, moved.old, moved.new) == ("push", "refs/heads/main", A, B)
    assert (moved.repo, moved.project, moved.api) == (repo, project, api)
    assert (moved.author, moved.forced) == ("ann", False)
    assert moved.files == (("src/shop.py",) if files else None)
    assert moved.url.startswith("https://")


def test_the_ssh_url_of_a_repository_counts_as_well() -> None:
    assert only(f.gitea_push()).also == ("git.example:2222/ann/web",)
    assert only(f.server_push()).also == ("stash.example:7999/shop/web",)


@pytest.mark.parametrize(
    ("call", "what", "old", "new", "ref"),
    [
        (f.github_push(ZERO, B), "push", "", B, "refs/heads/main"),
        (f.github_push(A, ZERO), "removed", A, "", "refs/heads/main"),
        (f.github_push(ZERO, B, "refs/tags/v1"), "tag", "", B, "refs/tags/v1"),
        (f.gitlab_push(ZERO, B, "refs/tags/v1"), "tag", "", B, "refs/tags/v1"),
        (f.gitlab_push(A, ZERO), "removed", A, "", "refs/heads/main"),
        (f.bitbucket_push(None, B), "push", "", B, "refs/heads/main"),
        (f.bitbucket_push(A, None), "removed", A, "", "refs/heads/main"),
        (f.bitbucket_push(None, B, "tag"), "tag", "", B, "refs/tags/main"),
        (f.server_push((A, ZERO, "refs/heads/x")), "removed", A, "", "refs/heads/x"),
    ],
)
def test_branches_and_tags_come_and_go(call: Call, what: str, old: str, new: str, ref: str) -> None:
    moved = only(call)
    assert (moved.what, moved.old, moved.new, moved.ref) == (what, old, new, ref)
    assert moved.files is None, "what a new branch brings nobody says"


def test_a_forced_push_may_have_changed_any_file() -> None:
    moved = only(f.github_push(forced=True))
    assert (moved.forced, moved.files) == (True, None)


def test_several_changes_in_one_call_are_several() -> None:
    found = changes(f.server_push((A, B, "refs/heads/x"), (ZERO, B, "refs/tags/v1")))
    assert found is not None
    assert [(it.what, it.ref) for it in found] == [
        ("push", "refs/heads/x"),
        ("tag", "refs/tags/v1"),
    ]


@pytest.mark.parametrize(
    ("call", "action", "ref", "fork"),
    [
        (f.github_pull(), "opened", "refs/pull/7/head", False),
        (f.github_pull("synchronize", head_repo="bob/web"), "changed", "refs/pull/7/head", True),
        (f.github_pull("closed"), "closed", "refs/pull/7/head", False),
        (
            f.github_pull("edited", changes={"base": {"ref": {"from": "x"}}}),
            "changed",
            "refs/pull/7/head",
            False,
        ),
        (f.gitlab_merge(), "opened", "refs/merge-requests/7/head", False),
        (f.gitlab_merge("update", 16, oldrev=A), "changed", "refs/merge-requests/7/head", True),
        (f.gitlab_merge("merge"), "merged", "refs/merge-requests/7/head", False),
        (f.bitbucket_pull(), "opened", "refs/pull-requests/7/from", False),
        (
            f.bitbucket_pull("pullrequest:updated", "bob/web"),
            "changed",
            "refs/pull-requests/7/from",
            True,
        ),
        (f.bitbucket_pull("pullrequest:rejected"), "closed", "refs/pull-requests/7/from", False),
        (f.server_pull(), "opened", "refs/pull-requests/7/from", False),
        (f.server_pull("pr:merged", "~BOB"), "merged", "refs/pull-requests/7/from", True),
    ],
)
def test_a_pull_request_is_the_same_whoever_tells_of_it(
    call: Call, action: str, ref: str, fork: bool
) -> None:
    moved = only(call)
    assert (moved.what, moved.action, moved.ref, moved.fork) == ("pull", action, ref, fork)
    assert (moved.number, moved.base, moved.head) == (7, "main", "more")
    assert B.startswith(moved.new)
    assert (moved.author, moved.message) == ("bob", "Sell more")


def test_a_merged_pull_request_says_so() -> None:
    data = json.loads(f.github_pull("closed").body)
    data["pull_request"]["merged"] = True
    assert only(f.github("pull_request", data)).action == "merged"


@pytest.mark.parametrize(
    "call",
    [
        f.github_pull("labeled"),
        f.github_pull("edited"),
        f.gitlab_merge("update"),
        f.gitlab_merge("approved"),
        f.github("issues", {"action": "opened"}),
    ],
)
def test_what_changes_no_repository_is_something_else(call: Call) -> None:
    assert changes(call) is None


def test_files_are_unknown_where_not_all_are_said() -> None:
    assert only(f.github_push(commits=[{"id": B}])).files is None
    assert only(f.github_push(commits=[])).files is None
    assert only(f.github_push(commits=[f.commit(B, "a")] * 2048)).files is None
    assert only(f.github_push(commits=[f.commit(B, *map(str, range(2000)))])).files is None
    data = json.loads(f.gitlab_push().body) | {"total_commits_count": 30}
    assert only(f.gitlab("Push Hook", data)).files is None


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"ref": "main"}, "ref is no ref: 'main'"),
        ({"ref": "refs/heads/../../etc"}, "ref is no ref"),
        ({"ref": "refs/heads/a\nb"}, "ref is no ref"),
        ({"ref": 7}, "ref is no ref: ''"),
        ({"after": "--upload-pack=x"}, "the commit after is no commit: '--upload-pack=x'"),
        ({"after": "A" * 40}, "the commit after is no commit"),
        ({"before": ZERO, "after": ZERO}, "refs/heads/main moves from nothing to nothing"),
        ({"repository": []}, "the body names no repository"),
        ({"repository": {"clone_url": "--exec=x"}}, "the body names no repository"),
        ({"repository": {"clone_url": "ext::sh -c x"}}, "the body names no repository"),
    ],
)
def test_nonsense_is_refused_by_its_name(more: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        changes(f.github_push(**more))
    assert caught.value.message.startswith(says)


def test_a_password_in_a_url_goes_no_further() -> None:
    repo = f.github_repo() | {"clone_url": "https://ann:s3cret@github.com/ann/web.git"}
    moved = only(f.github_push(repository=repo))
    assert moved.url == "https://github.com/ann/web.git"
    assert "s3cret" not in str(moved)


def test_lines_of_post_receive() -> None:
    text = f"{A} {B} refs/heads/main\n{ZERO} {B} refs/tags/v1\n"
    first, second = read_lines(text, "/srv/git/web.git", "ann")
    assert (first.what, first.repo, first.author) == ("push", "/srv/git/web", "ann")
    assert second.what == "tag"
    with pytest.raises(InputError, match="line 2 is not `OLD NEW REF`"):
        read_lines(f"{A} {B} refs/heads/main\nnonsense", "/srv/git/web.git", "ann")


@given(st.sampled_from(sorted(_READERS)), st.data())
def test_any_body_is_answered(reader: tuple[str, str], data: st.DataObject) -> None:
    samples = [
        f.github_push(),
        f.github_pull(),
        f.gitlab_push(),
        f.gitlab_merge(),
        f.bitbucket_push(),
        f.bitbucket_pull(),
        f.server_push(),
        f.server_pull(),
    ]
    body = json.loads(data.draw(st.sampled_from(samples)).body)
    _spoil(body, data)
    try:
        found = read_changes(*reader, body)
    except InputError:
        return
    for moved in found or ():
        assert moved.repo
        assert moved.ref.startswith("refs/")
        assert not moved.url.startswith("-")


def _spoil(value: Any, data: st.DataObject) -> None:
    """Put anything in the place of something."""
    while isinstance(value, dict | list) and value:
        keys = sorted(value) if isinstance(value, dict) else range(len(value))
        key = data.draw(st.sampled_from(list(keys)))
        inner = value[key]
        if not isinstance(inner, dict | list) or data.draw(st.booleans()):
            value[key] = data.draw(JSON)
            return
        value = inner
