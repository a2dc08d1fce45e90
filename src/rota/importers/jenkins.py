"""A job of a Jenkins freestyle project (``jobs/NAME/config.xml``).

What is read: parameters, labels, git, triggers (timer, polling, pushes, upstream), shell, Maven, Gradle and Ant
steps, artifacts, JUnit reports, mails, downstream projects, time limits, what is kept, concurrency. All else
that stands in the file is a remark.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from rota.core.cron import cron_fault
from rota.core.environment import param_fault
from rota.core.job import ParamValue
from rota.core.labels import parse_labels
from rota.core.xml_reading import ReportError, XmlReader
from rota.errors import InputError
from rota.importers.draft import Draft, quoted

MAX_BYTES = 4 << 20
MAX_DEPTH = 60
#: Variables of Jenkins that scripts use, and what has the same here.
_SHIMS = {
    "WORKSPACE": "$PWD",
    "BUILD_NUMBER": "$ROTA_NUMBER",
    "BUILD_ID": "$ROTA_NUMBER",
    "JOB_NAME": "$ROTA_JOB",
    "JOB_BASE_NAME": "${ROTA_JOB##*/}",
    "BUILD_TAG": "rota-$ROTA_NUMBER",
    "BUILD_URL": "$ROTA_URL/v1/builds/$ROTA_BUILD",
    "NODE_NAME": "$ROTA_AGENT",
    "EXECUTOR_NUMBER": "0",
    "GIT_COMMIT": "$ROTA_GIT_COMMIT",
    "GIT_BRANCH": "$ROTA_GIT_BRANCH",
    "GIT_URL": "$ROTA_GIT_URL",
    "GIT_PREVIOUS_SUCCESSFUL_COMMIT": "$ROTA_GIT_PREVIOUS",
}
_KINDS = {
    "flow-definition": "a pipeline: its Groovy script is no list of steps",
    "matrix-project": "a matrix project",
    "maven2-moduleset": "a Maven project",
    "com.cloudbees.hudson.plugins.folder.Folder": "a folder",
    "org.jenkinsci.plugins.workflow.multibranch.WorkflowMultiBranchProject": "a multibranch pipeline",
}
#: Elements that say nothing, or what is so anyway.
_SILENT = {
    "actions", "canRoam", "keepDependencies", "scmCheckoutRetryCount",
    "displayName", "hudson.plugins.timestamper.TimestamperBuildWrapper",
    "hudson.plugins.ansicolor.AnsiColorBuildWrapper", "hudson.plugins.ws__cleanup.PreBuildCleanup",
    "hudson.plugins.ws__cleanup.WsCleanup", "com.coravy.hudson.plugins.github.GithubProjectProperty",
}  # fmt: skip


class Node:
    """An element of the file, with its line."""

    def __init__(self, tag: str, line: int) -> None:
        self.tag, self.line = tag, line
        self.nodes: list[Node] = []
        self.words: list[str] = []

    @property
    def text(self) -> str:
        """Its text."""
        return "".join(self.words).strip()

    def find(self, path: str) -> Node | None:
        """Return the first element with that path below this one."""
        head, _, rest = path.partition("/")
        for node in self.nodes:
            if node.tag == head:
                found = node.find(rest) if rest else node
                if found is not None:
                    return found
        return None

    def get(self, path: str, default: str = "") -> str:
        """Return an element's text."""
        node = self.find(path)
        return node.text if node is not None else default

    def is_on(self, path: str) -> bool:
        """Whether an element says true."""
        return self.get(path) == "true"

    def walk(self, tag: str) -> Iterator[Node]:
        """Yield all elements of that name below this one."""
        for node in self.nodes:
            if node.tag == tag:
                yield node
            yield from node.walk(tag)


def read_jenkins(data: bytes, name: str, place: str) -> Draft:
    """Return the draft of a project.

    Raises:
        InputError: the file is no XML, or of something else than a freestyle project.
    """
    root = _tree(data, place)
    if root.tag != "project":
        what = _KINDS.get(root.tag, f"a <{root.tag}>")
        raise InputError(
            f"{place}: {what}, and not a freestyle project",
            hint="only freestyle projects are read; its steps make a script by hand: rota new",
        )
    draft = Draft(name=name, place=place)
    steps: list[str] = []
    # Where the code is comes first: triggers go by its branch.
    for node in sorted(root.nodes, key=lambda node: node.tag != "scm"):
        if node.tag == "builders":
            for step in node.nodes:
                steps += _step(draft, step)
        elif node.tag not in _SILENT:
            _TOP.get(node.tag, _unknown)(draft, node)
    _say_what_varies(draft, root)
    if not any(node.tag == "builders" and node.nodes for node in root.nodes):
        draft.remark(root.line, "the project has no build steps")
    draft.body = [*_shims(steps), *(steps or ["true"])]
    return draft


def _tree(data: bytes, place: str) -> Node:
    """Return the root; entities are refused, so that no small file becomes a large one."""
    if len(data) > MAX_BYTES:
        raise InputError(f"{place}: {len(data)} bytes, the limit is {MAX_BYTES}")
    top = Node("", 0)
    path = [top]
    # Jenkins says XML 1.1, which expat does not read: it differs in characters alone that nobody writes.
    data = re.sub(rb"^(\s*<\?xml[^>]*version=['\"])1\.1", rb"\g<1>1.0", data, count=1)

    def begin(tag: str, attributes: dict[str, str]) -> None:
        del attributes
        node = Node(tag, reader.line)
        path[-1].nodes.append(node)
        path.append(node)

    def end(_: str) -> None:
        path.pop()

    reader = XmlReader(begin, end, depth=MAX_DEPTH)
    reader.listen(lambda text: path[-1].words.append(text))
    try:
        reader.feed(data)
        reader.finish()
    except ReportError as error:
        raise InputError(f"{place}:{reader.line}: it {error}") from None
    return top.nodes[0]


def _unknown(draft: Draft, node: Node) -> None:
    draft.remark(node.line, f"<{node.tag}> is not known")


def _unless_silent(draft: Draft, node: Node) -> None:
    if node.tag not in _SILENT:
        _unknown(draft, node)


# -- what stands at the top ---------------------------------------------------------------------


def _description(draft: Draft, node: Node) -> None:
    if node.text:
        draft.keys["description"] = " ".join(node.text.split())[:200]


def _label(draft: Draft, node: Node) -> None:
    # -> and <-> are operators of Jenkins alone.
    _, faults = parse_labels(node.text)
    if faults:
        draft.remark(node.line, f"the labels {node.text!r} are not taken: {faults[0].message}")
    elif node.text:
        draft.keys["labels"] = node.text


def _disabled(draft: Draft, node: Node) -> None:
    if node.text == "true":
        draft.remark(
            node.line, "the project is disabled", f"after rota add: rota pause {draft.name}"
        )


def _concurrent(draft: Draft, node: Node) -> None:
    if node.text != "true":
        draft.keys["concurrency"] = 1


def _quiet(draft: Draft, node: Node) -> None:
    if node.text not in ("", "0"):
        draft.remark(node.line, f"a quiet period of {node.text} s: builds begin at once")


def _kept(draft: Draft, node: Node) -> None:
    keep: dict[str, object] = {}
    number, days = node.get("numToKeep", "-1"), node.get("daysToKeep", "-1")
    files = node.get("artifactDaysToKeep", "-1")
    if number.isdigit() and number != "0":
        keep["builds"] = int(number)
    if days.isdigit() and days != "0":
        keep["logs"] = f"{days}d"
    if files.isdigit() and files != "0":
        keep["artifacts"] = f"{files}d"
    if keep:
        draft.keys["keep"] = keep


def _properties(draft: Draft, node: Node) -> None:
    for each in node.nodes:
        match each.tag:
            case "hudson.model.ParametersDefinitionProperty":
                for definition in each.find("parameterDefinitions").nodes if each.nodes else ():  # type: ignore[union-attr]
                    _parameter(draft, definition)
            case "jenkins.model.BuildDiscarderProperty":
                _kept(draft, each.find("strategy") or each)
            case "org.jenkinsci.plugins.workflow.job.properties.DisableConcurrentBuildsJobProperty":
                draft.keys["concurrency"] = 1
            case _:
                _unless_silent(draft, each)


def _parameter(draft: Draft, node: Node) -> None:
    name, kind = node.get("name"), node.tag.rpartition(".")[2]
    fault = param_fault(name)
    if fault is not None:
        draft.remark(node.line, f"the parameter {name!r} {fault}")
        return
    default: ParamValue = node.get("defaultValue")
    table: dict[str, object] = {}
    match kind:
        case "StringParameterDefinition" | "TextParameterDefinition":
            table["default"] = default
        case "BooleanParameterDefinition":
            table["default"] = default == "true"
        case "ChoiceParameterDefinition":
            choices = [choice.text for choice in node.walk("string")]
            table["default"] = choices[0] if choices else ""
            table["choices"] = choices
        case "PasswordParameterDefinition" | "CredentialsParameterDefinition":
            draft.add("secrets", {"name": name, "optional": True})
            draft.remark(node.line, f"{name} is a secret here", f"rota secret set {name}")
            return
        case _:
            draft.remark(node.line, f"the parameter {name} is a {kind}, which is not known")
            return
    if node.get("description"):
        table["description"] = " ".join(node.get("description").split())[:200]
    draft.tables.setdefault("params", {})[name] = table


def _scm(draft: Draft, node: Node) -> None:
    urls = [it.text for it in node.walk("url")]
    if not urls:
        return
    scm: dict[str, object] = {"git": urls[0]}
    if len(urls) > 1:
        draft.remark(
            node.line, f"more repositories: {', '.join(urls[1:])}", "clone them in the script"
        )
    branches = [it.get("name") for it in node.walk("hudson.plugins.git.BranchSpec")]
    branch = re.sub(r"^(\*|origin|refs/heads)/", "", branches[0]) if branches else ""
    if branch.startswith("$"):
        scm["branch"] = "{" + branch.strip("${}") + "}"
    elif branch and "*" not in branch:
        scm["branch"] = branch
    if len(branches) > 1 or "*" in branch:
        draft.remark(
            node.line, f"branches {', '.join(branches)}", "a job has one; see rota watch for many"
        )
    for credentials in node.walk("credentialsId"):
        draft.remark(
            credentials.line,
            f"the credentials {credentials.text!r} of the repository",
            "git on the agents needs them: a credential helper, or a key in ~/.ssh",
        )
    extensions = node.find("extensions")
    for each in extensions.nodes if extensions is not None else ():
        match each.tag.rpartition(".")[2]:
            case "CloneOption":
                if each.get("depth").isdigit() and each.get("depth") != "0":
                    scm["depth"] = int(each.get("depth"))
            case "SubmoduleOption":
                scm["submodules"] = True
            case "RelativeTargetDirectory":
                scm["path"] = each.get("relativeTargetDir")
            case "GitLFSPull":
                scm["lfs"] = True
            case "CleanBeforeCheckout" | "CleanCheckout" | "WipeWorkspace" | "LocalBranch":
                pass  # each build has a workspace of its own
            case _:
                _unknown(draft, each)
    draft.keys["scm"] = scm


def _say_what_varies(draft: Draft, root: Node) -> None:
    """List what of the repository hangs on parameters that there are not, or where none can stand."""
    scm = draft.keys.get("scm")
    if not isinstance(scm, dict):
        return
    url, branch = str(scm["git"]), str(scm.get("branch", ""))
    if "$" in url:
        hint = "the URL as it is, or a checkout in the script: git clone"
        draft.remark(root.line, f"the repository's URL has variables: {url}", hint)
    named = re.fullmatch(r"\{(.*)\}", branch)
    if named and named[1] not in draft.tables.get("params", {}):
        del scm["branch"]
        draft.remark(root.line, f"the branch is ${named[1]}, and there is no such parameter")


def _blocked(draft: Draft, node: Node) -> None:
    if node.text.strip() == "true":
        draft.remark(
            node.line,
            f"<{node.tag}>: it waits while others build",
            "a limit that both take part in",
        )


def _git_alone(draft: Draft, node: Node) -> None:
    if not node.nodes:
        return
    if node.find("userRemoteConfigs") is None:
        draft.remark(node.line, "the source code is not in git", "fetch it in the script")
        return
    _scm(draft, node)


# -- triggers -----------------------------------------------------------------------------------


def _triggers(draft: Draft, node: Node) -> None:
    for each in node.nodes:
        match each.tag.rpartition(".")[2]:
            case "TimerTrigger":
                for rule in _rules(draft, each):
                    draft.add("on", rule)
            case "SCMTrigger":
                _polling(draft, each)
            case "GitHubPushTrigger" | "GitLabPushTrigger" | "BitBucketTrigger":
                draft.add("on", {"push": _branch(draft)})
                draft.remark(
                    each.line,
                    "pushes are told by a webhook",
                    "rota hook github, and paste it there",
                )
            case "ReverseBuildTrigger":
                _after(draft, each.get("upstreamProjects"), each.get("threshold/name", "SUCCESS"))
            case _:
                _unknown(draft, each)


def _branch(draft: Draft) -> object:
    scm = draft.keys.get("scm")
    branch = scm.get("branch") if isinstance(scm, dict) else None
    return branch if isinstance(branch, str) and "{" not in branch else True


def _rules(draft: Draft, node: Node) -> Iterator[dict[str, object]]:
    """Yield the rules of a spec: lines of five fields, ``TZ=`` for those below it."""
    spec, zone = node.find("spec"), ""
    for index, line in enumerate((spec.text if spec is not None else "").splitlines()):
        text = line.strip()
        if text.startswith("TZ="):
            zone = text[3:].strip()
            continue
        if not text or text.startswith("#"):
            continue
        fault = cron_fault(text)
        if fault is not None:
            draft.remark(node.line + index, f"{text!r} is not taken: {fault[0]}", fault[1] or None)
            continue
        yield {"cron": text, "tz": zone} if zone else {"cron": text}


def _polling(draft: Draft, node: Node) -> None:
    draft.add("on", {"push": _branch(draft)})
    scm = draft.keys.get("scm")
    if isinstance(scm, dict):
        scm["poll"] = "5m"
    text = " ".join(node.get("spec").split())
    draft.remark(
        node.line,
        f"it polled at {text or 'no time'}; rota looks every 5 minutes",
        "or by a webhook",
    )


def _after(draft: Draft, projects: str, threshold: str) -> None:
    results = {"SUCCESS": None, "UNSTABLE": ["passed", "failed"], "FAILURE": "any"}.get(threshold)
    for project in projects.split(","):
        if project.strip():
            rule: dict[str, object] = {"after": project.strip().replace(" ", "-")}
            draft.add("on", {**rule, "result": results} if results else rule)


# -- steps --------------------------------------------------------------------------------------


def _step(draft: Draft, node: Node) -> list[str]:
    """Return the lines of a step: each as it was, one after the other, until one fails."""
    match node.tag.rpartition(".")[2]:
        case "Shell":
            return _shell(draft, node)
        case "Maven":
            return [_maven(draft, node)]
        case "Ant":
            return [_command("ant", node, ("buildFile", "-f"), ("targets", ""))]
        case "Gradle":
            tool = "./gradlew" if node.is_on("useWrapper") else "gradle"
            return [_command(tool, node, ("buildFile", "-b"), ("switches", ""), ("tasks", ""))]
        case "BatchFile" | "PowerShell":
            draft.remark(node.line, "a step for Windows", "agents run on Unix alone")
        case _:
            _unknown(draft, node)
            return [f"false  # TODO: what <{node.tag}> did"]
    return ["false  # TODO: what a step for Windows did"]


def _maven(draft: Draft, node: Node) -> str:
    """Return the call of Maven, its properties with it; which Maven it was is said."""
    if (name := node.get("mavenName")) not in ("", "(Default)"):
        draft.remark(node.line, f"the Maven {name!r}", "mvn on the agents, or an image")
    if options := node.get("jvmOptions"):
        draft.remark(node.line, f"options of Java: {options}", 'env = { MAVEN_OPTS = "…" }')
    lines = (line.strip() for line in node.get("properties").split("\n"))
    given = [quoted(f"-D{line}") for line in lines if line and not line.startswith("#")]
    return " ".join([_command("mvn -B", node, ("pom", "-f"), ("targets", "")), *given])


def _shell(draft: Draft, node: Node) -> list[str]:
    """Return a shell step: as Jenkins runs it, with ``-xe``, or by what its first line says."""
    text = node.get("command").replace("\r\n", "\n")
    first, _, rest = text.partition("\n")
    if node.get("unstableReturn") not in ("", "0"):
        draft.remark(
            node.line, "an exit status that makes it unstable", "there is passed and failed"
        )
    if not first.startswith("#!"):
        return ["(", "set -xe", *text.split("\n"), ")"]
    interpreter = first[2:].strip()
    if re.fullmatch(r"(/usr)?/bin/(env )?(ba|da)?sh( -[a-z]+)*", interpreter):
        if "bash" in interpreter:
            draft.shebang = "#!/usr/bin/env bash"
        flags = re.findall(r" (-[a-z]+)", interpreter)
        return ["(", *(f"set {flag}" for flag in flags), *rest.split("\n"), ")"]
    return [f"{interpreter} - <<'STEP'", *rest.split("\n"), "STEP"]


def _command(tool: str, node: Node, *options: tuple[str, str]) -> str:
    words = [tool]
    for path, option in options:
        value = " ".join(node.get(path).split())
        if value and value != "pom.xml":
            words += [option, quoted(value)] if option else [value]
    return " ".join(words)


def _shims(steps: list[str]) -> list[str]:
    """Return what makes variables of Jenkins that the steps use; and what ends at the first failure."""
    text = "\n".join(steps)
    used = [name for name in _SHIMS if re.search(rf"\$\{{?{name}\b", text)]
    return ["set -e", *(f'export {name}="{_SHIMS[name]}"' for name in used)]


# -- afterwards ---------------------------------------------------------------------------------


def _publishers(draft: Draft, node: Node) -> None:
    for each in node.nodes:
        match each.tag.rpartition(".")[2]:
            case "ArtifactArchiver":
                draft.add("artifacts", *_globs(each.get("artifacts")))
                if excluded := each.get("excludes"):
                    hint = "remove them at the end of the script, or name what is to be kept"
                    draft.remark(each.line, f"artifacts without {excluded}", hint)
            case "JUnitResultArchiver":
                draft.add("tests", *_globs(each.get("testResults")))
            case "Mailer":
                for address in each.get("recipients").replace(",", " ").split():
                    draft.add("notify", {"to": f"mail:{address}", "on": ["failed", "fixed"]})
                draft.remark(each.line, "mails", "need [mail] in settings.toml")
            case "BuildTrigger":
                names = each.get("childProjects")
                hint = f'there: on = [{{ after = "{draft.name}" }}]'
                draft.remark(each.line, f"it starts {names}, which they say themselves here", hint)
            case "JavadocArchiver":
                draft.add("artifacts", f"{each.get('javadocDir')}/**")
            case _:
                _unless_silent(draft, each)


def _globs(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _wrappers(draft: Draft, node: Node) -> None:
    for each in node.nodes:
        match each.tag.rpartition(".")[2]:
            case "BuildTimeoutWrapper":
                minutes = each.get("strategy/timeoutMinutes")
                if minutes.isdigit():
                    draft.keys["timeout"] = f"{minutes}m"
                else:
                    draft.remark(each.line, "a time limit that is no number of minutes")
            case "SecretBuildWrapper":
                _bindings(draft, each)
            case _:
                _unless_silent(draft, each)


def _bindings(draft: Draft, node: Node) -> None:
    for each in node.walk("variable"):
        draft.add("secrets", {"name": each.text})
        draft.remark(each.line, f"the credentials in ${each.text}", f"rota secret set {each.text}")
    for each in (*node.walk("usernameVariable"), *node.walk("passwordVariable")):
        draft.add("secrets", {"name": each.text})
        draft.remark(each.line, f"the credentials in ${each.text}", f"rota secret set {each.text}")


_TOP: dict[str, Callable[[Draft, Node], None]] = {
    "description": _description,
    "assignedNode": _label,
    "disabled": _disabled,
    "concurrentBuild": _concurrent,
    "blockBuildWhenUpstreamBuilding": _blocked,
    "blockBuildWhenDownstreamBuilding": _blocked,
    "quietPeriod": _quiet,
    "logRotator": _kept,
    "properties": _properties,
    "scm": _git_alone,
    "triggers": _triggers,
    "publishers": _publishers,
    "buildWrappers": _wrappers,
    "jdk": lambda draft, node: draft.remark(
        node.line, f"the JDK {node.text!r}", "a label, or an image"
    ),
}
