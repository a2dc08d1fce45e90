"""The table of verbs as plain values: what each is called on the wire, and what its fields mean.

Written by ``python -m rota.cli.mirror`` from :mod:`rota.service.verbs`; change that, not this.
"""

from __future__ import annotations

from typing import NamedTuple


class Route(NamedTuple):
    """A verb's method and path, and its request's fields with their descriptions.

    Of one that ``repeats``, asking twice is asking once.
    """

    method: str
    path: str
    summary: str
    fields: dict[str, str]
    repeats: bool = False


ROUTES: dict[str, Route] = {
    "status": Route(
        "GET",
        "/v1/status",
        "how this agent is",
        {},
    ),
    "agents": Route(
        "GET",
        "/v1/agents",
        "all agents, their labels and slots",
        {},
    ),
    "cluster": Route(
        "GET",
        "/v1/cluster",
        "the cluster as a whole: members, voters, leader, and its certificate authority",
        {},
    ),
    "drain": Route(
        "POST",
        "/v1/agents/{agent}/drain",
        "let an agent finish what runs and take no more builds; or take them again",
        {
            "agent": "the agent's name",
            "off": "take builds again",
        },
        repeats=True,
    ),
    "label": Route(
        "POST",
        "/v1/agents/{agent}/labels",
        "change an agent's labels while it runs",
        {
            "agent": "the agent's name",
            "labels": "label to its value, to an empty one, or to null to take it away",
        },
        repeats=True,
    ),
    "leave": Route(
        "POST",
        "/v1/agents/{agent}/leave",
        "let an agent finish what runs, hand over what it keeps, and leave for good",
        {
            "agent": "the agent's name",
        },
        repeats=True,
    ),
    "forget": Route(
        "DELETE",
        "/v1/agents/{agent}",
        "remove an agent that is gone; its key opens nothing any more",
        {
            "agent": "the agent's name",
        },
    ),
    "doctor": Route(
        "GET",
        "/v1/doctor",
        "look for what is wrong, or will be, on all agents, and say what to do about it",
        {
            "own": "examine the agent that is asked alone",
        },
    ),
    "rotate_key": Route(
        "POST",
        "/v1/agents/{agent}/rotate",
        "give an agent another key; the former one opens nothing any more",
        {
            "agent": "the agent's name",
        },
    ),
    "revoke_agent": Route(
        "POST",
        "/v1/agents/{agent}/revoke",
        "make an agent's key worthless, whether it is up or not: its machine was stolen",
        {
            "agent": "the agent's name",
        },
    ),
    "clouds": Route(
        "GET",
        "/v1/clouds",
        "the clouds that machines are launched in, and these machines",
        {},
    ),
    "pause_cloud": Route(
        "POST",
        "/v1/clouds/{cloud}/pause",
        "let a cloud launch no more machines; or let it launch them again",
        {
            "cloud": "the cloud's name",
            "off": "launch machines again",
        },
        repeats=True,
    ),
    "end_machine": Route(
        "POST",
        "/v1/machines/{machine}/end",
        "end a machine of a cloud, when it has finished what it runs or at once",
        {
            "machine": "the agent's name",
            "now": "end it without waiting for the builds that it runs",
        },
        repeats=True,
    ),
    "invite": Route(
        "POST",
        "/v1/tokens",
        "make a token with which other machines join",
        {
            "expires_s": "seconds for which it opens the door",
            "uses": "how many machines may use it; 0 is any number",
        },
    ),
    "invitations": Route(
        "GET",
        "/v1/tokens",
        "list the join tokens of this agent, without their secrets",
        {},
    ),
    "revoke": Route(
        "DELETE",
        "/v1/tokens/{id}",
        "make a join token of this agent worthless",
        {
            "id": "as the list names it",
        },
    ),
    "login_ways": Route(
        "GET",
        "/v1/login",
        "say how one logs in; open to everybody",
        {},
    ),
    "login": Route(
        "POST",
        "/v1/login",
        "finish a login that a browser began, and get a token; open to everybody",
        {
            "code": "as the provider gave it",
            "verifier": "of PKCE: what the challenge is of",
            "nonce": "that the login began with",
            "redirect": "where the browser was sent: on this machine's loopback",
        },
    ),
    "login_device": Route(
        "POST",
        "/v1/login/device",
        "begin a login that somebody finishes at another machine; open to everybody",
        {},
    ),
    "login_poll": Route(
        "POST",
        "/v1/login/device/token",
        "get a token once a device's login is finished; open to everybody",
        {
            "code": "of the device, as given",
        },
    ),
    "login_renew": Route(
        "POST",
        "/v1/login/renew",
        "another token for a login that ends, if the provider still vouches for who it is",
        {
            "token": "that the login gave last",
            "refresh": "that came with it",
        },
    ),
    "make_token": Route(
        "POST",
        "/v1/access/tokens",
        "make a token for a user; its text is told once",
        {
            "user": "the user's name; @me is who asks",
            "role": "at most this role; all that the user may, if not said",
            "jobs": "globs of the only jobs that it is for; all if empty",
            "expires_s": "seconds for which it holds; 0 is without end",
            "note": "what it is for",
        },
    ),
    "tokens": Route(
        "GET",
        "/v1/access/tokens",
        "list users' tokens without their texts: one's own, or to an admin all",
        {
            "user": "only this user's; @me is who asks",
        },
    ),
    "revoke_token": Route(
        "DELETE",
        "/v1/access/tokens/{id}",
        "make a user's token worthless, at every agent at once",
        {
            "id": "as the list names it; @this is the one shown",
        },
        repeats=True,
    ),
    "recover": Route(
        "POST",
        "/v1/recover",
        "go on with the voters that are left, where a majority is gone for ever",
        {},
    ),
    "reload": Route(
        "POST",
        "/v1/reload",
        "read this agent's agent.toml anew, without a restart",
        {
            "log_level": "log from this level on: debug, info, warning or error; empty: as the file says",
        },
    ),
    "stop": Route(
        "POST",
        "/v1/stop",
        "stop this agent and its engine; running builds go on and are found again",
        {},
    ),
    "jobs": Route(
        "GET",
        "/v1/jobs",
        "list jobs",
        {
            "match": "only jobs whose name matches this glob",
            "recent": "tell how so many of each job's last builds ended",
        },
    ),
    "job": Route(
        "GET",
        "/v1/jobs/{job}",
        "show a job",
        {
            "job": "the job's name, its path under jobs/",
        },
    ),
    "put": Route(
        "PUT",
        "/v1/jobs/{job}",
        "add or change a job, in one commit",
        {
            "job": "the job's name, its path under jobs/",
            "script": "the whole script, header included",
            "message": "the commit's message",
            "if_match": "change only if the definition's ETag is among these; * if there is any",
            "if_none_match": "* to change only if there is none",
        },
    ),
    "rm": Route(
        "DELETE",
        "/v1/jobs/{job}",
        "remove a job, in one commit; its history stays",
        {
            "job": "the job's name, its path under jobs/",
            "message": "the commit's message",
            "if_match": "remove only if the ETag is among these",
        },
    ),
    "pause": Route(
        "POST",
        "/v1/jobs/{job}/pause",
        "take no triggers for a job until it is resumed",
        {
            "job": "the job's name, its path under jobs/",
            "reason": "why, for whoever meets it",
            "misses": "what becomes of its schedules' instants when it is resumed: skip, or run as their misfire policies say",
        },
        repeats=True,
    ),
    "resume": Route(
        "POST",
        "/v1/jobs/{job}/resume",
        "take triggers for a job again",
        {
            "job": "the job's name, its path under jobs/",
        },
        repeats=True,
    ),
    "schedules": Route(
        "GET",
        "/v1/schedules",
        "list what is to fire next",
        {
            "match": "only jobs whose name matches this glob",
            "start": "the first moment to look at; now by default",
            "limit": "at most so many instants",
        },
    ),
    "why_not": Route(
        "GET",
        "/v1/jobs/{job}/why-not",
        "say why a job did not run at a time, or as which build it did",
        {
            "job": "the job's name, its path under jobs/",
            "at": "the moment, such as 2026-12-24T18:00; the schedule's own clock, if it names no zone",
        },
    ),
    "backfill": Route(
        "POST",
        "/v1/jobs/{job}/backfill",
        "make up for the instants of a time that have no build",
        {
            "job": "the job's name, its path under jobs/",
            "start": "its first moment",
            "end": "its last moment",
            "dry_run": "only say what it would come to",
        },
    ),
    "check": Route(
        "POST",
        "/v1/check",
        "check a script's header; changes nothing",
        {
            "job": "the job's name, its path under jobs/",
            "script": "the whole script, header included",
        },
    ),
    "run": Route(
        "POST",
        "/v1/jobs/{job}/builds",
        "request a build of a job",
        {
            "job": "the job's name, its path under jobs/",
            "params": "the job's declared parameters",
            "priority": "-100 to 100, instead of the job's own",
            "key": "idempotency key: the same key gives the same build, and other parameters with it are refused; it is the caller's own, for this job",
            "traceparent": "the trace that it is part of, as W3C Trace Context says; what is none is passed over",
            "only": "this build alone, without what it needs",
            "keep_workspace": "when the workspace is kept to look into: on-failure, always or never, instead of what the header says",
        },
    ),
    "builds": Route(
        "GET",
        "/v1/builds",
        "list builds, newest first",
        {
            "job": "only of this job",
            "state": "only in this state: held, queued, running, finished, or live",
            "result": "only with this result, such as failed",
            "limit": "at most so many",
            "before": "only builds requested before this journal sequence",
        },
    ),
    "build": Route(
        "GET",
        "/v1/builds/{build}",
        "show a build, or wait for it",
        {
            "build": "job#number, a job's name (its latest build), or an id's prefix",
            "wait": "seconds to wait for it to finish before answering",
        },
    ),
    "tree": Route(
        "GET",
        "/v1/builds/{build}/tree",
        "show a build with what it needs, its cells, and what its script asked for",
        {
            "build": "job#number, a job's name (its latest build), or an id's prefix",
            "wait": "seconds to wait for more of them to finish",
            "finished": "with wait: answer once more than so many have",
        },
    ),
    "log": Route(
        "GET",
        "/v1/builds/{build}/log",
        "read a build's log",
        {
            "build": "job#number, a job's name (its latest build), or an id's prefix",
            "attempt": "which attempt; 0 is the last",
            "offset": "start at this byte",
            "limit": "at most so many bytes of the log; 0 is all",
            "tail": "start so many lines before the end; -1 is the start",
            "line": "start at this line, from 1; 0 is the start",
            "grep": "only lines that match this regular expression",
            "follow": "go on until the attempt is over",
        },
    ),
    "grep": Route(
        "GET",
        "/v1/logs",
        "look for a pattern in the logs of many builds, newest first",
        {
            "pattern": "the regular expression to look for",
            "job": "only of jobs whose name matches this glob",
            "result": "only with this result, such as failed",
            "builds": "at most so many builds, the newest",
            "max": "stop after so many matches",
            "after": "only builds requested after this time (RFC 3339), or within so long: 2h",
            "before": "only builds requested before this time (RFC 3339), or so long ago: 2h",
        },
    ),
    "audit": Route(
        "GET",
        "/v1/audit",
        "who did what, when and from where, newest first; beyond what the journal still has",
        {
            "by": "only of this principal",
            "job": "only on builds of jobs that match this glob",
            "what": "only of this kind: run, cancel, commit, token.made",
            "after": "only after this time (RFC 3339), or within so long: 2h",
            "until": "only before this time (RFC 3339), or so long ago: 2h",
            "before": "only before the event with this sequence; 0 is the end",
            "limit": "at most so many, the newest",
        },
    ),
    "audit_head": Route(
        "GET",
        "/v1/audit/head",
        "the end of this agent's history in one line, to keep where no agent can write",
        {},
    ),
    "verify": Route(
        "GET",
        "/v1/audit/verify",
        "whether this agent's journal, history, definitions and logs are what they were",
        {
            "head": "lines of `audit head` that were kept, one after the other",
            "logs": "hash each log that is there anew",
        },
    ),
    "cancel": Route(
        "POST",
        "/v1/builds/{build}/cancel",
        "cancel a build in whatever state it is, and all that was asked for by it or for it",
        {
            "build": "job#number, a job's name (its latest build), or an id's prefix",
            "why": "why, for the record",
            "alone": "this build alone, not what was asked for by it or for it",
        },
    ),
    "retry": Route(
        "POST",
        "/v1/builds/{build}/retry",
        "try a finished build again, with what it needs and what waited for it in vain",
        {
            "build": "job#number, a job's name (its latest build), or an id's prefix",
        },
    ),
    "send": Route(
        "POST",
        "/v1/builds/{build}/input",
        "send text to a running script's standard input",
        {
            "build": "job#number, a job's name (its latest build), or an id's prefix",
            "text": "what to send, as it is",
            "eof": "close the standard input afterwards",
        },
    ),
    "steps": Route(
        "GET",
        "/v1/builds/{build}/steps",
        "list the steps of a build's last attempt, also while it runs",
        {
            "build": "job#number, a job's name (its latest build), or an id's prefix",
        },
    ),
    "approve": Route(
        "POST",
        "/v1/builds/{build}/approve",
        "let a build begin that has to be approved",
        {
            "build": "job#number, a job's name (its latest build), or an id's prefix",
            "why": "why, for the record",
        },
    ),
    "reject": Route(
        "POST",
        "/v1/builds/{build}/reject",
        "end a build that has to be approved",
        {
            "build": "job#number, a job's name (its latest build), or an id's prefix",
            "why": "why, for the record",
        },
    ),
    "ask": Route(
        "POST",
        "/v1/builds/{build}/questions",
        "ask a person, from inside a build",
        {
            "build": "job#number, a job's name (its latest build), or an id's prefix",
            "text": "what to ask",
            "type": "what an answer must be",
            "choices": "only these may be answered",
            "default": "the answer if nobody gives one in time",
            "who": "who may answer: names, and groups as @name",
            "timeout_s": "seconds after which it is over without an answer",
            "key": "the same key asks the same question once",
        },
    ),
    "question": Route(
        "GET",
        "/v1/builds/{build}/questions/{question}",
        "show a question, or wait for its answer",
        {
            "build": "job#number, a job's name (its latest build), or an id's prefix",
            "question": "its number",
            "wait": "seconds to wait for an answer before answering",
        },
    ),
    "answer": Route(
        "POST",
        "/v1/builds/{build}/answer",
        "answer a question that a build asks",
        {
            "build": "job#number, a job's name (its latest build), or an id's prefix",
            "value": "the answer; a text is read as its type",
            "question": "its number; 0 is the only one that is open",
        },
    ),
    "asks": Route(
        "GET",
        "/v1/asks",
        "list what waits for people: builds to approve, questions to answer",
        {},
    ),
    "why": Route(
        "GET",
        "/v1/builds/{build}/why",
        "say what a build waits for, or why it ended",
        {
            "build": "job#number, a job's name (its latest build), or an id's prefix",
            "wait": "seconds to wait for it to finish before answering",
        },
    ),
    "queue": Route(
        "GET",
        "/v1/queue",
        "the queue in the order in which builds would begin, and what they wait for",
        {
            "limit": "at most so many builds",
        },
    ),
    "overview": Route(
        "GET",
        "/v1/overview",
        "show the cluster at one look: agents, what runs, what waits, what failed",
        {
            "match": "only builds of jobs whose name matches this glob",
            "rows": "at most so many agents, builds and failures",
            "sort": "which running builds come first: longest, newest, or by job or agent",
            "after": "with wait: answer once something happened after this sequence",
            "wait": "seconds to wait for that before answering",
        },
    ),
    "trend": Route(
        "GET",
        "/v1/jobs/{job}/trend",
        "say how a job's last builds went, how long they took, since when it fails",
        {
            "job": "the job's name, its path under jobs/",
            "limit": "its last so many builds",
        },
    ),
    "limits": Route(
        "GET",
        "/v1/limits",
        "limits and throttles: how much there is, who has it, who waits",
        {},
    ),
    "tests": Route(
        "GET",
        "/v1/builds/{build}/tests",
        "tests of a build: what failed, what is new, what was slow",
        {
            "build": "job#number, a job's name (its latest build), or an id's prefix",
            "attempt": "of this attempt; of the last one by default",
            "match": "only tests whose name contains this",
            "bad": "only tests that failed or are flaky",
            "limit": "at most so many",
        },
    ),
    "test_history": Route(
        "GET",
        "/v1/jobs/{job}/tests",
        "tests of a job over its last builds: failing, flaky, slow",
        {
            "job": "the job's name, its path under jobs/",
            "case": "only this test: its name, or what only its name contains",
            "builds": "look at so many of the last builds",
            "limit": "at most so many tests of each kind",
        },
    ),
    "metrics": Route(
        "GET",
        "/v1/jobs/{job}/metrics",
        "numbers of a job's builds, such as coverage, over time",
        {
            "job": "the job's name, its path under jobs/",
            "name": "only this one, or those that match this glob",
            "builds": "look at so many of the last builds",
            "branch": "only builds of this branch",
        },
    ),
    "artifacts": Route(
        "GET",
        "/v1/builds/{build}/artifacts",
        "list the files a build left",
        {
            "build": "job#number, a job's name (its latest build), or an id's prefix",
            "wait": "seconds to wait for it to finish before answering",
        },
    ),
    "artifact": Route(
        "GET",
        "/v1/builds/{build}/artifacts/{path}",
        "read a file that a build left",
        {
            "build": "job#number, a job's name (its latest build), or an id's prefix",
            "path": "its path, as the build kept it",
        },
    ),
    "caches": Route(
        "GET",
        "/v1/caches",
        "list caches: this agent's own, and those that all agents share",
        {},
    ),
    "rm_caches": Route(
        "DELETE",
        "/v1/caches",
        "forget caches by their keys",
        {
            "key": "their key, or a glob of keys",
            "scope": "only those of this project",
        },
    ),
    "promotions": Route(
        "GET",
        "/v1/promotions",
        "list what was promoted: files that stay under a name",
        {},
    ),
    "promotion": Route(
        "GET",
        "/v1/promotions/{promotion}",
        "one promotion",
        {
            "promotion": "the name that something was promoted to",
        },
    ),
    "promote": Route(
        "POST",
        "/v1/builds/{build}/promote",
        "give files of a finished build a name, under which they stay as they are",
        {
            "build": "job#number, a job's name (its latest build), or an id's prefix",
            "to": "the name that its files are given",
            "artifacts": "globs of the files; all of the build's by default",
            "why": "why",
            "keep_s": "for how many seconds; null is for ever",
        },
        repeats=True,
    ),
    "demote": Route(
        "DELETE",
        "/v1/promotions/{promotion}",
        "end a promotion; its files go as those of any build do",
        {
            "promotion": "the name that something was promoted to",
            "why": "why",
        },
    ),
    "keep": Route(
        "PUT",
        "/v1/builds/{build}/artifacts/{path}",
        "keep a file as an artifact of a running build; the body is its bytes",
        {
            "build": "job#number, a job's name (its latest build), or an id's prefix",
            "path": "its path, as the build kept it",
        },
    ),
    "workspaces": Route(
        "GET",
        "/v1/workspaces",
        "list the workspaces that agents keep: which, how large, until when",
        {},
    ),
    "shell": Route(
        "GET",
        "/v1/builds/{build}/shell",
        "run a program, or a shell, in a build's workspace: a WebSocket, see docs/workspaces.md",
        {
            "build": "job#number, a job's name (its latest build), or an id's prefix",
            "attempt": "which attempt's; the last by default",
        },
    ),
    "rm_workspace": Route(
        "DELETE",
        "/v1/builds/{build}/workspace",
        "remove what is kept of a build's workspaces",
        {
            "build": "job#number, a job's name (its latest build), or an id's prefix",
        },
    ),
    "du": Route(
        "GET",
        "/v1/du",
        "what lies on the disks, by kind: how large, what bounds it, what would go next",
        {},
    ),
    "backup": Route(
        "GET",
        "/v1/backup",
        "all of the cluster in one archive, keys included: see docs/backup.md",
        {
            "recipient": "encrypt the keys for this age recipient (age1…)",
            "logs": "the logs that are kept",
            "artifacts": "the artifacts that are kept",
        },
    ),
    "events": Route(
        "GET",
        "/v1/events",
        "read the journal, or follow it as server-sent events",
        {
            "after": "only after this journal sequence; 0 is from the start",
            "kind": "only kinds that match this glob, such as build.*; one of your own counts as custom.TYPE too",
            "limit": "at most so many",
            "follow": "go on with new events",
        },
    ),
    "emit": Route(
        "POST",
        "/v1/events",
        "write an event of your own to the journal",
        {
            "type": "dotted, such as deploy.done",
            "data": "any JSON object",
        },
    ),
    "watches": Route(
        "GET",
        "/v1/watches",
        "list watched repositories, and the jobs that were adopted of each",
        {},
    ),
    "watch": Route(
        "PUT",
        "/v1/watches/{watch}",
        "adopt a repository's own jobs for each of its branches, in one commit a change",
        {
            "watch": "the watch's name",
            "git": "the repository's URL",
            "branches": "globs of the branches whose jobs are adopted",
            "pull_requests": "adopt the jobs of open pull requests as well; a webhook tells of them",
            "poll_s": "seconds between looks for pushes",
        },
    ),
    "unwatch": Route(
        "DELETE",
        "/v1/watches/{watch}",
        "watch a repository no longer; its jobs go, what they ran stays",
        {
            "watch": "the watch's name",
        },
    ),
    "hooks": Route(
        "GET",
        "/v1/hooks",
        "list webhooks, without their secrets",
        {},
    ),
    "hook": Route(
        "GET",
        "/v1/hooks/{hook}",
        "show a webhook, its secret included",
        {
            "hook": "the webhook's name",
        },
    ),
    "put_hook": Route(
        "PUT",
        "/v1/hooks/{hook}",
        "add a webhook, or change it, in one commit",
        {
            "hook": "the webhook's name",
            "repo": "take changes of this repository alone; empty: of any",
            "rotate": "make a new secret; the old one opens nothing any more",
        },
    ),
    "rm_hook": Route(
        "DELETE",
        "/v1/hooks/{hook}",
        "remove a webhook, in one commit: nobody can call it any more",
        {
            "hook": "the webhook's name",
        },
    ),
    "secrets": Route(
        "GET",
        "/v1/secrets",
        "list secrets: whom they are given to, and which jobs ask for them; no values",
        {},
    ),
    "put_secret": Route(
        "PUT",
        "/v1/secrets/{secret}",
        "set a secret's value or rules, in one commit that has the value encrypted",
        {
            "secret": "the secret's name",
            "value": "its value, in base64; nobody is ever shown it",
            "jobs": "globs of the jobs that get it; empty is all",
            "branches": "globs of the branches whose builds get it; empty is all",
            "description": "what it is for",
        },
    ),
    "rm_secret": Route(
        "DELETE",
        "/v1/secrets/{secret}",
        "remove a secret, in one commit",
        {
            "secret": "the secret's name",
            "force": "also if jobs ask for it",
        },
    ),
    "rotate_secrets": Route(
        "POST",
        "/v1/secrets/rotate",
        "encrypt all secrets for a new key, so that who was removed reads none that is set from now on",
        {
            "drop_lost": "remove secrets that no member can read any more",
        },
    ),
    "check_secrets": Route(
        "GET",
        "/v1/jobs/{job}/secrets",
        "say which secrets a job would be given, and why not",
        {
            "job": "the job's name, its path under jobs/",
            "branch": "for a build of this branch",
        },
    ),
    "chat": Route(
        "GET",
        "/v1/chat",
        "the chat networks, whether the bot is on them, and who is known there",
        {},
    ),
    "users": Route(
        "GET",
        "/v1/users",
        "list users: what each may, and by what commits and chat networks know them",
        {},
    ),
    "user": Route(
        "GET",
        "/v1/users/{user}",
        "show a user, and what that user is told of builds",
        {
            "user": "the user's name; @me is who asks",
        },
    ),
    "put_user": Route(
        "PUT",
        "/v1/users/{user}",
        "make a user, or change one, in one commit; a role is given by an admin alone",
        {
            "user": "the user's name; @me is who asks",
            "role": "what the user may; builder, if nothing is said",
            "emails": "e-mail addresses, those of commits too; mail goes to the first",
            "timezone": "where quiet hours are, such as Europe/Berlin; empty is UTC",
        },
    ),
    "rm_user": Route(
        "DELETE",
        "/v1/users/{user}",
        "remove a user, in one commit; nobody is known as that any more",
        {
            "user": "the user's name; @me is who asks",
        },
    ),
    "link_code": Route(
        "POST",
        "/v1/users/{user}/codes",
        "make a code, to be said on a chat network, that makes whoever says it this user there",
        {
            "user": "the user's name; @me is who asks",
            "network": "the only network where it holds; any, if empty",
        },
    ),
    "unlink": Route(
        "DELETE",
        "/v1/users/{user}/links",
        "make identities on a chat network a user's no more",
        {
            "user": "the user's name; @me is who asks",
            "network": "the network",
            "who": "the identity there; all, if empty",
        },
    ),
    "add_notify": Route(
        "POST",
        "/v1/users/{user}/notify",
        "have a user told of something more",
        {
            "user": "the user's name; @me is who asks",
            "to": "where: a network, mail, irc:#web, an outlet",
            "on": "first-failure, failed, fixed, passed, always, asked; the usual if empty",
            "jobs": "globs of the jobs; all if empty",
            "whose": "mine: with commits of mine, or asked for by me",
        },
        repeats=True,
    ),
    "rm_notify": Route(
        "DELETE",
        "/v1/users/{user}/notify/{number}",
        "have a user told of something no more",
        {
            "user": "the user's name; @me is who asks",
            "number": "which of them, from 1; 0 is all",
            "usual": "all of them, and then what is usual holds again",
        },
    ),
    "quiet": Route(
        "PUT",
        "/v1/users/{user}/quiet",
        "say when a user is told nothing directly",
        {
            "user": "the user's name; @me is who asks",
            "hours": "such as 22:00-07:00; no hours if empty",
            "days": "whole days of the week, such as sat, sun",
        },
    ),
    "notices": Route(
        "GET",
        "/v1/notices",
        "list notices that are owed to people and rooms, and those that were dropped",
        {
            "all": "those too that were sent",
            "target": "only of this target, such as irc:#web",
            "build": "only of this build: job#number",
            "limit": "at most so many, the last ones",
        },
    ),
    "try_target": Route(
        "POST",
        "/v1/notices",
        "have a target told that this is a test",
        {
            "target": "irc:#web, irc:@ann, mail:ann@example.org or an outlet; matrix is the user there",
            "user": "the user's name; @me is who asks",
            "wait": "seconds to wait until it is said, or refused",
        },
    ),
}
