"""Jobs of a workflow of GitHub's (``.github/workflows/*.yml``): one for each of its jobs.

``run`` steps are the script; of actions those are known that have a like here: checkout, cache, artifacts. The
others, conditions and expressions are remarks, and comments in the script where the step stood.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from rota.core.cron import cron_fault
from rota.core.environment import param_fault, variable_fault
from rota.errors import InputError
from rota.importers.draft import Draft, job_name, quoted
from rota.importers.expressions import EXPRESSION, Reading, variable
from rota.importers.yaml_nodes import Yaml, read_yaml

#: What a runner of GitHub's is called, and what an agent carries.
_RUNNERS = (("ubuntu", "linux"), ("linux", "linux"), ("macos", "mac"), ("self-hosted", ""))
_CACHED = re.compile(r"\$\{\{\s*hashFiles\(([^)]*)\)\s*\}\}")
_SHELLS = {"bash": "#!/usr/bin/env bash", "sh": "#!/bin/sh"}


def read_workflow(text: str, place: str, *, repo: str, folder: str) -> list[Draft]:
    """Return the drafts of a workflow.

    Args:
        text: The file.
        place: How to call it.
        repo: The URL of the repository, for its checkout; empty if nobody knows.
        folder: Below which the jobs stand: the workflow's name.

    Raises:
        InputError: it is no YAML, or no workflow.
    """
    root = read_yaml(text, place)
    jobs = root.get("jobs")
    if not jobs.is_map:
        raise InputError(
            f"{place}: no workflow: it has no `jobs`", hint="workflows lie in .github/workflows/"
        )
    names = {key: _named(key, jobs, folder) for key, _ in jobs.items()}
    asked = _asked_for(jobs)
    return [
        _Job(key, node, root, names, place, repo, asked.get(key, ())).draft()
        for key, node in jobs.items()
    ]


def _asked_for(jobs: Yaml) -> dict[str, tuple[str, ...]]:
    """Return for each job that others need which of those nobody needs: they ask for it."""
    needs = {key: node.get("needs").texts() for key, node in jobs.items()}
    needed = {name for names in needs.values() for name in names}
    found: dict[str, tuple[str, ...]] = {}
    for last in (key for key in needs if key not in needed):
        ahead, seen = list(needs[last]), set[str]()
        while ahead:
            name = ahead.pop()
            if name in needs and name not in seen:
                seen.add(name)
                ahead += needs[name]
        for name in seen:
            found[name] = (*found.get(name, ()), last)
    return found


def _named(key: str, jobs: Yaml, folder: str) -> str:
    is_alone = sum(1 for _ in jobs.items()) == 1
    return job_name(folder) if is_alone else job_name(folder, key)


class _Job:
    """One job of a workflow, on its way."""

    def __init__(
        self,
        key: str,
        node: Yaml,
        root: Yaml,
        names: dict[str, str],
        place: str,
        repo: str,
        asked_by: tuple[str, ...],
    ) -> None:
        self._key, self._node, self._root = key, node, root
        self._asked_by = asked_by
        self._names, self._repo = names, repo
        self._out = Draft(name=names[key], place=place, shebang=_SHELLS["bash"])
        self._reading = Reading()
        self._is_checked_out = False
        #: What is set by an expression: by the script, since a header's values are fixed.
        self._exported: dict[str, str] = {}

    def draft(self) -> Draft:
        """Return the draft."""
        out, node = self._out, self._node
        title = node.get("name").text or self._root.get("name").text or self._key
        out.keys["description"] = " ".join(EXPRESSION.sub("…", title).split())[:200]
        if node.get("uses"):
            out.remark(
                node.get("uses").line,
                f"it calls the workflow {node.get('uses').text}",
                "import that one",
            )
        self._runs_on(node.get("runs-on"))
        # Whoever needs a job asks for it: only those that nobody needs react to what happens.
        self._on(self._root.get("on"))
        if self._asked_by:
            out.keys.pop("on", None)
        if len(self._asked_by) > 1:
            asking = ", ".join(sorted(self._names[it] for it in self._asked_by))
            out.remark(
                node.line,
                f"it runs once for each of {asking}",
                "a job that needs them all, and has their `on`, lets it run once",
            )
        self._needs(node.get("needs"))
        self._matrix(node.get("strategy"))
        self._container(node.get("container"), node.get("services"))
        self._limits()
        self._env(self._root.get("env"))
        self._env(node.get("env"))
        self._unsaid(node)
        body = ["set -eo pipefail"]
        if self._condition:
            # What ran on a condition must not run without one, until somebody has looked.
            body.append(f"false  # TODO: it ran only if {self._condition}")
        for step in node.get("steps").nodes():
            body += self._step(step)
        out.body = body
        self._source()
        for name in self._reading.secrets:
            use = name if variable(name) == name else {"name": name, "env": variable(name)}
            out.add("secrets", use)
        if self._reading.secrets:
            out.remark(
                0, f"the values of {', '.join(self._reading.secrets)}", "rota secret set NAME"
            )
        for text in dict.fromkeys(self._reading.unknown):
            out.remark(0, f"the expression ${{{{ {text} }}}}")
        return out

    # -- around the steps -----------------------------------------------------------------------

    def _runs_on(self, node: Yaml) -> None:
        labels: list[str] = []
        for text in node.get("labels").texts() if node.is_map else node.texts():
            said = self._reading.header(text)
            if said is None:
                continue
            label = next((to for start, to in _RUNNERS if said.lower().startswith(start)), said)
            if label.lower().startswith("windows"):
                self._out.remark(node.line, f"it runs on {text}", "agents run on Unix alone")
            elif re.fullmatch(r"\{\w+\}", label):
                self._out.remark(
                    node.line, f"runs-on is {text}", 'labels = "os={os}", and agents that carry it'
                )
            elif label and label.lower() not in ("x64", *labels):
                labels.append(label.lower())
        # An agent's own labels say its system; any will do for what has been said of Linux alone.
        wanted = [label for label in labels if label != "linux"] or labels
        if wanted:
            self._out.keys["labels"] = " && ".join(wanted)

    def _needs(self, node: Yaml) -> None:
        known = [self._names[key] for key in node.texts() if key in self._names]
        handed = {name: f"{{{name}}}" for name in self._out.tables.get("params", {})}
        more: dict[str, object] = {"params": handed} if handed else {}
        if self._node.get("if").text.strip("${ }") in _ANYHOW:
            more["result"] = "any"
        if known:
            self._out.keys["needs"] = [{"job": it, **more} for it in known] if more else known

    @property
    def _condition(self) -> str:
        """What must be so for the job to run; empty if that is said by its needs."""
        text = " ".join(self._node.get("if").text.split())
        bare = text.strip("${ }")
        return "" if bare in _ALWAYS or (bare in _ANYHOW and self._node.get("needs")) else text

    def _on(self, node: Yaml) -> None:
        if node.is_text or node.is_list:
            for text in node.texts():
                self._trigger(text, Yaml(None, [0], ""), node.line)
            return
        for name, value in node.items():
            self._trigger(name, value, value.line)

    def _trigger(self, name: str, node: Yaml, line: int) -> None:
        match name:
            case "push":
                self._push(node)
            case "pull_request" | "pull_request_target":
                self._pull_request(node)
            case "schedule":
                for each in node.nodes():
                    self._cron(each)
            case "workflow_dispatch" | "workflow_call":
                for key, value in node.get("inputs").items():
                    self._input(key, value)
            case "repository_dispatch":
                for text in node.get("types").texts():
                    self._out.add("on", {"hook": re.sub(r"[^A-Za-z0-9_-]", "-", text)})
                self._out.remark(
                    line,
                    "repository_dispatch",
                    "a webhook: rota hook NAME, and what calls it signs",
                )
            case _:
                self._out.remark(line, f"the trigger {name} has no like here")

    def _push(self, node: Yaml) -> None:
        branches, tags = _wanted(node, "branches"), _wanted(node, "tags")
        files = _wanted(node, "paths")
        if branches or not tags:
            narrowed = {"files": files} if files else {}
            self._out.add("on", {"push": _one(branches) if branches else True, **narrowed})
        if tags:
            self._out.add("on", {"tag": _one(tags)})

    def _pull_request(self, node: Yaml) -> None:
        branches, files = _wanted(node, "branches"), _wanted(node, "paths")
        narrowed = {"files": files} if files else {}
        self._out.add("on", {"pull_request": _one(branches) if branches else True, **narrowed})
        types = node.get("types")
        if types:
            self._out.remark(
                types.line,
                f"pull requests that are {', '.join(types.texts())}",
                "opened and changed ones start it",
            )

    def _cron(self, node: Yaml) -> None:
        text = " ".join(node.get("cron").text.split())
        fault = cron_fault(text)
        if fault is not None:
            self._out.remark(node.line, f"{text!r} is not taken: {fault[0]}", fault[1] or None)
            return
        zone = node.get("timezone").text
        self._out.add("on", {"cron": text, **({"tz": zone} if zone else {})})

    def _input(self, key: str, node: Yaml) -> None:
        name = variable(key)
        fault = param_fault(name)
        if fault is not None:
            self._out.remark(node.line, f"the input {key} {fault}")
            return
        default = node.get("default").text
        table: dict[str, object] = {"default": default}
        match node.get("type").text:
            case "boolean":
                table["default"] = default == "true"
            case "number" if re.fullmatch(r"-?\d{1,15}", default):
                table["default"] = int(default)
            case "choice":
                choices = node.get("options").texts()
                table["default"] = default or (choices[0] if choices else "")
                table["choices"] = choices
            case _:
                pass
        if node.get("description").text:
            table["description"] = " ".join(node.get("description").text.split())[:200]
        self._out.tables.setdefault("params", {})[name] = table

    def _matrix(self, node: Yaml) -> None:
        matrix = node.get("matrix")
        if matrix.is_text:
            self._out.remark(matrix.line, f"the matrix is worked out: {matrix.text}")
            return
        table: dict[str, object] = {}
        for key, value in matrix.items():
            if key in ("include", "exclude"):
                table[key] = [
                    {variable(k): v.text for k, v in each.items()} for each in value.nodes()
                ]
            elif value.is_list and all(each.is_text for each in value.nodes()):
                table[variable(key)] = value.texts()
            else:
                self._out.remark(value.line, f"the axis {key} of the matrix is no list of values")
        if not table:
            return
        if node.get("fail-fast").text != "false":
            table["fail_fast"] = True
        if node.get("max-parallel").text.isdigit():
            table["max_parallel"] = int(node.get("max-parallel").text)
        self._out.tables["matrix"] = table

    def _container(self, node: Yaml, services: Yaml) -> None:
        image = self._reading.header(node.text or node.get("image").text)
        if image:
            self._out.keys["image"] = image
        for key, value in node.items():
            if key not in ("image", "env"):
                self._out.remark(value.line, f"`{key}` of the container")
        self._env(node.get("env"))
        for key, value in services.items():
            service: dict[str, object] = {
                "image": self._reading.header(value.get("image").text) or ""
            }
            env = {k: v.text for k, v in value.get("env").items() if not EXPRESSION.search(v.text)}
            if env:
                service["env"] = env
            self._out.tables.setdefault("services", {})[key] = service
            if value.get("ports"):
                self._out.remark(
                    value.get("ports").line, f"ports of {key}", f"it is found by its name: {key}"
                )
            if value.get("options"):
                self._out.remark(
                    value.get("options").line,
                    f"options of {key}",
                    'health = "COMMAND" says when it is ready',
                )

    def _limits(self) -> None:
        minutes = self._node.get("timeout-minutes").text
        if re.fullmatch(r"\d{1,5}", minutes):
            self._out.keys["timeout"] = f"{minutes}m"
        for node in (self._root.get("concurrency"), self._node.get("concurrency")):
            if not node:
                continue
            if node.get("cancel-in-progress").text == "true":
                self._out.keys["supersede"] = "running"
            else:
                self._out.keys["concurrency"] = 1
            group = node.text or node.get("group").text
            self._out.remark(
                node.line,
                f"the concurrency group {group}",
                'concurrency_key = "{branch}" parts it by a field',
            )

    def _env(self, node: Yaml) -> None:
        for key, value in node.items():
            fault = variable_fault(key)
            if fault is not None:
                self._out.remark(value.line, f"env.{key} {fault}")
            elif EXPRESSION.search(value.text):
                self._exported[key] = self._reading.shell(value.text)
            else:
                self._out.tables.setdefault("env", {})[key] = value.text

    def _unsaid(self, node: Yaml) -> None:
        for key in ("if", "permissions", "environment", "outputs", "continue-on-error", "defaults"):
            for where in (node, self._root):
                found = where.get(key)
                if key == "if" and not self._condition:
                    continue
                if found and key != "defaults":
                    said = f": {found.text}" if found.is_text else ""
                    self._out.remark(found.line, f"`{key}` of the job{said}", _HINTS.get(key))

    def _source(self) -> None:
        if not self._is_checked_out:
            return
        if self._repo:
            self._out.keys["scm"] = {"git": self._repo}
        else:
            self._out.remark(
                0,
                "where the repository is",
                "--repo URL says it; or put the job into .rota/jobs of it",
            )

    # -- steps ----------------------------------------------------------------------------------

    def _step(self, node: Yaml) -> list[str]:
        title = EXPRESSION.sub("…", node.get("name").text) or node.get("uses").text
        head = ["", f"# {' '.join(title.split())}"] if title else [""]
        condition = node.get("if").text
        is_free = condition in ("", "success()", "${{ success() }}")
        if not is_free:
            self._out.remark(node.get("if").line, f"a step on the condition {condition}")
        lines = self._run(node) if node.get("run") else self._action(node)
        if is_free:
            return [*head, *lines]
        # What ran on a condition must not run without one, until somebody has looked.
        return [*head, f"if false; then  # TODO: {' '.join(condition.split())}", *lines, "fi"]

    def _run(self, node: Yaml) -> list[str]:
        shell = node.get("shell").text or self._default("shell")
        folder = node.get("working-directory").text or self._default("working-directory")
        script = self._reading.shell(node.get("run").text).rstrip("\n")
        exports = [*self._exported.items()]
        for key, value in node.get("env").items():
            exports.append((key, self._reading.shell(value.text)))
        lines = [
            f'export {key}="{_escaped(value)}"'
            for key, value in exports
            if variable_fault(key) is None
        ]
        if folder:
            lines.append(f"cd {quoted(folder)}")
        if shell in ("", "bash", "sh"):
            lines += script.split("\n")
        else:
            program = {"python": "python3 -", "pwsh": "pwsh -"}.get(
                shell, shell.replace("{0}", "/dev/stdin")
            )
            lines += [f"{program} <<'STEP'", *script.split("\n"), "STEP"]
        or_else = " || true" if node.get("continue-on-error").text == "true" else ""
        if len(lines) == 1 and not or_else:
            return lines
        return ["(", *lines, f"){or_else}"]

    def _default(self, key: str) -> str:
        for where in (self._node, self._root):
            found = where.get("defaults").get("run").get(key).text
            if found:
                return found
        return ""

    def _action(self, node: Yaml) -> list[str]:
        uses = node.get("uses").text
        name, given = uses.partition("@")[0], node.get("with")
        known = _ACTIONS.get(name)
        if known is not None:
            return known(self, given)
        if name.startswith("actions/setup-"):
            tool = name.removeprefix("actions/setup-")
            version = given.get(f"{tool}-version").text
            self._out.remark(
                node.line,
                f"{uses} brings {tool} {version}".rstrip(),
                f'an image, or agents with a label: labels = "{tool}"',
            )
            return [f": # {tool} {version} has to be there".rstrip()]
        self._out.remark(
            node.line,
            f"the action {uses or 'without a name'}",
            "write what it does into the script",
        )
        return [f"false  # TODO: what {uses} does"]

    def _checkout(self, given: Yaml) -> list[str]:
        if given.get("repository"):
            self._out.remark(
                given.line,
                f"a checkout of {given.get('repository').text}",
                "clone it in the script",
            )
            return ["false  # TODO: clone it"]
        self._is_checked_out = True
        return [": # the workspace has it already"]

    def _cache(self, given: Yaml) -> list[str]:
        key = _CACHED.sub(
            lambda it: "{hash:" + re.sub(r"['\"\s]", "", it[1]) + "}", given.get("key").text
        )
        key = key.replace("${{ runner.os }}", "{label:os}")
        said = self._reading.header(key)
        paths = [line.strip() for line in given.get("path").text.split("\n") if line.strip()]
        if said is None or not paths:
            self._out.remark(given.line, f"the cache {given.get('key').text}")
            return [": # no cache"]
        cache: dict[str, object] = {"key": said, "paths": paths}
        restore = [
            line.strip() for line in given.get("restore-keys").text.split("\n") if line.strip()
        ]
        restore = [line.replace("${{ runner.os }}", "{label:os}") for line in restore]
        restore = [line for line in restore if not EXPRESSION.search(line)]
        if restore:
            cache["restore"] = restore
        self._out.add("caches", cache)
        return [": # the workspace has it already"]

    def _upload(self, given: Yaml) -> list[str]:
        paths = [line.strip() for line in given.get("path").text.split("\n") if line.strip()]
        globs = [f"{path}**" if path.endswith("/") else path for path in paths]
        self._out.add("artifacts", *(glob for glob in globs if not EXPRESSION.search(glob)))
        return [": # kept when the build has ended"]

    def _download(self, given: Yaml) -> list[str]:
        needs = self._out.keys.get("needs")
        if isinstance(needs, list):
            self._out.keys["needs"] = [
                {**(it if isinstance(it, dict) else {"job": it}), "artifacts": ["**"]}
                for it in needs
            ]
            return [": # the workspace has them already"]
        self._out.remark(given.line, "artifacts of another workflow", "rota artifacts get JOB")
        return ["false  # TODO: rota artifacts get JOB"]


def _wanted(node: Yaml, key: str) -> list[str]:
    """Return globs: those that are wanted, and with a ``!`` those that are not."""
    return [*node.get(key).texts(), *(f"!{it}" for it in node.get(f"{key}-ignore").texts())]


def _one(values: list[str]) -> object:
    return values[0] if len(values) == 1 else values


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`")


#: Conditions of a job that say nothing beyond its needs, and those by which their results do not count.
_ALWAYS = frozenset({"", "success()", "true"})
_ANYHOW = frozenset({"always()", "!cancelled()", "success() || failure()"})
_HINTS = {
    "if": "a rule in `on`, or a test in the script",
    "permissions": "a job has the secrets it names and nothing else",
    "environment": "approve = … lets a person say yes first; secrets have rules of their own",
    "outputs": "files as artifacts, which `needs` brings",
    "continue-on-error": 'needs = [{ job = "…", result = "any" }] where it is waited for',
}
_ACTIONS: dict[str, Callable[[_Job, Yaml], list[str]]] = {
    "actions/checkout": _Job._checkout,  # noqa: SLF001 - a table of the class above
    "actions/cache": _Job._cache,  # noqa: SLF001
    "actions/upload-artifact": _Job._upload,  # noqa: SLF001
    "actions/download-artifact": _Job._download,  # noqa: SLF001
}
