"""Definitions: list, show, add, remove, pause, resume."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.given import read_given
from rota.cli.render import Look, ago, cell_text, clean, facts, jobs_table, paint, ref, size
from rota.cli.screen import Screen
from rota.cli.tree import edge_text, tree_lines
from rota.cli.trend_view import trend_lines
from rota.client.answer import Answer
from rota.client.client import Client
from rota.client.rest import written
from rota.errors import ConflictError, InputError, NotFoundError

#: So many of a job's last results are shown in a list of jobs, and beside one.
RECENT = 10
TREND = 30


def jobs(args: Namespace, screen: Screen) -> int:
    """List jobs."""
    # Pictures are for those who look.
    is_drawn = screen.out.is_terminal and not screen.out.is_room
    recent = RECENT if is_drawn and not args.json else None
    client = connected(args)
    try:
        answer = client.call("jobs", match=args.match, recent=recent)
    except InputError:
        if recent is None:
            raise
        # An agent of a version that has no pictures to give.
        answer = client.call("jobs", match=args.match)
    if args.json:
        screen.json(answer)
        return 0
    found = answer.json()
    screen.lines(jobs_table(found, screen.at(answer)))
    if not found and screen.out.is_terminal:
        which = f"no job matches {args.match!r}" if args.match else "there is no job yet"
        screen.note(f"{which}\n\nhint: add one: rota new bash | rota add hello -")
    return 0


def show(args: Namespace, screen: Screen) -> int:
    """Show a job; or a build, if the name is one."""
    client = connected(args)
    if args.trend:
        return _show_trend(client, args, screen)
    answer = None
    missing = None
    if "#" not in args.what and not args.tree:
        try:
            answer = client.call("job", job=args.what)
        except NotFoundError as error:
            missing = error
    if answer is None:
        return _show_build(client, args, screen, missing)
    job = answer.json()
    if args.script:
        screen.raw(job["script"].encode())
    elif args.json:
        screen.json(answer)
    else:
        look = screen.at(answer)
        screen.lines(job_lines(job, look))
        if look.is_terminal and not look.is_room:
            screen.lines(_trend_if_known(client, args.what, look))
    return 0


def _trend_if_known(client: Client, job: str, look: Look) -> list[str]:
    """Return pictures of a job of late; none where an agent of another version has none to give."""
    try:
        return trend_lines(client.call("trend", job=job, limit=TREND).json(), look)
    except (InputError, NotFoundError, ConflictError):
        return []


def _show_trend(client: Client, args: Namespace, screen: Screen) -> int:
    answer = client.call("trend", job=args.what, limit=TREND)
    if args.json:
        screen.json(answer)
        return 0
    trend = answer.json()
    screen.lines(trend_lines(trend, screen.at(answer)))
    if not trend["marks"]:
        screen.note(f"{clean(args.what)} has no builds yet")
    return 0


def add(args: Namespace, screen: Screen) -> int:
    """Add a job; the same text again is fine, another one only with ``--force``."""
    client = connected(args)
    script = read_given(args.file, screen)
    condition = {} if args.force else {"If-None-Match": "*"}
    try:
        answer = put(client, args.job, script, args.message, condition)
    except ConflictError as error:
        answer = _same(client, args, script, error)
    print_committed(answer, args, screen, "added")
    return 0


def rm(args: Namespace, screen: Screen) -> int:
    """Remove a job."""
    answer = connected(args).call("rm", job=args.job, message=args.message)
    print_committed(answer, args, screen, "removed")
    return 0


def pause(args: Namespace, screen: Screen) -> int:
    """Take no triggers for a job."""
    reason = " ".join(args.reason)
    answer = connected(args).call("pause", job=args.job, reason=reason, misses=args.misses)
    print_committed(answer, args, screen, "paused")
    return 0


def resume(args: Namespace, screen: Screen) -> int:
    """Take triggers for a job again."""
    answer = connected(args).call("resume", job=args.job)
    print_committed(answer, args, screen, "resumed")
    return 0


def put(
    client: Client, job: str, script: bytes, message: str | None, condition: dict[str, str]
) -> Answer:
    """Store a job's script and return the answer. Asking twice does no more than once."""
    method, target, _ = written("put", {"job": job, "message": message})
    headers = {"Content-Type": "text/x-script", **condition}
    return client.send(method, target, body=script, headers=headers, repeat=True)


def job_lines(job: dict[str, Any], look: Look) -> list[str]:
    """Return what a job is, as a paragraph of facts and its parameters."""
    spec, last = job["spec"], job.get("last")
    latest = ""
    if last:
        when = ago(look, last.get("finished_at"))
        latest = " ".join(
            filter(None, (f"#{last['number']}", last["result"] or last["state"], when))
        )
    rows = [
        ("job", paint(look, "bold", clean(job["name"]))),
        ("description", clean(job["description"])),
        ("paused", "" if job["paused"] is None else clean(job["paused"] or "yes")),
        ("last", latest),
        *_spec_facts(spec),
        *_rule_facts(job.get("on") or (), look),
        *(("needs", clean(_need_text(need))) for need in job.get("needs") or ()),
        ("matrix", clean(_matrix_text(job.get("matrix") or {}))),
        ("supersedes", clean(_supersedes(job))),
        ("etag", "" if look.is_room else job["etag"]),
    ]
    return facts(rows, look) + _param_lines(job["params"], look)


def _need_text(need: dict[str, Any]) -> str:
    """Return a need in words: ``web/build passed or failed, with os=linux, for dist/*``."""
    parts = [f"{need['job']} {' or '.join(need.get('results') or ['passed'])}"]
    if need.get("params"):
        parts.append("with " + cell_text(need["params"]))
    if need.get("artifacts"):
        parts.append("for " + " ".join(need["artifacts"]))
    return ", ".join([*parts, *(["optional"] if need.get("optional") else [])])


def _matrix_text(matrix: dict[str, Any]) -> str:
    cells = matrix.get("cells") or ()
    if not cells:
        return ""
    parts = [f"{len(cells)} {'cell' if len(cells) == 1 else 'cells'} of {', '.join(cells[0])}"]
    parts += ["fail_fast"] if matrix.get("fail_fast") else []
    parts += [f"max_parallel {matrix['max_parallel']}"] if matrix.get("max_parallel") else []
    return ", ".join(parts)


def _supersedes(job: dict[str, Any]) -> str:
    policy = job["spec"].get("supersede")
    if not policy:
        return ""
    which = "queued builds" if policy == "queued" else "queued and running builds"
    return which + (f" of one {job['supersede_key']}" if job.get("supersede_key") else "")


def build_lines(build: dict[str, Any], look: Look) -> list[str]:
    """Return what a build is, as a paragraph of facts."""
    from rota.cli.commands.source import source_facts
    from rota.cli.render import asker, result_line
    from rota.cli.usage_view import usage_text

    params = " ".join(f"{name}={value}" for name, value in build["params"].items())
    rows = [
        ("build", result_line(build, look)),
        ("id", "" if look.is_room else clean(build["id"])),
        ("asked for", clean(f"{ago(look, build['requested_at'])} {asker(build)}".strip())),
        ("started", "" if look.is_room else ago(look, build.get("started_at"))),
        ("finished", ago(look, build.get("finished_at"))),
        ("agent", clean(build.get("agent") or "")),
        ("attempt", str(build["attempt"]) if build["attempt"] > 1 else ""),
        ("held by", clean(", ".join(build.get("held") or ()))),
        *_people_facts(build, look),
        ("cell", clean(cell_text(build.get("cell") or {}))),
        ("parameters", clean(params)),
        *(("needs", clean(edge_text(edge))) for edge in build.get("needs") or ()),
        *(
            ("cells", clean(edge_text(edge)))
            for edge in (build.get("group") or {}).get("cells", ())
        ),
        *source_facts(build.get("source")),
        ("log", size(build["log_bytes"]) if build.get("started_at") else ""),
        ("used", "" if look.is_room else usage_text(build)),
        *_report_facts(build, look),
        *((clean(note["level"]), _annotation(note)) for note in build.get("annotations") or ()),
        *(
            ("artifact", f"{clean(it['path'])}, {size(it['size'])}")
            for it in build.get("artifacts") or ()
        ),
    ]
    return facts(rows, look)


def _report_facts(build: dict[str, Any], look: Look) -> list[tuple[str, str]]:
    """Return what its tests came to, the first that failed, and its metrics."""
    from rota.cli.commands.metrics import value_text
    from rota.cli.render import tally_text

    tally = build.get("tests") or {}
    rows = [("tests", tally_text(tally, look) if tally else "")]
    failures = tally.get("failures") or ()
    for failure in failures[:5]:
        place = ":".join(str(it) for it in (failure.get("file"), failure.get("line")) if it)
        message = failure.get("message", "").partition("\n")[0]
        said = ": ".join(part for part in (message, place) if part)
        rows.append(("failed", clean(f"{failure['test']}{f': {said}' if said else ''}")))
    if len(failures) > 5:
        rows.append(("", f"all of them: rota tests {ref(build)!r}"))
    for it in build.get("metrics") or ():
        text = value_text(it["value"], it.get("unit", ""), look)
        rows.append(("metric", clean(f"{it['name']} {text}")))
    return rows


def _people_facts(build: dict[str, Any], look: Look) -> list[tuple[str, str]]:
    """Return what people said, or are asked."""
    rows = []
    said = build.get("approval")
    if said:
        word = "approved by" if said.get("approved", True) else "rejected by"
        why = f": {said['why']}" if said.get("why") else ""
        rows.append((word, clean(f"{said['by']} {ago(look, said['at'])}{why}")))
    for it in build.get("questions") or ():
        answer = it.get("answer")
        text = f"{it['number']} {it['text']}"
        if answer is not None:
            plain = str(answer).lower() if isinstance(answer, bool) else answer
            text += f" {plain} (by {it['by']})" if it.get("by") else f" {plain} (nobody answered)"
        elif it.get("timed_out"):
            text += " (nobody answered)"
        rows.append(("question", clean(text)))
    if build.get("told"):
        rows.append(("told", clean(", ".join(build["told"]))))
    return rows


def _annotation(note: dict[str, Any]) -> str:
    place = ":".join(str(part) for part in (note.get("file"), note.get("line")) if part)
    return clean(": ".join(part for part in (place, note.get("title"), note["message"]) if part))


def _rule_facts(rules: Sequence[dict[str, Any]], look: Look) -> list[tuple[str, str]]:
    found = []
    for rule in rules:
        found.append(("starts on", clean(rule["text"])))
        if rule["fault"]:
            when = ago(look, rule.get("failed_at"))
            found.append(("failed", clean(f"{when}: {rule['fault']}")))
    return found


_AGES = {"logs": "logs_s", "artifacts": "artifacts_s"}


def _spec_facts(spec: dict[str, Any]) -> list[tuple[str, str]]:
    from rota.cli.render import duration
    from rota.cli.usage_view import confinement_text

    def span(name: str) -> str:
        return duration(spec[name]) if spec.get(name) else ""

    env = " ".join(f"{name}={value}" for name, value in (spec.get("env") or {}).items())
    return [
        ("labels", clean(spec.get("labels") or "")),
        ("priority", str(spec.get("priority") or "")),
        ("timeout", span("timeout_s")),
        ("idle timeout", span("idle_timeout_s")),
        ("retries", str((spec.get("retry") or {}).get("times") or "")),
        ("approved by", _approvers(spec.get("approve"))),
        ("finally", clean((spec.get("finaliser") or {}).get("run") or "")),
        ("environment", clean(env)),
        ("secrets", clean(" ".join(map(_secret, spec.get("secrets") or ())))),
        ("input", "rota send" if spec.get("stdin") else ""),
        ("artifacts", clean(" ".join(spec.get("artifacts") or ()))),
        ("tests", clean(" ".join((spec.get("tests") or {}).get("files") or ()))),
        ("coverage", clean(_coverage(spec.get("coverage") or {}))),
        ("keep", _kept(spec.get("keep") or {})),
        ("source", clean(_scm(spec.get("scm") or {}))),
        ("exclusive", "yes" if spec.get("exclusive") else ""),
        ("confined to", confinement_text(spec)),
    ]


def _coverage(coverage: dict[str, Any]) -> str:
    """Return where reports of coverage are, and what is asked: `a.xml, at least 80 %`."""
    asked = [
        f"{words} {coverage[key]:g} {unit}"
        for key, words, unit in (
            ("minimum", "at least", "%"),
            ("drop", "down by at most", "points"),
        )
        if coverage.get(key) is not None
    ]
    return ", ".join([" ".join(coverage.get("files") or ()), *asked])


def _scm(scm: dict[str, Any]) -> str:
    return " ".join(filter(None, (scm.get("git"), scm.get("branch") or scm.get("ref"))))


def _secret(use: dict[str, Any]) -> str:
    """Return a secret as a script has it: ``$NPM_TOKEN``."""
    return f"${use['env']}" + ("?" if use.get("optional") else "")


def _approvers(approve: dict[str, Any] | None) -> str:
    if approve is None:
        return ""
    return clean(" or ".join(approve.get("who") or ("anybody who may run builds",)))


def _kept(keep: dict[str, Any]) -> str:
    """Return how much of a job's builds is kept, such as "logs 30d, 50 builds"."""
    from rota.cli.render import duration

    ages = [f"{name} {duration(keep[key])}" for name, key in _AGES.items() if keep.get(key)]
    builds = [f"{keep['builds']} builds"] if keep.get("builds") else []
    return ", ".join([*ages, *builds, *([size(keep["bytes"])] if keep.get("bytes") else [])])


def _param_lines(params: dict[str, Any], look: Look) -> list[str]:
    if not params:
        return []
    lines = ["", "parameters:"]
    for name, param in params.items():
        default = param.get("default")
        text = f"  {clean(name)}" + (f"={clean(default)}" if default is not None else " (required)")
        if param.get("choices"):
            text += f"  one of {', '.join(map(clean, param['choices']))}"
        if param.get("description"):
            text += f"  {paint(look, 'dim', clean(param['description']))}"
        lines.append(text)
    return lines


def _show_build(
    client: Client, args: Namespace, screen: Screen, missing: NotFoundError | None
) -> int:
    wait_s = args.wait or 0.0
    try:
        answer = client.call("build", build=args.what, wait=args.wait, wait_s=wait_s)
    except (NotFoundError, InputError):
        # What was asked for was more likely a job: its error has the nearest name.
        if missing is None:
            raise
        raise missing from None
    build = answer.json()
    if args.tree:
        answer = client.call("tree", build=build["id"])
        if args.json:
            screen.json(answer)
        else:
            screen.lines(tree_lines(answer.json(), screen.at(answer)))
    elif args.script:
        screen.raw(client.call("job", job=build["job"]).json()["script"].encode())
    elif args.json:
        screen.json(answer)
    else:
        look = screen.at(answer)
        screen.lines(build_lines(build, look))
        found = build.get("steps") or ()
        if build["state"] == "running":
            found = client.call("steps", build=build["id"]).json()
        if found:
            from rota.cli.commands.step import step_lines

            screen.lines(["", "steps:", *(f"  {line}" for line in step_lines(found, look))])
    return 0


def _same(client: Client, args: Namespace, script: bytes, error: ConflictError) -> Answer:
    """Return the answer to storing what is there already; else raise the conflict."""
    try:
        now = client.call("job", job=args.job).json()
    except NotFoundError:
        raise error from None  # not the job is in the way, such as a folder of its name
    if now["script"].encode() != script:
        raise ConflictError(
            f"there is a job {args.job} already, with another script",
            hint=f"replace it: rota edit {args.job} FILE, or add --force",
        ) from error
    return put(client, args.job, script, args.message, {"If-Match": f'"{now["etag"]}"'})


def print_committed(answer: Answer, args: Namespace, screen: Screen, done: str) -> None:
    """Print what became of a definition; ``done`` is the word for a change."""
    if args.json:
        screen.json(answer)
        return
    reply = answer.json()
    changed = reply.get("changed", False)
    name = reply.get("job") or reply.get("name")
    screen.line(f"{name} {done} in {reply['commit'][:10]}" if changed else f"{name} is so already")
