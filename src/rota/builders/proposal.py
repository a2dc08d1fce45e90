"""What a folder's job could be: a template, filled in with what was found, as a person asks for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rota.builders.catalogue import DEPLOYS
from rota.builders.finding import Finding
from rota.builders.folder import Origin
from rota.builders.template import names_of, rendered, words_of
from rota.core.problem import nearest
from rota.core.scm import url_fault
from rota.errors import InputError

#: Values that follow from the folder, and from nobody's wish.
_OWN = frozenset({"path", "in", "editable", "group", "profile"})
#: What a variant, or the repository, decides.
_DECIDED = frozenset({"container", "matrix", "path", "git", "branch"})
_SWITCH = {"yes": True, "no": False}
_VARIETY = re.compile(r"(?:_(?:axis|image|least))+$")
_NO_NAME = re.compile(r"[^A-Za-z0-9_.+-]+")


@dataclass(frozen=True)
class Wish:
    """How somebody wants a job: in a container, as a matrix, with values of their own.

    ``is_own`` says that the script is to stand in the repository that it builds: it then has that,
    on whatever branch, without saying so.
    """

    container: bool = False
    matrix: bool = False
    values: Mapping[str, str] = field(default_factory=dict)
    is_own: bool = False


@dataclass(frozen=True)
class Script:
    """A job's script, and what a person should see to."""

    text: str
    notes: tuple[str, ...] = ()


def project_name(origin: Origin, folder: str) -> str:
    """Return what a project is called: as its repository is, else as its folder is."""
    called = origin.url.rstrip("/").removesuffix(".git").replace(":", "/").rpartition("/")[2]
    if not called and origin.top is not None:
        called = origin.top.name
    return _NO_NAME.sub("-", called or folder).strip("-.+") or "project"


def job_names(findings: Sequence[Finding], called: str) -> list[str]:
    """Return a name for the job of each finding: ``shop/build``, or ``shop/web/npm`` among several."""
    paths = [finding.path for finding in findings]
    found = []
    for finding in findings:
        parts = [_NO_NAME.sub("-", part).strip("-.+") for part in finding.path.split("/")]
        word = "build" if paths.count(finding.path) == 1 else finding.template
        found.append("/".join(filter(None, (called, *parts, word))))
    return found


def job_name(template: str, called: str) -> str:
    """Return a name for a job of a template that was asked for by name."""
    words = {name: name.partition("-")[0] for name in DEPLOYS}
    return f"{called}/{words.get(template, 'build')}"


def script_of(text: str, finding: Finding, origin: Origin, called: str, wish: Wish) -> Script:
    """Return the script that a template comes to.

    Raises:
        InputError: the template has no such variant, or asks for no such value.
    """
    called = wish.values.get("project") or called
    words = set(finding.words)
    known = words_of(text)
    holes = names_of(text)
    has_lists = any("," in value and f"{key}_axis" in holes for key, value in wish.values.items())
    for variant, is_wanted in (("container", wish.container), ("matrix", wish.matrix or has_lists)):
        if is_wanted and variant not in known:
            raise InputError(f"the template {finding.template} has no variant --{variant}")
        words |= {variant} if is_wanted else set()
    notes = list(finding.notes)
    words |= {"path"} if finding.path else set()
    switches = _switched(text, wish)
    words = {*words, *(word for word, holds in switches.items() if holds)} - {
        word for word, holds in switches.items() if not holds
    }
    values = {**_defaults(finding, called), **finding.values, **_given(text, finding, wish)}
    values |= {
        "git": values.get("git") or origin.url,
        "branch": values.get("branch") or origin.branch,
    }
    if "git" in holes and not wish.is_own:
        fault = url_fault(values["git"]) if values["git"] else None
        if values["git"] and not fault:
            words |= {"git"} | ({"branch"} if values["branch"] else set())
        else:
            why = f"the remote's URL {fault}" if fault else "nothing says where the code comes from"
            notes.append(f'{why}: give it git=URL, or write scm = "URL" into the header')
    open_values = [name for name in DEPLOYS.get(finding.template, ()) if name not in wish.values]
    if open_values:
        notes.append(f"made up, to be replaced: {', '.join(open_values)}")
    try:
        return Script(rendered(text, words, values), tuple(notes))
    except KeyError as error:
        name = error.args[0]
        raise InputError(f"the template {finding.template} needs {name}=VALUE for that") from error


def _defaults(finding: Finding, called: str) -> dict[str, str]:
    """Return what stands where nothing was found."""
    return {
        "project": called,
        "path": finding.path,
        "in": f"{finding.path}/" if finding.path else "",
        "image": called.lower()
        if finding.template == "docker"
        else f"registry.example.com/{called.lower()}",
        "dockerfile": "Dockerfile",
        "build": f"{called}/build",
        "files": "dist/**",
        "source": "dist",
        "program": f"dist/{called}",
        "unit": f"{called}.service",
        "target": f"/opt/{called}/{called}",
        **DEPLOYS.get(finding.template, {}),
    }


def _switched(text: str, wish: Wish) -> dict[str, bool]:
    """Return the conditions of a template that somebody decides: ``wrapper=no``, ``coverage=yes``."""
    known = words_of(text) - _DECIDED
    return {
        key: _SWITCH[value]
        for key, value in wish.values.items()
        if key in known and value in _SWITCH
    }


def _given(text: str, finding: Finding, wish: Wish) -> dict[str, str]:
    """Return the values that somebody wants, for all that a template calls by them.

    ``java`` is the version of labels and images, and with commas the axis of the matrix.
    """
    holes: dict[str, list[str]] = {}
    for name in names_of(text):
        if name not in _OWN:
            holes.setdefault(_VARIETY.sub("", name), []).append(name)
    found: dict[str, str] = {}
    switches = words_of(text) - _DECIDED
    for key, value in wish.values.items():
        if key in switches and key not in holes:
            if value not in _SWITCH:
                raise InputError(f"{key} is yes or no, not {value!r}")
            continue
        if key not in holes:
            known = ", ".join(sorted({*holes, *switches})) or "nothing: edit it"
            raise InputError(
                f"the template {finding.template} asks for no {key!r}",
                hint=nearest(key, [*holes, *switches]) or f"it asks for: {known}",
            )
        first = value.partition(",")[0].strip()
        one = first if f"{key}_axis" in holes[key] else value
        found |= {name: value if name.endswith("_axis") else one for name in holes[key]}
    return found
