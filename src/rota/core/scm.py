"""Source code in builds: what a header asks for, what a build is to have, and what it got.

Texts from headers and from outside end up as arguments of git: what could be taken for an option,
or for a way to run a program, is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

import msgspec

from rota.core import fields
from rota.core.fields import Field, FieldError, Spot
from rota.core.repository import repo_key
from rota.core.template import TemplateError, fill, names

Int = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

#: The repository in which the script itself stands, where that is a watched one.
OWN = "."
SCHEMES = ("https", "http", "ssh", "git", "file")
MAX_URL = 1000
MAX_CHANGES = 100
MAX_CULPRITS = 50

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)(.*)", re.DOTALL)
_SCP = re.compile(r"(?:[^/@:\s]+@)?[^/@:\s-][^/@:\s]*:(?!:).+", re.DOTALL)
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
#: git-check-ref-format(1), and no dash in front.
_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/.]|/\.|[/.]$|\.lock(?:/|$)|^@$")
_SECRET = re.compile(r"(://)[^/@\s]*:[^/\s]*@")


class Scm(msgspec.Struct, frozen=True, omit_defaults=True):
    """The source code that a job's builds begin with: ``scm`` of its header.

    ``branch`` and ``ref`` (a tag, a commit, any ref) may name parameters in braces; neither means
    the repository's own default. A ``depth`` of 0 is the whole history. The tree lies below ``path``
    in the workspace. Every ``poll_s`` somebody looks for pushes.
    """

    git: str = ""
    branch: str = ""
    ref: str = ""
    depth: Int = 0
    submodules: bool = False
    lfs: bool = False
    sparse: tuple[str, ...] = ()
    path: str = ""
    poll_s: float | None = None


class Commit(msgspec.Struct, frozen=True, omit_defaults=True):
    """One commit, as people want to see it; ``files`` is how many it changed."""

    commit: str
    author: str = ""
    email: str = ""
    at: str = ""
    message: str = ""
    files: Int = 0

    @property
    def who(self) -> str:
        """Its author, as name and address."""
        return f"{self.author} <{self.email}>"


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was checked out for a build.

    ``commit`` is what lies in the workspace. Of a pull request ``base`` is the branch that ``head``
    was merged into for it. ``changes`` are the commits since the job's build before on that branch,
    newest first, ``more`` of them left out; ``culprits`` who committed since the last good one, whose
    commit ``good`` is.
    """

    url: str
    commit: str
    ref: str = ""
    branch: str = ""
    author: str = ""
    message: str = ""
    number: Int = 0
    base: str = ""
    head: str = ""
    before: str = ""
    good: str = ""
    changes: tuple[Commit, ...] = ()
    more: bool = False
    culprits: tuple[str, ...] = ()


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """What a build is to have: a commit, or where a ref is by the time of the checkout.

    With ``base`` that is merged into the branch of this name. ``head_url`` is where it comes from if
    that is another repository.
    """

    url: str
    ref: str = ""  # a full ref, or a name that may be a branch's or a tag's; empty: the default
    commit: str = ""
    base: str = ""
    number: int = 0
    head_url: str = ""
    head: str = ""


def revision(
    scm: Scm,
    data: Mapping[str, str],
    params: Mapping[str, object],
    former: Source | None = None,
) -> Revision:
    """Return what a build is to have.

    A further attempt has what the former one had. What the trigger names counts if it is of the same
    repository and the header does not say a ref itself.

    Raises:
        ValueError: a branch or ref cannot be one, once filled in.
    """
    ref = _filled("ref", scm.ref, params)
    if ref:
        return Revision(url=scm.git, ref=ref, commit=ref if is_commit(ref) else _of(former))
    if is_of(scm.git, data):
        return _triggered(scm, data)
    branch = _filled("branch", scm.branch, params)
    full = f"refs/heads/{branch}" if branch else ""
    return Revision(url=scm.git, ref=full, commit=_of(former))


def is_of(url: str, data: Mapping[str, str]) -> bool:
    """Whether a trigger names a commit of the repository."""
    mine = repo_key(url)
    theirs = {data.get("repo", ""), repo_key(data["url"]) if data.get("url") else ""}
    return is_commit(data.get("commit", "")) and mine in theirs


def _triggered(scm: Scm, data: Mapping[str, str]) -> Revision:
    ref, base = data.get("ref", ""), data.get("base", "")
    for name in (ref, base, data.get("head", "")):
        if name and (fault := ref_fault(name)):
            raise ValueError(f"the trigger names a ref that {fault}: {name!r}")
    number = data.get("number", "")
    head_url = data.get("head_url", "")
    return Revision(
        url=scm.git,
        ref=ref,
        commit=data["commit"],
        base=base,
        number=int(number) if number.isascii() and number.isdigit() and len(number) < 18 else 0,
        head_url="" if not head_url or url_fault(head_url) else head_url,
        head=data.get("head", ""),
    )


def _filled(what: str, text: str, params: Mapping[str, object]) -> str:
    try:
        name = fill(text, params)
    except TemplateError as error:
        raise ValueError(f"scm.{what} {error}") from None
    if name and (fault := ref_fault(name)):
        raise ValueError(f"scm.{what} {fault}: {name!r}")
    return name


def _of(former: Source | None) -> str:
    return former.commit if former is not None and not former.base else ""


def is_commit(text: str) -> bool:
    """Whether a text is a commit's whole hash."""
    return _COMMIT.fullmatch(text) is not None


def ref_fault(name: str) -> str | None:
    """Say what is wrong with the name of a branch, a tag or a ref; ``None`` if nothing is."""
    if len(name) > MAX_URL:
        return "is too long for a ref"
    return "cannot be a ref of git" if _BAD_REF.search(name) else None


def url_fault(url: str) -> str | None:
    """Say what is wrong with a repository's URL; ``None`` if nothing is."""
    if len(url) > MAX_URL:
        return f"has {len(url)} characters, the limit is {MAX_URL}"
    if not url.strip() or any(letter < " " or letter == "\x7f" for letter in url):
        return "is empty or has control characters"
    if url.startswith("-"):
        return "starts with a dash, so that git would take it for an option"
    if (found := _URL.fullmatch(url)) is not None:
        return _full_url_fault(found[1].lower(), found[2])
    if "::" in url.split("/")[0]:
        return "names a helper program; only " + ", ".join(SCHEMES) + " are taken"
    if url.startswith("/") or _SCP.fullmatch(url):
        return None
    return "is no URL: https://HOST/PATH, ssh://, git://, USER@HOST:PATH, or an absolute path"


def _full_url_fault(scheme: str, host: str) -> str | None:
    if scheme not in SCHEMES:
        return f"is of kind {scheme}; only " + ", ".join(SCHEMES) + " are taken"
    user, at, name = host.rpartition("@")
    if at and ":" in user:
        return "has a password, which would stand in git for everybody to read"
    if (user or name).startswith("-") or name.startswith("-"):
        return "has a host that starts with a dash, which ssh would take for an option"
    return None if name or scheme == "file" else "names no host"


def shown(text: str) -> str:
    """Return a text without the passwords in its URLs."""
    return _SECRET.sub(r"\1***@", text)


def is_local(url: str) -> bool:
    """Whether a repository is on the machine's own disk."""
    return url.startswith("/") or url.lower().startswith("file://")


# -- the header -----------------------------------------------------------------------------------

_HELPER_HINT = "leave it out, and give the agents' git a credential helper (git help credentials) or an ssh key"


def read_scm(value: object, spot: Spot) -> Scm:
    """Read ``scm`` of a header: a table, or the URL alone."""
    if isinstance(value, str):
        return Scm(git=read_url(value, spot))
    scm = fields.table(_SCM, Scm, required=("git",))(value, spot)
    if scm.branch and scm.ref:
        raise FieldError("has both branch and ref", "keep one of them")
    if is_commit(scm.ref) and scm.poll_s is not None:
        raise FieldError("polls, but a commit never moves", "leave poll out, or name a branch")
    return scm


def read_url(value: object, spot: Spot) -> str:
    """Read a repository's URL."""
    url = fields.text(value, spot)
    if url == OWN:
        return url
    if (fault := url_fault(url)) is not None:
        raise FieldError(fault, _HELPER_HINT if "password" in fault else None)
    return url


def _ref(value: object, spot: Spot) -> str:
    name = fields.text(value, spot)
    try:
        asked = names(name)
    except TemplateError as error:
        raise FieldError(str(error)) from None
    plain = fill(name, dict.fromkeys(asked, "x"))
    if not plain:
        raise FieldError("is empty", "leave it out for the repository's default branch")
    if (fault := ref_fault(plain)) is not None:
        raise FieldError(f"{fault}: {fields.printed_value(name)}")
    return name


def _folder(value: object, spot: Spot) -> str:
    folder = fields.text(value, spot)
    parts = folder.strip("/").split("/")
    if folder.startswith("/") or any(p in ("", ".", "..") or p.lower() == ".git" for p in parts):
        raise FieldError(
            f"must be a folder below, not {fields.printed_value(folder)}", "such as src/web"
        )
    if any(letter < " " or letter in '*?[\\!"' for letter in folder):
        raise FieldError(f"has letters that git reads as a pattern: {fields.printed_value(folder)}")
    return folder.strip("/")


_SCM = {
    "git": Field("git", read_url, 'git = "https://git.example/web.git"'),
    "branch": Field("branch", _ref, 'branch = "main"'),
    "ref": Field("ref", _ref, 'ref = "v1.0"'),
    "depth": Field("depth", fields.integer(0, 1_000_000), "depth = 1"),
    "submodules": Field("submodules", fields.boolean, "submodules = true"),
    "lfs": Field("lfs", fields.boolean, "lfs = true"),
    "sparse": Field("sparse", fields.list_of(_folder), 'sparse = ["web"]'),
    "path": Field("path", _folder, 'path = "src"'),
    "poll": Field("poll_s", fields.duration(5, 30 * 86_400.0), 'poll = "1m"'),
}
