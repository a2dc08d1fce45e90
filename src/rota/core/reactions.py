"""What an event sets off: the rules of all jobs held against it, and the builds that they ask for.

Pure: the same rules, event and picture make the same requests, with the same ids, on every agent. An
id is a hash of the rule and of what it reacts to; so whoever asks for it twice asks for one build.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from rota.core.build import Build, Trigger
from rota.core.definitions import Definitions
from rota.core.events import (
    ArtifactKept,
    BuildsSwept,
    CacheSaved,
    CachesDropped,
    CacheUsed,
    ChatAnswered,
    ChatHeard,
    ChatStanding,
    ChatTold,
    Emitted,
    Event,
    Fact,
    HistorySealed,
    HookCalled,
    NoticesDropped,
    NoticesQueued,
    NoticesSending,
    NoticesSent,
    ScmChanged,
    ScmSeen,
    StatusPosted,
    TriggerFailed,
    Unknown,
    kind_of,
)
from rota.core.ids import derived_id
from rota.core.job import Job
from rota.core.mapping import Fields, params_of
from rota.core.patterns import files_match, groups, matches
from rota.core.repository import repo_key
from rota.core.states import State
from rota.core.triggers import After, Chat, Hook, On, OnEvent, PullRequest, Push, Reaction, rule_id

#: So many builds may set one another off; what goes on longer goes round in a circle.
MAX_DEPTH = 25
#: Longer texts are cut in what a build remembers of its trigger.
MAX_DATA = 200
MAX_FIELDS = 40
#: Rota's own book-keeping: reacting to it would go on for ever.
_DEAF = (
    HistorySealed,
    ScmSeen,
    BuildsSwept,
    CacheSaved,
    CacheUsed,
    CachesDropped,
    ChatHeard,
    ChatAnswered,
    ChatTold,
    ChatStanding,
    StatusPosted,
    NoticesQueued,
    NoticesSending,
    NoticesSent,
    NoticesDropped,
    TriggerFailed,
    Unknown,
)
#: What of the trigger a build passes on to those after it: where its source is, and who is told.
_SOURCE = [
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
    "fork",
    "author",
    "forge",
    "api",
    "project",
]

Find = Callable[[str], Build | None]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A build that a rule asks for; or, with ``fault``, why the rule cannot."""

    id: str
    job: str
    cause: int  # sequence of the event
    trigger: Trigger
    params: dict[str, str] = {}
    priority: int | None = None
    fault: str = ""


class Rule(msgspec.Struct, frozen=True):
    """A rule of a job that is not paused; ``repos`` has what `scm` names."""

    job: str
    id: str
    rule: Reaction
    repos: tuple[str, ...] = ()


class Rules:
    """The reactions of all jobs, by what they react to."""

    def __init__(self, definitions: Definitions) -> None:
        self.after: list[tuple[Rule, After]] = []
        self.event: list[tuple[Rule, OnEvent]] = []
        self.scm: list[tuple[Rule, Push | PullRequest]] = []
        self.hook: dict[str, list[tuple[Rule, Hook]]] = defaultdict(list)
        self.chat: list[tuple[Rule, Chat]] = []
        for name, definition in definitions.jobs.items():
            if definition.paused is not None:
                continue
            for rule in all_rules(definition.job):
                self._add(name, rule, _repos(definition.job))

    def _add(self, job: str, rule: object, repos: tuple[str, ...]) -> None:
        if not isinstance(rule, Reaction):
            return
        entry = Rule(job, rule_id(job, rule), rule, repos)
        match rule:
            case After():
                self.after.append((entry, rule))
            case OnEvent():
                self.event.append((entry, rule))
            case Push() | PullRequest():
                self.scm.append((entry, rule))
            case Hook():
                self.hook[rule.hook].append((entry, rule))
            case Chat():
                self.chat.append((entry, rule))

    def hears(self, hook: str) -> bool:
        """Whether any rule waits for calls of that webhook."""
        return bool(self.hook.get(hook)) or any(
            fnmatchcase("hook.called", rule.type) for _, rule in self.event
        )


def all_rules(job: Job) -> tuple[On, ...]:
    """Return the rules of a job; one that polls and names none waits for pushes of its branch."""
    scm = job.spec.scm
    if scm is None or scm.poll_s is None or not scm.branch or scm_rules_of(job.on):
        return job.on
    return (*job.on, Push(branches=(scm.branch,)))


def scm_rules(job: Job) -> tuple[Push | PullRequest, ...]:
    """Return those of a job's rules that wait for changes of a repository."""
    return scm_rules_of(all_rules(job))


def scm_rules_of(rules: Iterable[On]) -> tuple[Push | PullRequest, ...]:
    """Return those of some rules that wait for changes of a repository."""
    return tuple(rule for rule in rules if isinstance(rule, Push | PullRequest))


def _repos(job: Job) -> tuple[str, ...]:
    return () if job.spec.scm is None else (_key(job.spec.scm.git),)


def react(
    rules: Rules,
    seq: int,
    event: Event,
    *,
    builds: Sequence[Build] = (),
    is_news: bool = True,
    find: Find = lambda _: None,
) -> tuple[Request, ...]:
    """Return what an event sets off, by job and rule.

    Args:
        rules: As they were when the event was written.
        seq: The event's sequence.
        event: What happened.
        builds: What it changed, as they are after it.
        is_news: Of a change of a repository: whether it is one.
        find: Returns a build by its id, for what an event names.
    """
    if isinstance(event, _DEAF):
        return ()
    found: list[Request] = []
    if rules.after and not isinstance(event, ArtifactKept):
        ended = [b for b in builds if b.state is State.FINISHED and b.seq == seq and not b.cell]
        found += (it for build in ended for it in _after(rules, seq, build))
    if rules.event:
        found += _on_event(rules, seq, event, builds, find)
    match event:
        case ScmChanged() if is_news:
            found += _on_scm(rules, seq, event)
        case HookCalled():
            found += _on_hook(rules, seq, event)
        case Emitted(type="chat.said"):
            found += _on_chat(rules, seq, event, find)
        case _:
            pass
    return tuple(sorted(found, key=lambda request: (request.job, request.trigger.source)))


# -- kinds --------------------------------------------------------------------------------------


def _after(rules: Rules, seq: int, build: Build) -> Iterator[Request]:
    at = build.finished_at.isoformat() if build.finished_at is not None else ""
    for entry, rule in rules.after:
        if str(build.result) not in rule.results or not fnmatchcase(build.job, rule.job):
            continue
        data = {key: build.trigger.data[key] for key in _SOURCE if key in build.trigger.data}
        data |= {"build": build.ref, "id": build.id, "job": build.job, "result": str(build.result)}
        fields = {
            **build.trigger.data,
            **data,
            "number": build.number,
            "reason": str(build.reason or ""),
            "message": build.message,
            "agent": build.agent or "",
            "params": build.params,
            "data": build.trigger.data,
            "seq": seq,
        }
        yield _request(
            entry,
            seq,
            "after",
            cause=f"{build.id} {at}",
            fields=fields,
            data=data,
            by=build.ref,
            depth=build.trigger.depth + 1,
        )


def _on_event(
    rules: Rules, seq: int, event: Event, builds: Sequence[Build], find: Find
) -> Iterator[Request]:
    types = _types(event)
    wanted = [it for it in rules.event if any(fnmatchcase(kind, it[1].type) for kind in types)]
    if not wanted:
        return
    build = _build_of(event, builds, find)
    fields = _event_fields(seq, types[0], event, build)
    names = Fields(fields)
    for entry, rule in wanted:
        if _fits(rule.where, names):
            data = {"type": types[0]}
            if build is not None:
                data["build"] = build.ref
            depth = build.trigger.depth + 1 if build is not None else 0
            yield _request(
                entry,
                seq,
                "event",
                cause=_cause(seq, event),
                fields=fields,
                data=data,
                by=event.by,
                depth=depth,
            )


def _on_scm(rules: Rules, seq: int, event: ScmChanged) -> Iterator[Request]:
    if not rules.scm or event.what == "removed":
        return
    data = scm_data(event)
    fields = _event_fields(seq, "scm.changed", event, None) | data
    for entry, rule in rules.scm:
        if _is_moved(rule, event) and _is_of(entry, rule, event) and _touches(rule, event):
            kind = "pull-request" if event.what == "pull" else event.what
            yield _request(
                entry,
                seq,
                kind,
                cause=_cause(seq, event),
                fields=fields,
                data=data,
                by=event.author or event.by,
            )


def _is_moved(rule: Push | PullRequest, event: ScmChanged) -> bool:
    match rule:
        case PullRequest():
            is_open = event.action in ("opened", "changed")
            return event.what == "pull" and is_open and matches(rule.branches, event.base)
        case Push():
            if event.what == "push":
                return bool(event.branch) and matches(rule.branches, event.branch)
            return event.what == "tag" and matches(rule.tags, event.tag)


def _is_of(entry: Rule, rule: Push | PullRequest, event: ScmChanged) -> bool:
    """Whether the event is of the rule's repository: named by it or the job, else any."""
    wanted = (_key(rule.repo),) if rule.repo else entry.repos
    known = (event.repo, *event.also)
    return not wanted or any(fnmatchcase(it, glob) for it in known for glob in wanted)


_key = functools.lru_cache(maxsize=4096)(repo_key)


def _touches(rule: Push | PullRequest, event: ScmChanged) -> bool:
    # What nobody knows may matter: a build too many is better than one that is missed.
    return not rule.files or event.files is None or files_match(rule.files, event.files)


def _on_hook(rules: Rules, seq: int, event: HookCalled) -> Iterator[Request]:
    own: dict[str, object] = {"hook": event.hook, "forge": event.forge, "event": event.event}
    # The caller's own names will do, as long as they are none of ours.
    fields = {**event.data, "seq": seq, "delivery": event.delivery, **own, "data": event.data}
    for entry, rule in rules.hook.get(event.hook, ()):
        if _fits(rule.where, Fields(fields)):
            yield _request(
                entry,
                seq,
                "hook",
                cause=_cause(seq, event),
                fields=fields,
                data={key: str(value) for key, value in own.items() if value},
                by=event.by,
            )


def _on_chat(rules: Rules, seq: int, event: Emitted, find: Find) -> Iterator[Request]:
    said = {key: str(event.data.get(key) or "") for key in ("channel", "who", "text")}
    for entry, rule in rules.chat:
        caught = groups(rule.chat, said["text"].strip())
        if caught is None or not fnmatchcase(said["channel"], rule.channel):
            continue
        build = find(event.build) if event.build else None
        yield _request(
            entry,
            seq,
            "chat",
            cause=_cause(seq, event),
            fields={"seq": seq, "data": event.data, **said, **caught},
            data=said | {key: text for key, text in caught.items() if not key.isdigit()},
            by=said["who"] or event.by,
            depth=build.trigger.depth + 1 if build is not None else 0,
        )


# -- parts --------------------------------------------------------------------------------------


def _request(
    entry: Rule,
    seq: int,
    kind: str,
    *,
    cause: str,
    fields: Mapping[str, object],
    data: Mapping[str, str],
    by: str,
    depth: int = 0,
) -> Request:
    params, fault = params_of(entry.rule.params, Fields({**fields, "rule": entry.id}))
    if depth > MAX_DEPTH:
        fault = (
            f"{MAX_DEPTH} builds have set one another off up to here, the last one is"
            f" {data.get('build') or by}: the rules go round in a circle"
        )
    trigger = Trigger(
        kind=kind, by=by, source=entry.id, cause=seq, data=_bounded(data), depth=depth
    )
    return Request(
        id=derived_id("reaction", entry.id, cause),
        job=entry.job,
        cause=seq,
        trigger=trigger,
        params=params,
        priority=entry.rule.priority,
        fault=fault,
    )


def _cause(seq: int, event: Fact | Unknown) -> str:
    # The time tells it from another one, should a journal that was begun anew count so far again.
    return f"{seq} {event.at.isoformat()}"


def _bounded(data: Mapping[str, str]) -> dict[str, str]:
    return {key: text[:MAX_DATA] for key, text in list(data.items())[:MAX_FIELDS] if text}


def _types(event: Event) -> tuple[str, ...]:
    if isinstance(event, Emitted):
        return (event.type, f"custom.{event.type}")
    return (kind_of(event),)


def _event_fields(seq: int, type_: str, event: Event, build: Build | None) -> dict[str, object]:
    """Return an event as it stands in the journal, and what it leaves out of its build."""
    plain: dict[str, object] = {} if isinstance(event, Unknown) else msgspec.to_builtins(event)
    if build is not None:
        own = {"job": build.job, "number": build.number, "ref": build.ref, "params": build.params}
        plain = {**own, "result": str(build.result or ""), **plain}
    return {**plain, "type": type_, "seq": seq}


def _build_of(event: Event, builds: Iterable[Build], find: Find) -> Build | None:
    named = getattr(event, "build", "")
    if not named:
        return None
    return next((build for build in builds if build.id == named), None) or find(named)


def _fits(where: Mapping[str, str], fields: Fields) -> bool:
    return all(path in fields and fnmatchcase(fields[path], it) for path, it in where.items())


def scm_data(event: ScmChanged) -> dict[str, str]:
    """Return what of a change of a repository a build remembers."""
    return {
        "repo": event.repo,
        "url": event.url,
        "ref": event.ref,
        "branch": event.branch,
        "tag": event.tag,
        "commit": event.new,
        "before": event.old,
        "author": event.author,
        "message": event.message,
        "number": str(event.number or ""),
        "action": event.action,
        "base": event.base,
        "head": event.head,
        "head_url": event.head_url,
        "fork": "true" if event.fork else "",
        "forge": event.forge,
        "api": event.api,
        "project": event.project,
    }
